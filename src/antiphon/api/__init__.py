"""Floor 3: HTTP."""
