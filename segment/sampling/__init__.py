"""Which patch of which scan at which step, and the data module that Lightning asks."""
