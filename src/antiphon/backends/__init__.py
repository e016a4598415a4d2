"""Floor 1: talking to models."""
