"""Images of a request, as its model sees them (R-99)."""

import pytest

from antiphon.backends.base import Media
from antiphon.documents.base import Fetched
from antiphon.errors import InvalidRequestError
from antiphon.protocol.inline import inlined
from tests.engine.attaching import (
    BLIND,
    DATA_URLS,
    TEXTS_ONLY,
    TOO_LARGE,
    Bench,
    by_id,
    image,
    text,
)
from tests.protocol.test_images import jpeg, png


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_image_by_id_is_a_data_url_of_its_own_type(bench: Bench) -> None:
    body = jpeg(3, 4)
    await bench.add("file-1", body, "says.png")
    seen = await bench.seen(image(file_id="file-1", detail="high"), image(file_id="file-1"))
    url = inlined("image/jpeg", body)
    assert seen == [image(image_url=url, detail="high"), image(image_url=url)]


async def test_an_address_is_asked_for_who_does_not_ask_itself(bench: Bench) -> None:
    bench.web.held["https://a.example/b"] = Fetched(png(1, 1), "b")
    part = image(image_url="https://a.example/b")
    assert await bench.seen(part) == [part]
    assert bench.web.asked == []
    url = inlined("image/png", png(1, 1))
    assert await bench.seen(part, media=DATA_URLS) == [image(image_url=url)]


async def test_an_address_without_tls_is_asked_for_who_does_not_ask_it(bench: Bench) -> None:
    """Claude: only HTTPS URLs are supported."""
    bench.web.held["http://a.example/b"] = Fetched(png(1, 1), "b")
    secure, plain = image(image_url="HTTPS://a.example/b"), image(image_url="http://a.example/b")
    assert await bench.seen(plain) == [plain]
    seen = await bench.seen(secure, plain, media=Media(plain_http=False))
    assert seen == [secure, image(image_url=inlined("image/png", png(1, 1)))]


async def test_an_inline_image_has_the_media_type_that_it_has(bench: Bench) -> None:
    """R-99: by its first bytes; what nobody knows is the backend's business."""
    body = jpeg(1, 1)
    right = inlined("image/jpeg", body)
    for claimed in ("image/png", "image/jpg", "", "text/html"):
        wrong = image(image_url=inlined(claimed, body), detail="low")
        assert await bench.seen(wrong) == [image(image_url=right, detail="low")]
    for url in (right, "data:image/x-new;base64,AAAA", "data:,", "data:x"):
        assert await bench.seen(image(image_url=url)) == [image(image_url=url)]


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_too_large_an_inline_image(bench: Bench, name: str) -> None:
    """R-99: however it is written."""
    url = TOO_LARGE[name]
    for media in (TEXTS_ONLY, DATA_URLS):
        with pytest.raises(InvalidRequestError, match="too large: ") as caught:
            await bench.seen(text("x"), image(image_url=url), media=media)
        assert caught.value.code == "image_too_large"
        assert caught.value.param == "input[0].content[1].image_url"


async def test_too_large_an_image_from_elsewhere(bench: Bench) -> None:
    await bench.add("file-1", png(8_001, 1), "a.png")
    bench.web.held["https://a.example/b"] = Fetched(png(1, 8_001), "b")
    for part, name in (
        (image(file_id="file-1"), "file_id"),
        (by_id("file-1"), "file_id"),
        (image(image_url="https://a.example/b"), "image_url"),
        ({"type": "input_file", "file_url": "https://a.example/b"}, "file_url"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await bench.seen(part, media=DATA_URLS)
        assert caught.value.code == "image_too_large"
        assert caught.value.param == f"input[0].content[0].{name}"


async def test_an_image_must_be_one(bench: Bench) -> None:
    await bench.add("file-1", b"<svg/>", "a.png")
    with pytest.raises(InvalidRequestError) as caught:
        await bench.seen(image(file_id="file-1"))
    assert caught.value.code == "invalid_image_format"


async def test_images_for_a_model_that_takes_none(bench: Bench) -> None:
    """R-02: of the request they are an error; of history a note, for which nothing is fetched."""
    await bench.add("file-1", png(1, 1), "a.png")
    pictures = (image(image_url="https://a.example/b"), image(file_id="file-1"), by_id("file-1"))
    for part, name in zip(pictures, ("image_url", "file_id", "file_id"), strict=True):
        with pytest.raises(InvalidRequestError, match="takes no images") as caught:
            await bench.seen(text("x"), part, media=BLIND)
        assert caught.value.param == f"input[0].content[1].{name}"
    notes = await bench.seen(text("x"), *pictures, media=BLIND, sent=False)
    assert [part["text"] for part in notes[1:]] == [
        "[The file image cannot be shown. This model takes no images.]",
        "[The file file-1 cannot be shown. This model takes no images.]",
        "[The file file-1 cannot be shown. This model takes no images.]",
    ]
    assert bench.web.asked == []
