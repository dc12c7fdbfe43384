"""One file a verb: the composed configuration becomes plain values, one library call, print. Nothing imports these."""
