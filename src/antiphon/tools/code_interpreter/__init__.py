"""The hosted tool `code_interpreter`."""
