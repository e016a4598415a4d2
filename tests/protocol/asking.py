"""Short ways to make requests, and bad ones."""

from typing import Any

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import CreateResponse, parse_request

Json = dict[str, Any]


def ask(**fields: Any) -> CreateResponse:
    """A request with these fields."""
    return parse_request(orjson.dumps({"model": "m", "input": "hi", **fields}))


def refuse(body: Any) -> InvalidRequestError:
    """The error that the body causes."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(orjson.dumps(body))
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    return caught.value


def refused(**fields: Any) -> InvalidRequestError:
    """The error that a request with these fields causes."""
    return refuse({"model": "m", "input": "hi", **fields})


def user(*parts: Json) -> list[Json]:
    """A message of the user."""
    return [{"type": "message", "role": "user", "content": list(parts)}]
