"""`image_generation` over real HTTP, with openai-python, a chat server and an image server on
loopback (issue 7, must show 4): reliability R-30, R-42, R-58, R-66."""

import base64
import time
from collections.abc import Iterator
from typing import Any, Final

import openai
import orjson
import pytest
from openai import OpenAI

from antiphon.protocol.inline import inlined
from tests.api.talk import Json
from tests.backends.upstream import ChatUpstream, Reply
from tests.images.image_server import (
    TOKENS,
    USAGE,
    b64,
    files,
    made,
    opened,
    picture,
    refused,
    streamed,
    texts,
)
from tests.live import CHAT_TOML, KEY, OTHER_KEY, LiveServer, serve

IMAGES_TOML: Final = """
[image_generation]
kind = "openai"
base_url = "{base_url}"
api_key_env = "IMAGE_KEY"
model = "drawer"
models = ["painter"]
max_retries = 0
"""
TOOL: Final[Json] = {"type": "image_generation"}
PNG, JPEG, WEBP = picture("png"), picture("jpeg"), picture("webp")
MASK: Final = picture("png", colour=(0, 0, 0, 0))
DONE: Final = Reply.chat("Done.")


@pytest.fixture(scope="module")
def _painter() -> Iterator[ChatUpstream]:
    with ChatUpstream() as painter:
        yield painter


@pytest.fixture
def painter(_painter: ChatUpstream) -> ChatUpstream:
    """The image server, with nothing asked yet."""
    _painter.requests.clear()
    _painter.script(made(PNG))
    return _painter


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream, _painter: ChatUpstream
) -> Iterator[LiveServer]:
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    toml = toml.replace('models = ["*"]', 'models = ["*"]\nvision = ["seeing-*"]', 1)
    toml += IMAGES_TOML.format(base_url=_painter.base_url)
    with serve(tmp_path_factory.mktemp("images"), toml, {"IMAGE_KEY": "sk-of-images"}) as server:
        yield server


@pytest.fixture
def sdk(live: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def drawing(upstream: ChatUpstream, *arguments: Json) -> None:
    """The model asks for images, and says that it is done."""
    calls = [("image_generation", one) for one in arguments or ({"prompt": "An otter"},)]
    upstream.script(Reply.calls(*calls), DONE)


def edit(prompt: str = "A hat", **more: Any) -> Json:
    return {"prompt": prompt, "action": "edit", **more}


def shown(body: bytes, kind: str = "png") -> Json:
    """A message of the user with an image."""
    image = {"type": "input_image", "image_url": inlined(f"image/{kind}", body)}
    return {"role": "user", "content": [{"type": "input_text", "text": "Change it"}, image]}


def item_of(response: Any) -> Any:
    (item,) = [one for one in response.output if one.type == "image_generation_call"]
    return item


def told(upstream: ChatUpstream) -> Any:
    """What the model was told of the image, in the second turn."""
    messages = upstream.requests[-1].json["messages"]
    return next(m["content"] for m in messages if m["role"] == "tool")


def test_generate(sdk: Any, upstream: ChatUpstream, painter: ChatUpstream) -> None:
    drawing(upstream)
    response = sdk.responses.create(model="m", input="Draw an otter", tools=[TOOL])
    assert response.status == "completed"
    assert [item.type for item in response.output] == ["image_generation_call", "message"]
    image = item_of(response)
    assert base64.b64decode(image.result) == PNG
    keys = "action background id output_format quality result revised_prompt size status type"
    assert sorted(image.to_dict()) == keys.split()
    assert (image.status, image.size, image.output_format) == ("completed", "32x24", "png")
    assert image.revised_prompt == "An otter"
    assert image.id.startswith("ig_")
    (request,) = painter.requests
    assert request.path == "/v1/images/generations"
    assert request.json == {"prompt": "An otter", "model": "drawer"}
    assert request.headers["authorization"] == "Bearer sk-of-images"
    assert "the user sees it" in told(upstream)
    assert b64(PNG) not in upstream.requests[-1].body.decode()
    assert sdk.responses.retrieve(response.id).output == response.output


def test_models_that_see_are_shown_the_image(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """In the run, and in later ones of the chain; others read that it is there."""
    drawing(upstream)
    first = sdk.responses.create(model="seeing-m", input="Draw", tools=[TOOL])
    for model in ("seeing-m", "blind-m"):
        upstream.script(DONE)
        sdk.responses.create(model=model, input="And now?", previous_response_id=first.id)
    for request, sees in zip(upstream.requests[1:], (True, True, False), strict=True):
        parts = [
            part
            for message in request.json["messages"]
            if message["role"] == "user" and isinstance(message["content"], list)
            for part in message["content"]
        ]
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        assert urls == ([inlined("image/png", PNG)] if sees else [])


@pytest.mark.parametrize("background", [False, True])
def test_a_stream_with_partial_images(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, *, background: bool
) -> None:
    """Events in the order of the recording, and their keys."""
    drawing(upstream)
    painter.script(streamed([PNG, JPEG], PNG))
    tool: Json = {**TOOL, "partial_images": 2, "output_format": "webp", "quality": "low"}
    stream: Any = sdk.responses.create(
        model="m",
        input="Draw",
        tools=[tool],
        stream=True,
        background=background,
    )
    events = [event.to_dict() for event in stream]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    own = [event for event in events if "image_generation_call" in str(event.get("type"))]
    names = [event["type"].removeprefix("response.image_generation_call.") for event in own]
    assert names == ["in_progress", "generating", "partial_image", "partial_image", "completed"]
    at = events.index(own[0])
    added, done = events[at - 1], events[events.index(own[-1]) + 1]
    assert added["type"] == "response.output_item.added"
    assert sorted(added["item"]) == ["id", "status", "type"]
    assert done["type"] == "response.output_item.done"
    assert done["item"]["output_format"] == "webp"
    assert {event["item_id"] for event in own} == {added["item"]["id"]} == {done["item"]["id"]}
    place = ["type", "sequence_number", "output_index", "item_id"]
    keys = ["partial_image_index", "partial_image_b64", "size", "quality", "background"]
    for index, event in enumerate(own[2:4]):
        assert sorted(event) == sorted([*place, *keys, "output_format"])
        assert event["partial_image_index"] == index
        assert (event["size"], event["quality"], event["background"]) == ("32x24", "low", "opaque")
        assert opened(base64.b64decode(event["partial_image_b64"])).format == "WEBP"
    for event in (own[0], own[1], own[4]):
        assert sorted(event) == sorted(place)
    assert opened(base64.b64decode(done["item"]["result"])).format == "WEBP"
    final = events[-1]["response"]
    assert final["tool_usage"]["image_gen"] == TOKENS.body()
    assert (events[-1]["type"], final["status"]) == ("response.completed", "completed")
    assert final["output"][0] == done["item"]
    if background:
        resumed = sdk.responses.retrieve(
            final["id"], stream=True, starting_after=own[1]["sequence_number"]
        )
        again = [event.to_dict() for event in resumed]
        assert again == events[events.index(own[1]) + 1 :]


def test_background(sdk: Any, upstream: ChatUpstream, painter: ChatUpstream) -> None:
    drawing(upstream)
    response = sdk.responses.create(model="m", input="Draw", tools=[TOOL], background=True)
    until = time.monotonic() + 10
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < until
        time.sleep(0.02)
        response = sdk.responses.retrieve(response.id)
    assert response.status == "completed"
    assert base64.b64decode(item_of(response).result) == PNG


@pytest.mark.parametrize("background", [False, True])
def test_cancel_stops_the_image_server(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, *, background: bool
) -> None:
    """R-53, R-58."""
    drawing(upstream)
    painter.script(Reply(body=["stall"]))
    stream: Any = sdk.responses.create(
        model="m",
        input="Draw",
        tools=[TOOL],
        stream=True,
        background=background,
    )
    for event in stream:
        if event.type == "response.created":
            response_id = event.response.id
        if event.type == "response.image_generation_call.generating":
            break
    if background:
        assert sdk.responses.cancel(response_id).status == "cancelled"
    stream.close()
    until = time.monotonic() + 5
    while not painter.requests:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert painter.requests[0].left.wait(5)
    while (status := sdk.responses.retrieve(response_id).status) == "in_progress":
        assert time.monotonic() < until
    assert status == "cancelled"


@pytest.mark.parametrize("source", ["inline", "file"])
def test_edit_what_the_user_sent(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, source: str
) -> None:
    message = shown(JPEG, "jpeg")
    if source == "file":
        file = sdk.files.create(file=("a.jpg", JPEG), purpose="vision")
        message["content"][1] = {"type": "input_image", "file_id": file.id}
    drawing(upstream, edit())
    response = sdk.responses.create(model="m", input=[message], tools=[TOOL])
    assert item_of(response).action == "edit"
    (request,) = painter.requests
    assert request.path == "/v1/images/edits"
    assert texts(request) == {"prompt": "A hat", "model": "drawer"}
    assert files(request) == [("image", "image/jpeg", JPEG)]


@pytest.mark.parametrize("source", ["inline", "file"])
def test_a_mask(sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, source: str) -> None:
    mask: Json = {"image_url": inlined("image/png", MASK)}
    if source == "file":
        mask = {"file_id": sdk.files.create(file=("m.png", MASK), purpose="vision").id}
    drawing(upstream, {"prompt": "A hat"})
    tool: Json = {**TOOL, "input_image_mask": mask, "input_fidelity": "high"}
    response = sdk.responses.create(model="m", input=[shown(PNG)], tools=[tool])
    assert item_of(response).action == "edit"
    (request,) = painter.requests
    assert texts(request)["input_fidelity"] == "high"
    assert files(request) == [("image", "image/png", PNG), ("mask", "image/png", MASK)]
    function = upstream.requests[0].json["tools"][0]["function"]
    assert "action" not in function["parameters"]["properties"]


def test_a_mask_of_another_project(live: LiveServer, sdk: Any, painter: ChatUpstream) -> None:
    """R-30."""
    file = sdk.files.create(file=("m.png", MASK), purpose="vision")
    tool: Json = {**TOOL, "input_image_mask": {"file_id": file.id}}
    other: Any = OpenAI(base_url=live.base_url, api_key=OTHER_KEY, max_retries=0)
    with other, pytest.raises(openai.NotFoundError) as caught:
        other.responses.create(model="m", input="x", tools=[tool])
    assert caught.value.param == "tools[0].input_image_mask.file_id"
    assert painter.requests == []


@pytest.mark.parametrize("way", ["chain", "id", "items"])
def test_edit_what_was_made_before(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, way: str
) -> None:
    drawing(upstream)
    painter.script(made(WEBP))
    tools: Any = [{**TOOL, "output_format": "webp"}]
    first = sdk.responses.create(model="m", input="Draw an otter", tools=tools)
    item = item_of(first)
    context: Any = {
        "chain": {"input": "Now with a hat", "previous_response_id": first.id},
        "id": {
            "input": [
                {"role": "user", "content": "Now with a hat"},
                {"type": "image_generation_call", "id": item.id},
            ]
        },
        "items": {"input": [item.to_dict(), {"role": "user", "content": "Now with a hat"}]},
    }[way]
    painter.requests.clear()
    painter.script(made(PNG))
    drawing(upstream, edit("The otter with a hat"))
    second = sdk.responses.create(model="m", tools=tools, **context)
    (request,) = painter.requests
    assert files(request) == [("image", "image/webp", WEBP)]
    assert texts(request)["prompt"] == "The otter with a hat"
    assert opened(base64.b64decode(item_of(second).result)).format == "WEBP"


def test_make_and_change_in_one_response(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    ask = Reply.calls(("image_generation", {"prompt": "An otter", "action": "generate"}))
    upstream.script(ask, Reply.calls(("image_generation", edit())), DONE)
    painter.script(made(PNG), made(JPEG))
    response = sdk.responses.create(model="m", input="Draw", tools=[TOOL])
    kinds = [item.action for item in response.output if item.type == "image_generation_call"]
    assert kinds == ["generate", "edit"]
    assert files(painter.requests[1]) == [("image", "image/png", PNG)]


def test_several_at_once(sdk: Any, upstream: ChatUpstream, painter: ChatUpstream) -> None:
    drawing(upstream, *({"prompt": f"Otter {n}"} for n in range(6)))
    response = sdk.responses.create(model="m", input="Draw", tools=[TOOL])
    prompts = [item.revised_prompt for item in response.output if item.type != "message"]
    assert prompts == [f"Otter {n}" for n in range(6)]


def test_tokens_of_all_images_are_counted(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream
) -> None:
    """`tool_usage`, beside those of the model; a server need not say how many."""
    drawing(upstream, *({"prompt": f"Otter {n}"} for n in range(3)))
    painter.script(made(PNG, usage=USAGE), made(PNG), made(PNG, usage=USAGE))
    response = sdk.responses.create(model="m", input="Draw", tools=[TOOL])
    counted = (TOKENS + TOKENS).body()
    assert response.to_dict()["tool_usage"]["image_gen"] == counted
    kept = sdk.responses.retrieve(response.id)
    assert kept.to_dict()["tool_usage"]["image_gen"] == counted
    assert kept.usage == response.usage


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused(400, "moderation_blocked"), "against its rules"),
        (refused(429), "too often"),
        (refused(500), "failed"),
        (Reply(200, [b"<html>SECRET</html>"], {"content-type": "text/html"}), "failed"),
    ],
)
def test_a_failure_is_told_and_the_response_goes_on(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, reply: Reply, words: str
) -> None:
    """R-42."""
    drawing(upstream)
    painter.script(reply)
    response = sdk.responses.create(model="m", input="Draw", tools=[TOOL])
    assert (response.status, response.output_text) == ("completed", "Done.")
    image = item_of(response)
    assert (image.status, image.result) == ("failed", None)
    assert words in image.error.message
    assert words in told(upstream)
    assert "SECRET" not in response.to_json()


#: Option → what the image server is asked, besides prompt and model.
SENT: Final[list[tuple[Json, Json]]] = [
    ({}, {}),
    ({"model": "painter"}, {"model": "painter"}),
    ({"size": "1536x1024"}, {"size": "1536x1024"}),
    ({"quality": "high"}, {"quality": "high"}),
    ({"background": "transparent"}, {"background": "transparent"}),
    ({"output_format": "jpeg"}, {"output_format": "jpeg"}),
    (
        {"output_format": "webp", "output_compression": 20},
        {"output_format": "webp", "output_compression": 20},
    ),
    ({"moderation": "low"}, {"moderation": "low"}),
    ({"partial_images": 1}, {"partial_images": 1, "stream": True}),
    ({"action": "generate"}, {}),
    (dict.fromkeys(("size", "quality", "background", "moderation"), "auto"), {}),
]


@pytest.mark.parametrize(("option", "sent"), SENT, ids=[str(option) for option, _ in SENT])
def test_every_option_arrives(
    sdk: Any, upstream: ChatUpstream, painter: ChatUpstream, option: Json, sent: Json
) -> None:
    drawing(upstream)
    tool: Json = {**TOOL, **option}
    response = sdk.responses.create(model="m", input="Draw", tools=[tool])
    assert painter.requests[0].json == {"prompt": "An otter", "model": "drawer", **sent}
    image = item_of(response)
    wished = option.get("output_format", "png")
    assert image.output_format == wished
    assert opened(base64.b64decode(image.result)).format == wished.upper()
    echoed = response.tools[0].to_dict()
    assert echoed == {
        "type": "image_generation",
        **dict.fromkeys(("background", "moderation", "quality", "size"), "auto"),
        "output_compression": 100,
        "output_format": "png",
        **option,
    }


@pytest.mark.parametrize(
    ("option", "param"),
    [
        ({"model": "unknown"}, "model"),
        ({"size": "huge"}, "size"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "svg"}, "output_format"),
        ({"svg": {"model": "x"}}, "svg"),
        ({"complexity": "low"}, "complexity"),
        ({"frame_count": 3}, "frame_count"),
        ({"frame_duration_ms": 100}, "frame_duration_ms"),
        ({"output_compression": 30}, "output_compression"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4}, "partial_images"),
        ({"background": "transparent", "output_format": "jpeg"}, "background"),
        ({"action": "generate", "input_fidelity": "low"}, "input_fidelity"),
        (
            {"input_image_mask": {"image_url": "data:image/png;base64,QUJD"}},
            "input_image_mask.image_url",
        ),
        ({"input_image_mask": {"file_id": "file-1", "image_url": "data:,"}}, "input_image_mask"),
        ({"quality": "best"}, "quality"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_refused_is_named(
    sdk: Any, painter: ChatUpstream, option: Json, param: str
) -> None:
    tool: Json = {**TOOL, **option}
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model="m", input="Draw", tools=[tool])
    assert caught.value.param == f"tools[0].{param}"
    assert painter.requests == []


def test_a_forced_choice(sdk: Any, upstream: ChatUpstream, painter: ChatUpstream) -> None:
    drawing(upstream)
    sdk.responses.create(
        model="m",
        input="Draw",
        tools=[TOOL],
        tool_choice={"type": "image_generation"},
    )
    first, second = (request.json["tool_choice"] for request in upstream.requests)
    assert first["function"]["name"] == "image_generation"
    assert second == "auto"


def test_with_the_simulator_for_everything(tmp_path: Any) -> None:
    """Offline: a simulated model and a simulated image server."""
    toml = '[image_generation]\nkind = "simulator"\n'
    prompt = orjson.dumps({"prompt": "An otter", "action": "generate"}).decode()
    with serve(tmp_path, toml) as live, OpenAI(base_url=live.base_url, api_key=KEY) as client:
        sdk: Any = client
        tool: Json = {**TOOL, "size": "256x128", "partial_images": 1, "output_format": "webp"}
        first = sdk.responses.create(
            model="simulator",
            input=f"[[call=image_generation {prompt}]]",
            tools=[tool],
        )
        image = opened(base64.b64decode(item_of(first).result))
        assert (image.format, image.size) == ("WEBP", (256, 128))
        assert "The image was made" in first.output_text
        second = sdk.responses.create(
            model="simulator",
            input=f"[[call=image_generation {prompt.replace('generate', 'edit')}]]",
            previous_response_id=first.id,
            tools=[tool],
        )
        assert item_of(second).status == "completed"
        assert item_of(second).result != item_of(first).result


def test_without_an_image_server(server: LiveServer) -> None:
    sdk: Any = OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0)
    with sdk, pytest.raises(openai.BadRequestError, match=r"\[image_generation\]") as caught:
        sdk.responses.create(model="m", input="Draw", tools=[TOOL])
    assert caught.value.param == "tools"
