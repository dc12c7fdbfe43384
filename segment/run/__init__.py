"""One file a verb; the only floor that sees Hydra and OmegaConf."""
