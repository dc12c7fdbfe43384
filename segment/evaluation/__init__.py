"""Scoring of masks against references, and comparison of runs."""
