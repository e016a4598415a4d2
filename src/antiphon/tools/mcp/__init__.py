"""The hosted tool `mcp`: tools of MCP servers, listed and called for the model (spec §1.2)."""
