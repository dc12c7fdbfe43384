"""Encoders: an image to feature maps of falling resolution, finest first."""
