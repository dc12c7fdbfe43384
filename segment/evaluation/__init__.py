"""Masks against references, and runs against each other."""
