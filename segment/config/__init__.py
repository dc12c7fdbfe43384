"""Everything of Hydra and OmegaConf: compose, check, build, sweep. Configuration ends here."""
