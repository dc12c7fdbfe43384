"""One LightningModule for each way of learning."""
