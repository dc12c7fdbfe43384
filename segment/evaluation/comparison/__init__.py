"""Finished runs compared scan by scan."""
