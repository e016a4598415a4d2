"""The hosted tool `file_search`: passages of files in vector stores (decision 0008)."""
