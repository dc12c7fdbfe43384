"""Decoders: turn an encoder's maps into maps at image resolution. Built as ``Decoder(spatial_dims=, encoder=)``."""
