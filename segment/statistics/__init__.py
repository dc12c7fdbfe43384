"""Intervals, paired tests and variances. Arrays in, numbers out."""
