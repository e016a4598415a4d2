"""Claude, and whatever else speaks Anthropic's Messages API, as a backend."""
