"""Finding chunks of text."""
