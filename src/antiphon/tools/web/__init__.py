"""The hosted tool ``web_search``: searching the web, and reading pages under guard."""
