"""Callbacks that measure, log and draw a training."""
