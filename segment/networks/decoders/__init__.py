"""Decoders: from an encoder's maps to maps at the image's resolution. Built as ``Decoder(spatial_dims=, encoder=)``."""
