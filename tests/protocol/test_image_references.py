"""What stands for an image inside the server (decision 0010)."""

from typing import Any, Final

import orjson
import pytest

from antiphon.protocol.image_references import (
    MARK,
    Loaded,
    blob_named,
    blob_of,
    parted,
    reference_to,
)
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.image_generation import unloaded
from tests.protocol.asking import ask, refuse

NAME: Final = "0f" * 16
REFERENCE: Final = f"antiphon-image:{NAME}"


def drawn(result: str | None = REFERENCE, **more: Any) -> Item:
    """A finished item, its keys in the order in which they are said."""
    item = {"id": "ig_1", "type": "image_generation_call", "status": "completed"}
    item |= {"action": "generate", "background": "auto", "output_format": "png"}
    return {**item, "quality": "low", "result": result, "revised_prompt": "x", **more}


def test_a_reference_names_a_blob() -> None:
    blob = blob_named(NAME)
    assert blob == f"iblob_{NAME}"
    assert reference_to(blob) == REFERENCE
    assert blob_of(REFERENCE) == blob


@pytest.mark.parametrize(
    "text", [None, 1, "", "QUJD", REFERENCE[:-1], REFERENCE + "0", REFERENCE + "\n", NAME]
)
def test_what_is_none(text: object) -> None:
    assert blob_of(text) is None


def test_bodies_are_parted_at_references() -> None:
    other = "antiphon-image:" + "ab" * 16
    body = orjson.dumps({"output": [drawn(), drawn("QUJD"), drawn(None), drawn(other)]})
    texts, blobs = parted(body)
    assert blobs == [blob_named(NAME), blob_named("ab" * 16)]
    first, second, third = texts
    assert first.endswith(b'"result":')
    assert second.startswith(b',"revised_prompt"')
    assert second.endswith(b'"result":')
    filled = orjson.loads(first + b'"QQ=="' + second + b"null" + third)
    assert [item["result"] for item in filled["output"]] == ["QQ==", "QUJD", None, None]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": REFERENCE},
        {"text": orjson.dumps(drawn()).decode()},
        {"metadata": {"result": REFERENCE, REFERENCE: "result"}},
        {"metadata": {"revised_prompt": "x", "result": REFERENCE}},
        {"output": [drawn(REFERENCE.upper()), drawn(REFERENCE[:-1])]},
    ],
)
def test_what_clients_write_is_no_reference(body: Any) -> None:
    encoded = orjson.dumps(body)
    assert parted(encoded) == ([encoded], [])


def test_a_loaded_one_is_the_same_in_json() -> None:
    loaded = Loaded(REFERENCE, {"type": "input_text", "text": "seen"}, held := object())
    encoded = orjson.dumps({"result": loaded})
    assert encoded == orjson.dumps({"result": REFERENCE})
    assert MARK in encoded
    assert (loaded.seen["text"], loaded.held) == ("seen", held)


def test_a_model_reads_what_was_loaded() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,QQ==", "detail": "auto"}
    as_result = ITEM_TYPES["image_generation_call"].as_result
    assert as_result is not None
    told = {"type": "input_text", "text": "The image was made (png)."}
    assert as_result(drawn(Loaded(REFERENCE, image))).output == [told, image]
    assert as_result(drawn()).output == [told], "it is told that there is one"


def test_what_is_to_be_loaded() -> None:
    assert unloaded(drawn()) == REFERENCE
    for item in (
        drawn("QUJD"),
        drawn(None),
        drawn(Loaded(REFERENCE, {})),
        drawn(output_format="svg"),
        {"type": "message", "result": REFERENCE},
    ):
        assert unloaded(item) is None


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "DATA:;base64,"])
def test_a_data_url_is_kept_as_its_base64(head: str) -> None:
    """And no reference comes in with it."""
    item = {"type": "image_generation_call", "id": "ig_1", "result": head + "QUJD"}
    assert ask(input=[item]).input == [{**item, "result": "QUJD"}]
    error = refuse({"model": "m", "input": [{**item, "result": head + REFERENCE}]})
    assert error.param == "input[0].result"


@pytest.mark.parametrize("text", ["data:,x", "data:image/png,x", "QUJD,x;base64", "x;base64,QUJD"])
def test_what_is_no_data_url_with_base64_stays(text: str) -> None:
    item = {"type": "image_generation_call", "id": "ig_1", "result": text}
    assert ask(input=[item]).input == [item]
