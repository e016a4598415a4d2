"""Floor 2: making a response."""
