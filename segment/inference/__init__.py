"""Prediction of whole scans on their source grid, and the model folder."""
