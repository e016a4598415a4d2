"""Providers that the library any-llm knows: Bedrock, Vertex AI, Cohere, Mistral and others."""
