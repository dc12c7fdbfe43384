"""Augmentation of whole batches: parameters are drawn first, one row per sample, then applied."""
