"""Checks of a data set: every scan is read and every problem reported."""
