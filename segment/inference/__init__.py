"""Whole scans from windows, test-time augmentation, back onto the source grid; the model folder."""
