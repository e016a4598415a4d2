"""How a chat model reads images that were made here, beyond the table of `test_items.py`."""

from typing import Any

import pytest

from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Call, Item, Seen

Json = dict[str, Any]
CALL: Json = {"type": "image_generation_call", "id": "ig_1"}


def read(item: Item) -> tuple[Call, Any]:
    item_type = ITEM_TYPES["image_generation_call"]
    assert item_type.as_call is not None
    assert item_type.as_result is not None
    return item_type.as_call(item), item_type.as_result(item).output


@pytest.mark.parametrize("format_", ["png", "webp", "jpeg", "gif", None])
def test_an_image_in_words_and_as_it_is(format_: str | None) -> None:
    item = {**CALL, "result": "QQ==", "output_format": format_, "size": "2x3"}
    _, (text, image) = read(item)
    kind = format_ or "png"
    assert text == {"type": "input_text", "text": f"The image was made (2x3, {kind})."}
    assert image["image_url"] == f"data:image/{kind};base64,QQ=="


def test_a_drawing_in_words_only() -> None:
    _, output = read({**CALL, "result": "QQ==", "output_format": "svg"})
    assert output == [{"type": "input_text", "text": "The image was made (svg)."}]


def test_what_the_tool_told_comes_first() -> None:
    _, (text, _image) = read(Seen({**CALL, "result": "QQ=="}, 0, "Here it is."))
    assert text["text"] == "Here it is."
    _, output = read(Seen({**CALL, "status": "failed"}, 0, "No image was made."))
    assert output == "No image was made."


@pytest.mark.parametrize(
    ("more", "output"),
    [
        ({"error": {"type": "x", "message": "No."}, "status": "failed"}, "No."),
        ({"error": {"type": "x"}, "status": "failed"}, "failed"),
        ({"status": "failed", "result": None}, "failed"),
        ({"status": None}, "completed"),
    ],
)
def test_an_image_that_is_not_there(more: Json, output: str) -> None:
    assert read({**CALL, **more})[1] == output


@pytest.mark.parametrize(
    ("prompt", "arguments"), [("An otter", '{"prompt":"An otter"}'), (None, '{"prompt":""}')]
)
def test_the_prompt_is_what_was_called_with(prompt: str | None, arguments: str) -> None:
    assert read({**CALL, "revised_prompt": prompt})[0] == Call(
        "ig_1", "image_generation", arguments
    )
