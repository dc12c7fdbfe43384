"""Encoders: turn an image into feature maps of decreasing resolution, finest first."""
