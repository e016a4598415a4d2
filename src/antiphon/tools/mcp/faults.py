"""Why an MCP server could not be used, in words that may be shown.

    Fault
    ├── Unreached     nobody answered, for whatever reason (reliability R-94)
    ├── Lost          the connection broke while something was asked
    │   └── SessionLost   the server does not know the session any more: nothing was run
    ├── NotMcp        what answered does not speak MCP
    ├── TooLarge      it answered with more than is read
    ├── TooMuch       it has more tools than a model is shown
    ├── BadStatus     it answered with an HTTP status that is none of success
    └── Refusal       it answered with a JSON-RPC error

Rules
1. Nothing that the other side sent is in a text, but for the message of a `Refusal`: it may repeat
   a secret. Nor is a URL (R-91).
2. Faults are raised outside of `except` blocks: a log follows `__context__`, and what libraries
   raise has URLs in it.
"""

from http import HTTPStatus


class Fault(Exception):
    """The server could not be used."""

    def __init__(self, text: str | None = None) -> None:
        #: One sentence.
        self.text = text or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.text)


class Unreached(Fault):
    """The server could not be reached."""

    def __init__(self, why: str = "") -> None:
        """`why` is for the log."""
        super().__init__()
        self.why = why


class Lost(Fault):
    """The connection to the server was lost."""


class SessionLost(Lost):
    """The server has ended the session."""


class NotMcp(Fault):
    """The server did not answer as an MCP server does."""


class TooLarge(Fault):
    """The answer of the server is too large."""


class TooMuch(Fault):
    """The server has too many tools, or describes them at too great a length: choose some with 'allowed_tools'."""  # noqa: E501


class BadStatus(Fault):
    """The server answered with an HTTP error."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"Http status code: {status} ({phrase(status)})")


class Refusal(Fault):
    """The server answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        """`message` is the server's own text."""
        self.code = code
        self.message = message
        super().__init__(f"The server answered with an error (code {code}).")


def phrase(status: int) -> str:
    """What an HTTP status is called."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
