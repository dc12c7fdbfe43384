"""Scores of predicted masks against reference masks: arrays in, numbers out."""
