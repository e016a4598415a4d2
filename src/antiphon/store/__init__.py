"""Floor 1: what is remembered."""
