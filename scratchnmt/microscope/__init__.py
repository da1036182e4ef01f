"""Look into one training step of a model: every number of it, where it came from and where its gradient goes."""
