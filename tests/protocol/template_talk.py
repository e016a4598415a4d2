"""How tests of prompt templates talk: a request with a prompt, a template, what comes of both."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import orjson
import pytest

from antiphon.errors import InvalidRequestError
from antiphon.protocol.bodies import parse_body
from antiphon.protocol.prompts import NewPrompt
from antiphon.protocol.request import CreateResponse, parse_request
from antiphon.protocol.templates import Applied, Template, apply_template, check_steps

Json: TypeAlias = dict[str, Any]
ID: Final = "pmpt_" + "0" * 48


def user(*content: Json | str) -> Json:
    """A message of the user; a string is a text part."""
    parts = [{"type": "input_text", "text": c} if isinstance(c, str) else c for c in content]
    return {"type": "message", "role": "user", "content": parts}


def ask(given: Json | None = None, **body: Any) -> CreateResponse:
    """A request with a prompt and these variables."""
    return parse_request(orjson.dumps({"prompt": {"id": ID, "variables": given}, **body}))


def stored_template(template: Any) -> Template:
    """The template as the Prompts API stores it. Raises `InvalidRequestError`."""
    stored = parse_body(orjson.dumps({"template": template}), NewPrompt).template
    for _ in check_steps(stored):
        pass
    return stored


def applied(template: Json, given: Json | None = None, version: int = 3, **body: Any) -> Applied:
    """This template, put into a request with these variables."""
    return apply_template(ask(given, **body), stored_template({"model": "m", **template}), version)


def refusal(call: Callable[[], object]) -> InvalidRequestError:
    """The error that `call` raises."""
    with pytest.raises(InvalidRequestError) as caught:
        call()
    return caught.value
