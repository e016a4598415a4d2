"""The Response echoes what was asked for, with its defaults filled in (spec §3.2, App. A)."""

from typing import Any

import pytest

from antiphon.protocol.request import CreateResponse
from antiphon.protocol.response import new_response

SCHEMA: dict[str, Any] = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("asked", "echoed"),
    [
        ({"image": {"context_compression": "auto"}}, {"image": {"context_compression": "auto"}}),
        (
            {"tools": [{"type": "tool_search"}]},
            {"tools": [{"type": "tool_search", "description": None, "parameters": None}]},
        ),
        (
            {"text": {"format": SCHEMA}},
            {
                "text": {
                    "format": {**SCHEMA, "description": None, "strict": False},
                    "verbosity": "medium",
                }
            },
        ),
        (
            {"text": {"format": {**SCHEMA, "strict": True, "description": "d"}}},
            {
                "text": {
                    "format": {**SCHEMA, "strict": True, "description": "d"},
                    "verbosity": "medium",
                }
            },
        ),
    ],
)
def test_what_is_echoed(asked: dict[str, Any], echoed: dict[str, Any]) -> None:
    request = CreateResponse(model="m", input="hi", **asked)
    response = new_response(request, id="resp_1", created_at=0, status="in_progress")
    assert {key: response[key] for key in echoed} == echoed
