"""A model behind HTTP: jobs and their workers, the protocols that clients speak, and a log of what was seen."""
