"""Floor 1: hosted tools."""
