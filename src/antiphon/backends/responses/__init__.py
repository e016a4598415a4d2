"""Any server that speaks the Responses API itself as a backend."""
