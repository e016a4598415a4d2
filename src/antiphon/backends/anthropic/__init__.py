"""Claude, and whatever else speaks Anthropic's Messages API, as a backend."""

from typing import Final

#: Where its server is, unless the configuration says so.
BASE_URL: Final = "https://api.anthropic.com/v1"
