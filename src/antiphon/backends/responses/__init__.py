"""Any server that speaks the Responses API itself as a backend."""

from typing import Final

#: Where its server is, unless the configuration says so.
BASE_URL: Final = "https://api.openai.com/v1"
