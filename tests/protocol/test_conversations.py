"""The bodies of the Conversations API, and how items are shown (spec §2.2, App. C, F, G)."""

from typing import Any, Final

import orjson
import pytest
from openai.types.conversations import ConversationItem
from pydantic import BaseModel, TypeAdapter

from antiphon.errors import InvalidRequestError
from antiphon.protocol.bodies import parse_body
from antiphon.protocol.conversations import ChangedConversation, NewConversation, NewItems, shown
from antiphon.protocol.request import parse_request
from tests.protocol.test_items import RECORDED

Json = dict[str, Any]
OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ConversationItem)
HI: Final[Json] = {"role": "user", "content": "Hi"}


def items_of(*items: Json, form: Any = NewItems) -> list[Json]:
    parsed: list[Json] = parse_body(orjson.dumps({"items": items}), form).items
    return parsed


def refusal(body: Any, form: type[BaseModel]) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse_body(orjson.dumps(body), form)
    return caught.value


@pytest.mark.parametrize("form", [NewConversation, NewItems])
def test_items_come_in_their_long_form(form: Any) -> None:
    sent: list[Json] = [
        {"role": "user", "content": "Hi", "status": None},
        {"role": "developer", "content": "Be kind."},
        {"role": "assistant", "content": "Hello"},
        {"id": "msg_1"},
    ]
    assert items_of(*sent, form=form) == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "Be kind."}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        },
        {"type": "item_reference", "id": "msg_1"},
    ]


def test_what_may_be_left_out() -> None:
    for body in ({}, {"metadata": None, "items": None}):
        made = parse_body(orjson.dumps(body), NewConversation)
        assert (made.metadata, made.items) == (None, None)
    assert items_of() == []
    assert items_of(form=NewConversation) == []
    assert parse_body(b'{"metadata":null}', ChangedConversation).metadata is None


LONG: Final = "Expected an array with maximum length 20, but got an array with length 21 instead."
#: Form, body; message, param, code.
REFUSED: Final[list[tuple[type[BaseModel], Any, str, str | None, str]]] = [
    (
        NewItems,
        {},
        "Missing required parameter: 'items'.",
        "items",
        "missing_required_parameter",
    ),
    (
        ChangedConversation,
        {},
        "Missing required parameter: 'metadata'.",
        "metadata",
        "missing_required_parameter",
    ),
    (
        NewItems,
        {"items": "Hi"},
        "Invalid type for 'items': expected an array of objects, but got a string instead.",
        "items",
        "invalid_type",
    ),
    (
        NewItems,
        {"items": None},
        "Invalid type for 'items': expected an array of objects, but got null instead.",
        "items",
        "invalid_type",
    ),
    (
        NewItems,
        {"items": [HI] * 21},
        f"Invalid 'items': array too long. {LONG}",
        "items",
        "array_above_max_length",
    ),
    (
        NewConversation,
        {"items": [HI] * 21},
        f"Invalid 'items': array too long. {LONG}",
        "items",
        "array_above_max_length",
    ),
    (
        NewConversation,
        {"items": [], "colour": "red"},
        "Unknown parameter: 'colour'.",
        "colour",
        "unknown_parameter",
    ),
    (
        NewItems,
        {"items": [], "metadata": {}},
        "Unknown parameter: 'metadata'.",
        "metadata",
        "unknown_parameter",
    ),
    (
        NewConversation,
        {"metadata": {"k": 1}},
        "Invalid type for 'metadata.k': expected a string, but got an integer instead.",
        "metadata.k",
        "invalid_type",
    ),
    (
        ChangedConversation,
        {"metadata": {str(n): "" for n in range(17)}},
        (
            "Invalid 'metadata': too many properties. Expected an object with at most 16 "
            "properties, but got an object with 17 properties instead."
        ),
        "metadata",
        "object_above_max_properties",
    ),
    (
        ChangedConversation,
        {"metadata": {"k": "x" * 513}},
        (
            "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, "
            "but got a string with length 513 instead."
        ),
        "metadata.k",
        "string_above_max_length",
    ),
    (
        NewConversation,
        [],
        "Invalid type: expected an object, but got an array instead.",
        None,
        "invalid_type",
    ),
]


@pytest.mark.parametrize(("form", "body", "message", "param", "code"), REFUSED)
def test_what_is_wrong_is_named(
    form: type[BaseModel], body: Any, message: str, param: str | None, code: str
) -> None:
    error = refusal(body, form)
    assert (error.message, error.param, error.code) == (message, param, code)


BAD_ITEMS: Final[list[Json]] = [
    {"type": "bogus"},
    {"role": "robot", "content": "Hi"},
    {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text"}]},
    {"role": "user", "content": [{"type": "input_image"}]},
    {"type": "function_call_output", "call_id": "", "output": "x"},
    {"content": "Hi"},
]


@pytest.mark.parametrize("bad", BAD_ITEMS, ids=str)
def test_errors_of_items_are_those_of_a_request(bad: Json) -> None:
    """The same texts, with `items` for `input`; `compaction_trigger` is no item to keep."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_request(orjson.dumps({"model": "m", "input": [HI, bad]}))
    wanted = caught.value
    assert wanted.param is not None
    for form in (NewConversation, NewItems):
        error = refusal({"items": [HI, bad]}, form)
        assert error.code == wanted.code
        assert error.param == wanted.param.replace("input[", "items[", 1)
        same = wanted.message.replace("'input[", "'items[").replace(" 'compaction_trigger',", "")
        assert error.message == same


def test_a_compaction_trigger_is_no_item_to_keep() -> None:
    error = refusal({"items": [HI, {"type": "compaction_trigger"}]}, NewItems)
    assert (error.param, error.code) == ("items[1].type", "invalid_value")
    assert error.message.startswith("Invalid value: 'compaction_trigger'. Supported values are: ")


def test_a_crowd_of_unknown_keys_is_refused_at_once() -> None:
    """R-09: nobody describes 100,000 errors."""
    error = refusal({f"k{n}": n for n in range(100_000)}, NewConversation)
    assert (error.param, error.code) == ("k0", "unknown_parameter")


@pytest.mark.parametrize("item", RECORDED, ids=lambda item: item["type"])
def test_what_is_shown_is_an_item_for_the_sdk(item: Json) -> None:
    """App. C: with and without the status that OpenAI had sent."""
    OFFICIAL.validate_python(shown(items_of(item)[0]))
    if item["type"] in ("apply_patch_call_output", "local_shell_call_output"):
        return
    bare = {key: value for key, value in item.items() if key != "status"}
    OFFICIAL.validate_python(shown(items_of(bare)[0]))


def test_only_what_has_a_status_is_shown_with_one() -> None:
    assert shown({"type": "message", "role": "user"})["status"] == "completed"
    assert shown({"type": "function_call", "status": "incomplete"})["status"] == "incomplete"
    for type_ in ("reasoning", "compaction", "mcp_list_tools", "mcp_approval_response"):
        assert "status" not in shown({"type": type_})
