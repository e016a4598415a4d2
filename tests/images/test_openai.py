"""The adapter to OpenAI's images API, against a server on loopback: R-39 to R-47, R-83 for its
URLs, and what it sends."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog

from antiphon.errors import ToolFailed
from antiphon.images import openai
from antiphon.images.base import FinalImage, ImageWish, PartialImage, Picture
from antiphon.images.openai import ImageServer, OpenAIImages
from tests.backends.upstream import ChatUpstream, Reply, sse
from tests.images.image_server import (
    TOKENS,
    USAGE,
    at,
    b64,
    files,
    made,
    picture,
    refused,
    streamed,
    texts,
)

KEY = "sk-image-server-key"
WISH = ImageWish("p", "An otter")
PNG, WEBP = picture("png"), picture("webp")
GIVEN = Picture(picture("jpeg"), "image/jpeg")


@pytest.fixture
async def images(upstream: ChatUpstream) -> AsyncIterator[OpenAIImages]:
    server = ImageServer(upstream.base_url, "drawer", KEY, timeout=10.0, retry_wait=0.01)
    backend = OpenAIImages(server)
    yield backend
    await backend.aclose()


async def painted(backend: OpenAIImages, wish: ImageWish = WISH) -> list[PartialImage | FinalImage]:
    return [image async for image in backend.paint(wish)]


async def failing(backend: OpenAIImages, wish: ImageWish = WISH) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        await painted(backend, wish)
    return caught.value


async def test_a_plain_wish_is_a_plain_request(
    images: OpenAIImages, upstream: ChatUpstream
) -> None:
    upstream.script(made(PNG, usage=USAGE, quality="high", background="opaque", size="odd"))
    (final,) = await painted(images)
    assert isinstance(final, FinalImage)
    assert (final.body, final.format, final.usage) == (PNG, "png", TOKENS)
    look = final.look
    assert (look.size, look.quality, look.background) == ("32x24", "high", "opaque")
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/images/generations")
    assert request.json == {"prompt": "An otter"}
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_everything_that_was_wished_for_is_sent(
    images: OpenAIImages, upstream: ChatUpstream
) -> None:
    upstream.script(made(WEBP))
    said: dict[str, Any] = {
        "model": "m",
        "size": "1536x1024",
        "quality": "low",
        "background": "transparent",
        "output_format": "webp",
        "output_compression": 40,
        "moderation": "low",
    }
    await painted(images, replace(WISH, more={"complexity": "low"}, **said))
    assert upstream.requests[0].json == {"prompt": "An otter", **said, "complexity": "low"}


async def test_an_edit_is_a_form(images: OpenAIImages, upstream: ChatUpstream) -> None:
    upstream.script(made(PNG))
    mask = Picture(picture("png", colour=(0, 0, 0, 0)), "image/png")
    wish = replace(
        WISH,
        action="edit",
        images=[GIVEN],
        mask=mask,
        input_fidelity="high",
        output_compression=7,
        moderation="low",  # which edits do not know
    )
    await painted(images, wish)
    (request,) = upstream.requests
    assert request.path == "/v1/images/edits"
    assert texts(request) == {
        "prompt": "An otter",
        "output_compression": "7",
        "input_fidelity": "high",
    }
    assert files(request) == [
        ("image", "image/jpeg", GIVEN.body),
        ("mask", "image/png", mask.body),
    ]


async def test_several_images_are_a_list(images: OpenAIImages, upstream: ChatUpstream) -> None:
    upstream.script(made(PNG))
    other = Picture(PNG, "image/png")
    await painted(images, replace(WISH, images=[GIVEN, other], more={"svg": {"model": "x"}}))
    (request,) = upstream.requests
    assert [(name, body) for name, _, body in files(request)] == [
        ("image[]", GIVEN.body),
        ("image[]", PNG),
    ]
    assert texts(request)["svg"] == '{"model":"x"}'


@pytest.mark.parametrize("kind", ["generation", "edit"])
async def test_partial_images_come_as_they_are_made(
    images: OpenAIImages, upstream: ChatUpstream, kind: str
) -> None:
    upstream.script(streamed([PNG, WEBP], PNG, kind))
    wish = replace(WISH, partial_images=2, images=[GIVEN] if kind == "edit" else [])
    first, second, final = await painted(images, wish)
    assert isinstance(first, PartialImage)
    assert (first.index, first.body, first.look.quality) == (0, PNG, "low")
    assert isinstance(second, PartialImage)
    assert (second.index, second.format) == (1, "webp")
    assert isinstance(final, FinalImage)
    assert (final.body, final.usage) == (PNG, TOKENS)
    (request,) = upstream.requests
    if kind == "edit":
        assert texts(request)["stream"] == "true"
        assert texts(request)["partial_images"] == "2"
    else:
        assert request.json == {"prompt": "An otter", "stream": True, "partial_images": 2}


@pytest.mark.parametrize(
    "odd",
    [
        {"partial_image_index": 0, "b64_json": "bm8gaW1hZ2U="},
        {"partial_image_index": 0, "b64_json": "%%%"},
        {"partial_image_index": 0, "b64_json": ""},
        {"partial_image_index": 0, "url": "/nowhere.png"},
        {"b64_json": "QQ=="},
    ],
)
async def test_a_partial_image_that_cannot_be_used_is_left_out(
    images: OpenAIImages, upstream: ChatUpstream, odd: dict[str, Any]
) -> None:
    good = streamed([PNG], PNG)
    bad = sse({"type": "image_generation.partial_image", **odd})
    upstream.script(replace(good, body=[bad, *good.body]))
    partial, final = await painted(images, replace(WISH, partial_images=2))
    assert (partial.body, final.body) == (PNG, PNG)


async def test_a_server_that_ignores_stream(images: OpenAIImages, upstream: ChatUpstream) -> None:
    upstream.script(made(PNG))
    (final,) = await painted(images, replace(WISH, partial_images=3))
    assert final.body == PNG


@pytest.mark.parametrize("inline", [False, True])
async def test_an_image_at_a_url(
    images: OpenAIImages, upstream: ChatUpstream, *, inline: bool
) -> None:
    upstream.paths["/generated/1.png"] = Reply(200, [PNG], {"content-type": "image/png"})
    root = upstream.base_url.removesuffix("/v1")
    for url in (f"{root}/generated/1.png", "/generated/1.png"):
        url = f"data:image/png;base64,{b64(PNG)}" if inline else url
        upstream.requests.clear()
        upstream.script(at(url))
        (final,) = await painted(images)
        assert final.body == PNG
        if not inline:
            assert upstream.requests[-1].headers["authorization"] == f"Bearer {KEY}"


async def test_a_url_elsewhere(upstream: ChatUpstream) -> None:
    """R-83, R-92: the server's own host is trusted, no other private one; the key stays here."""
    backend = OpenAIImages(ImageServer(upstream.base_url, timeout=5, retry_wait=0.01))
    for url in ("http://127.0.0.2:9/x", "http://localhost/x", "file:///etc/passwd", "http://[bad"):
        upstream.script(at(url))
        assert (await failing(backend)).message == "The image server failed."
    assert {request.path for request in upstream.requests} == {"/v1/images/generations"}
    await backend.aclose()


async def test_no_url_elsewhere_without_egress(upstream: ChatUpstream) -> None:
    """R-95."""
    server = ImageServer(upstream.base_url, timeout=5, elsewhere=False)
    backend = OpenAIImages(server)
    upstream.script(at("https://example.com/x.png"))
    with structlog.testing.capture_logs() as logs:
        await failing(backend)
    assert "ANTIPHON_EGRESS" in logs[-1]["detail"]
    upstream.paths["/own.png"] = Reply(200, [PNG], {"content-type": "image/png"})
    upstream.script(at("/own.png"))
    assert len(await painted(backend)) == 1
    await backend.aclose()


@pytest.mark.parametrize(
    ("reply", "told", "code"),
    [
        (refused(400), "refused the request", "invalid_request"),
        (refused(422), "refused the request", "invalid_request"),
        (refused(400, "moderation_blocked"), "against its rules", "moderation_blocked"),
        (refused(400, "", "Blocked by our safety system"), "against its", "moderation_blocked"),
        (refused(401), "does not accept this server", None),
        (refused(403), "does not accept this server", None),
        (refused(404), "does not know this model", None),
        (refused(413), "too large", None),
        (Reply(302, [], {"location": "http://127.0.0.1:9/"}), "failed", None),
    ],
)
async def test_a_refusal_is_told_in_our_words(
    images: OpenAIImages, upstream: ChatUpstream, reply: Reply, told: str, code: str | None
) -> None:
    """R-41, R-42; asked once: it would refuse again."""
    upstream.script(reply)
    error = await failing(images)
    assert told in error.message
    assert "SECRET" not in error.message
    assert error.code == code
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (refused(500), "failed"),
        (refused(502), "failed"),
        (refused(429), "too often"),
        (refused(408), "in time"),
        (Reply(body=["cut"], raw=True), "failed"),
    ],
)
async def test_what_may_pass_is_tried_again(
    images: OpenAIImages, upstream: ChatUpstream, reply: Reply, told: str
) -> None:
    """R-39, R-40."""
    upstream.script(reply, reply, made(PNG))
    assert len(await painted(images)) == 1
    assert len(upstream.requests) == 3
    upstream.script(reply)
    assert told in (await failing(images)).message
    assert len(upstream.requests) == 6


async def test_a_long_retry_after_is_not_waited_for(
    images: OpenAIImages, upstream: ChatUpstream
) -> None:
    upstream.script(refused(429, retry_after="120"))
    assert "too often" in (await failing(images)).message
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, [b"<html>Hello</html>"], {"content-type": "text/html"}),
        Reply.json([]),
        Reply.json({"data": []}),
        Reply.json({"data": [1]}),
        Reply.json({"data": [{}]}),
        Reply.json({"data": [{"b64_json": 1}]}),
        Reply.json({"data": [{"b64_json": "%%%"}]}),
        made(b"no image at all"),
        made(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0"),
        made(picture("bmp")),
        streamed([PNG], None),
        Reply(body=[b"data: {oops\n\n"]),
        Reply(body=[b"data: []\n\n"]),
        Reply(body=[sse({"type": "image_generation.partial_image", "b64_json": "QQ=="})]),
        Reply(body=[sse({"type": "error", "error": {"message": "SECRET"}})]),
    ],
)
async def test_an_answer_that_cannot_be_used(
    images: OpenAIImages, upstream: ChatUpstream, reply: Reply
) -> None:
    """R-45, R-46; asked once: an image was paid for."""
    upstream.script(reply)
    assert (await failing(images, replace(WISH, partial_images=1))).message == (
        "The image server failed."
    )
    assert len(upstream.requests) == 1


async def test_events_that_say_nothing_are_passed_over(
    images: OpenAIImages, upstream: ChatUpstream
) -> None:
    final = f'{{"b64_json":"{b64(PNG)}"}}'.encode()
    steps = [b": hello\n\n", sse({"type": "other"}), b"event: image_generation.completed\n"]
    upstream.script(Reply(body=[*steps, b"data: " + final]))
    assert len(await painted(images, replace(WISH, partial_images=1))) == 1


async def test_answers_are_bounded(
    images: OpenAIImages, upstream: ChatUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-47."""
    monkeypatch.setattr(openai, "MOST_ANSWER", 1_000)
    for reply in (made(bytes(2_000)), streamed([], bytes(2_000))):
        upstream.script(reply)
        await failing(images)
    upstream.paths["/large.png"] = Reply(200, [bytes(2_000)], {"content-type": "image/png"})
    upstream.script(at("/large.png"))
    await failing(images)


async def test_a_cut_after_a_partial_image_is_final(
    images: OpenAIImages, upstream: ChatUpstream
) -> None:
    reply = streamed([PNG], None)
    upstream.script(replace(reply, body=[*reply.body, "cut"]))
    await failing(images, replace(WISH, partial_images=1))
    assert len(upstream.requests) == 1


async def test_too_late(upstream: ChatUpstream) -> None:
    """R-44: one deadline."""
    backend = OpenAIImages(ImageServer(upstream.base_url, timeout=0.2, retry_wait=0.01))
    upstream.script(Reply(body=["stall"]))
    assert (await failing(backend)).message == "The image server did not answer in time."
    await backend.aclose()


async def test_nobody_there() -> None:
    server = ImageServer("http://127.0.0.1:9/v1", timeout=5, retry_wait=0.01)
    backend = OpenAIImages(server)
    assert (await failing(backend)).message == "The image server failed."
    await backend.aclose()


async def test_giving_up_stops_the_server(images: OpenAIImages, upstream: ChatUpstream) -> None:
    """R-58."""
    upstream.script(Reply(body=["stall"]))
    task = asyncio.create_task(painted(images))
    await asyncio.to_thread(_wait_for, upstream)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 5)


async def test_what_the_server_cannot_is_not_sent(upstream: ChatUpstream) -> None:
    unsent = frozenset({"output_format", "output_compression"})
    backend = OpenAIImages(ImageServer(upstream.base_url, unsent=unsent))
    upstream.script(made(PNG))
    await painted(backend, replace(WISH, output_format="webp", output_compression=3))
    assert upstream.requests[0].json == {"prompt": "An otter"}
    await backend.aclose()


async def test_keys_are_in_no_log(upstream: ChatUpstream) -> None:
    """R-130: not even if the server repeats them."""
    server = ImageServer(upstream.base_url, api_key=KEY, headers={"x-more": "hidden-value"})
    backend = OpenAIImages(replace(server, max_retries=0))
    assert KEY not in repr(server)
    upstream.script(refused(401, "", f"Bad key {KEY} or hidden-value"))
    with structlog.testing.capture_logs() as logs:
        await failing(backend)
    assert logs
    assert logs[0]["log_level"] == "error"
    assert KEY not in str(logs)
    assert "hidden-value" not in str(logs)
    assert upstream.requests[0].headers["x-more"] == "hidden-value"
    await backend.aclose()


def _wait_for(upstream: ChatUpstream) -> None:
    """Until something was asked."""
    until = time.monotonic() + 5
    while not upstream.requests:
        assert time.monotonic() < until
        time.sleep(0.01)


async def test_lines_in_base64_are_read(images: OpenAIImages, upstream: ChatUpstream) -> None:
    wrapped = base64.encodebytes(PNG).decode()
    assert "\n" in wrapped[:-1]
    upstream.script(Reply.json({"created": 1, "data": [{"b64_json": wrapped}]}))
    (final,) = await painted(images)
    assert final.body == PNG


async def test_a_refusal_in_pieces_is_one(images: OpenAIImages, upstream: ChatUpstream) -> None:
    said = orjson.dumps({"error": {"message": "x" * 50, "code": "moderation_blocked"}})
    headers = {"content-type": "application/json"}
    upstream.script(Reply(400, [said[:20], 0.05, said[20:]], headers))
    assert (await failing(images)).code == "moderation_blocked"
