"""What a model was told, kept for later responses (protocol/told.py)."""

from typing import Any

import orjson
import pytest

from antiphon.protocol import told
from antiphon.protocol.code_interpreter import MOST_IMAGES, MOST_TOLD
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item, Seen, changed, told_of, turn_of
from antiphon.protocol.sources import HOW_TO_CITE

Json = dict[str, Any]
CODE: Item = {"type": "code_interpreter_call", "id": "ci_1", "code": "1", "status": "completed"}
IMAGE: Json = {"type": "image", "url": "data:image/png;base64,AA=="}
SHOWN: Json = {"type": "input_image", "image_url": IMAGE["url"], "detail": "auto"}


def again(*items: Item, **texts: Any) -> list[Item]:
    """The items as a later response has them."""
    return told.recalled(list(items), told.kept(texts))


def unquoted(item: Item) -> Any:
    """What the model sees of it, without quotes."""
    item_type = ITEM_TYPES[item["type"]]
    assert item_type.unquoted is not None
    return item_type.unquoted(item)


def test_an_item_comes_back_with_what_was_told_of_it() -> None:
    said = {"type": "message", "role": "user", "content": []}
    other, one, without = again({**CODE, "id": "ci_2"}, CODE, said, ci_1="It was 42.")
    assert (told_of(other), told_of(without)) == (None, None)
    assert (told_of(one), turn_of(one)) == ("It was 42.", None)
    assert (one, orjson.loads(orjson.dumps(one))) == (CODE, CODE)
    assert told_of(changed(one, code="2")) == "It was 42."
    assert told.told_before([other, one, without]) == {"ci_1": "It was 42."}


@pytest.mark.parametrize("texts", [{}, {"ci_1": "half \ud800"}])
def test_nothing_is_nothing(texts: Any) -> None:
    items = [CODE]
    assert told.kept(texts) is None
    assert told.recalled(items, None) is items


def test_only_text_is_kept() -> None:
    parts = [
        {"type": "input_text", "text": "Look:"},
        SHOWN,
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA=="},
        {"type": "input_video", "video_url": "https://example.com"},
    ]
    (item,) = again(CODE, ci_1=parts)
    assert (
        told_of(item) == "Look:\n[An image was shown.]\n[A sound was played.]\n[A file was shown.]"
    )


def test_it_is_bounded_and_the_newest_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "MOST", 62)
    encoded = told.kept({"ci_1": "a" * 20, "ci_2": "b" * 40, "ci_3": "c" * 20})
    assert encoded is not None
    assert len(encoded) <= 62
    assert orjson.loads(encoded) == {"ci_1": "a" * 20, "ci_3": "c" * 20}
    assert told.kept({"ci_1": "é" * 30}) is None


def test_no_more_than_a_mebibyte_of_a_response() -> None:
    encoded = told.kept({f"ci_{n}": "x" * 100_000 for n in range(20)})
    assert encoded is not None
    assert 900_000 < len(encoded) <= 1024 * 1024


def test_of_an_output_is_kept_what_belongs_to_it() -> None:
    encoded = told.kept_of([CODE], {"ci_1": "a", "ci_gone": "b"}, {"ci_before": "c"})
    assert encoded is not None
    assert orjson.loads(encoded) == {"ci_1": "a", "ci_before": "c"}
    assert told.kept_of([CODE], {}) is None


def test_its_marks_are_no_sources_of_another_response() -> None:
    (item,) = again(CODE, ci_1=f"【1】 A page\n\n{HOW_TO_CITE}")
    assert told_of(item) == "[1】 A page"
    parts = [{"type": "input_text", "text": "【1】"}, SHOWN]
    for of, expected in (
        ("【2】 b", "[2】 b"),
        (parts, [{"type": "input_text", "text": "[1】"}, SHOWN]),
        (None, None),
    ):
        seen = told.earlier(Seen(CODE, 3, of))
        assert (seen, told_of(seen), turn_of(seen)) == (CODE, expected, None)


# -- what items make of it -----------------------------------------------------------------------


def test_code_shows_what_was_told_and_the_images_of_its_outputs() -> None:
    outputs = [{"type": "logs", "logs": "all of it"}, *[IMAGE] * 9]
    (item,) = again({**CODE, "outputs": outputs}, ci_1=[{"type": "input_text", "text": "a"}, SHOWN])
    text = {"type": "input_text", "text": "a\n[An image was shown.]"}
    assert unquoted(item) == [text, *[SHOWN] * MOST_IMAGES]
    (item,) = again({**CODE, "outputs": outputs[:1]}, ci_1="a")
    assert unquoted(item) == "a"
    parts = [{"type": "input_text", "text": "a"}]
    assert unquoted(Seen({**CODE, "outputs": outputs}, 1, parts)) is parts
    assert unquoted(Seen({**CODE, "outputs": outputs}, None, parts)) is parts


def test_code_that_a_client_sends_back_is_cut_as_it_was_told() -> None:
    """R-115: also where `include` has given the client all of it."""
    outputs = [{"type": "logs", "logs": "a" + "y" * 900_000 + "z"}, *[IMAGE] * 9]
    text, *images = unquoted({**CODE, "outputs": outputs})
    assert (text["text"][0], text["text"][-1]) == ("a", "z")
    assert MOST_TOLD < len(text["text"]) < MOST_TOLD + 100
    assert "characters are left out" in text["text"]
    assert images == [SHOWN] * MOST_IMAGES
    assert unquoted({**CODE, "outputs": [IMAGE]}) == [SHOWN]
    assert unquoted({**CODE, "outputs": [{"type": "logs", "logs": "【1】"}]}) == "[1】"
    assert unquoted({**CODE, "outputs": None}) == ""
    as_result = ITEM_TYPES[CODE["type"]].as_result
    assert as_result is not None
    assert as_result({**CODE, "outputs": None}).output == "completed"


def test_results_that_a_client_sends_back_are_no_sources() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "results": [{"text": "【1】 says so"}]}
    assert unquoted(item) == '[{"text":"[1】 says so"}]'
