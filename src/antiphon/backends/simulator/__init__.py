"""The built-in model, in process and deterministic."""
