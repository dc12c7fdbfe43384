"""Augmentation as whole-batch operations: parameters are sampled first, one row a sample, then applied."""
