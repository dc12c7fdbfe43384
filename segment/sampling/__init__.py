"""Patch sampling, and the data module for Lightning."""
