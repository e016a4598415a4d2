"""How tests of prompt templates talk: a request with a prompt, a template, what comes of both."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import CreateResponse, parse_request
from antiphon.protocol.templates import Applied, apply_template, parse_template

Json: TypeAlias = dict[str, Any]
ID: Final = "pmpt_" + "0" * 48


def user(*content: Json | str) -> Json:
    """A message of the user; a string is a text part."""
    parts = [{"type": "input_text", "text": c} if isinstance(c, str) else c for c in content]
    return {"type": "message", "role": "user", "content": parts}


def ask(given: Json | None = None, **body: Any) -> CreateResponse:
    """A request with a prompt and these variables."""
    return parse_request(orjson.dumps({"prompt": {"id": ID, "variables": given}, **body}))


def applied(template: Json, given: Json | None = None, version: int = 3, **body: Any) -> Applied:
    """This template, put into a request with these variables."""
    return apply_template(ask(given, **body), parse_template({"model": "m", **template}), version)


def refusal(call: Callable[[], object]) -> InvalidRequestError:
    """The error that `call` raises."""
    with pytest.raises(InvalidRequestError) as caught:
        call()
    return caught.value
