"""The steps of an experiment: open, check, plan, prepare, train, score, cross-validate."""
