"""Comparison of finished runs, scan by scan."""
