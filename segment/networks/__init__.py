"""Networks: any ``nn.Module`` built as ``Network(spatial_dims=, in_channels=, out_channels=, ...)`` fits."""
