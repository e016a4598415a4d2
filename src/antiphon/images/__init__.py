"""Servers that make images, and what is done to what they make (issue 7)."""
