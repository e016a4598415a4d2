"""Google's Gemini API as a backend."""

from typing import Final

#: Where its server is, unless the configuration says so.
BASE_URL: Final = "https://generativelanguage.googleapis.com/v1beta"
