"""The LightningModule, its callbacks and its checkpoints."""
