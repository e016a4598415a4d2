"""Hosted tools: what the server runs itself when a model asks for it."""
