"""Networks: any ``nn.Module`` that is built as ``Network(spatial_dims=, in_channels=, out_channels=, ...)``."""
