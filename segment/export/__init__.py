"""Export of a model to other engines; every export is checked against the network it came from."""
