"""Confidence intervals, paired tests and variance components of arrays of scores."""
