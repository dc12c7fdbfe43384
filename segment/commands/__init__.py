"""One module per verb: converts the composed configuration to plain values, calls the library, prints the result.

No other module imports these.
"""
