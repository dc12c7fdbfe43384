"""Models that nnU-Net 2 trained, read from its results folder as plain data."""
