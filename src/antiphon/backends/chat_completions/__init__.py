"""Any OpenAI-compatible chat-completions server as a backend."""
