"""The tool `image_generation` on an easel that remembers what it was asked: what the model may
choose, which images an edit takes, items and events, failures."""

import base64
from typing import Any

import pytest

from antiphon.errors import InvalidRequestError, NoSuchFile, Overloaded, ToolFailed
from antiphon.images.base import Format, ImageWish, Look, Picture
from antiphon.protocol.items.content import Filled
from antiphon.tools.base import Outcome, Scope
from antiphon.tools.image_generation import opened as opened_module
from antiphon.tools.image_generation.rules import ImageRules
from antiphon.tools.image_generation.tool import ImageGeneration
from tests.images.image_server import TOKENS
from tests.tools.image_world import REFERENCE, Said, World, asking, drawn, image, user

Json = dict[str, Any]


@pytest.fixture
def world() -> World:
    return World()


async def test_an_image_as_the_recording_has_it(world: World) -> None:
    world.easel.partial = 3
    outcome, wish = await world.run({"prompt": "An otter"}, partial_images=2, quality="low")
    result = base64.b64encode(b"An otter").decode()
    assert outcome.status == "completed"
    assert list(outcome.fields.items()) == [
        ("action", "generate"),
        ("background", "opaque"),
        ("output_format", "png"),
        ("quality", "low"),
        ("result", result),
        ("revised_prompt", "An otter"),
        ("size", "32x24"),
    ]
    assert isinstance(outcome.told, str)
    assert "32x24, png" in outcome.told
    assert result not in outcome.told
    names = [name for name, _ in world.said.events]
    assert names == ["image_generation_call.generating"] + 2 * [
        "image_generation_call.partial_image"
    ]
    assert [list((fields or {}).items()) for _, fields in world.said.events[1:]] == [
        [
            ("partial_image_index", index),
            ("partial_image_b64", base64.b64encode(b"part").decode()),
            ("size", "32x24"),
            ("quality", "low"),
            ("background", "opaque"),
            ("output_format", "png"),
        ]
        for index in (0, 1)
    ]
    assert wish is not None
    assert (wish.project, wish.model, wish.partial_images) == ("p", "drawer", 2)


async def test_an_image_of_a_stored_response_is_kept(world: World) -> None:
    """Before its item ends: the item has a reference (decision 0010)."""
    world.scope = Scope("p", response_id="resp_1")
    outcome, _ = await world.run({"prompt": "An otter"}, output_format="webp")
    assert outcome.fields["result"] == REFERENCE
    assert world.album.kept == [(world.scope, b"An otter", "image/webp")]


async def test_an_image_that_cannot_be_kept_has_cost_its_tokens(world: World) -> None:
    world.scope = Scope("p", response_id="resp_1")
    world.easel.usage = TOKENS
    world.album.trouble = Overloaded("There is no room.")
    outcome, _ = await world.run({"prompt": "x"})
    assert (outcome.status, outcome.image_usage) == ("failed", TOKENS)
    assert outcome.fields["error"]["message"] == "There is no room."


async def test_the_images_of_a_response_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118: an event may have all of them. What is too much has cost its tokens, and is the last
    that is drawn."""
    monkeypatch.setattr(opened_module, "MOST_MADE", 10)
    world.easel.usage = TOKENS
    opened = await world.open()
    outcomes = [
        await opened.run(asking({"prompt": prompt}), world.said)
        for prompt in ("sixsix", "five5", "x")
    ]
    assert [outcome.status for outcome in outcomes] == ["completed", "failed", "failed"]
    assert outcomes[1].image_usage == TOKENS
    assert "too large: the limit is 10 bytes" in outcomes[2].fields["error"]["message"]
    assert len(world.easel.wishes) == 2


async def test_an_image_that_was_kept_is_changed(world: World) -> None:
    _, wish = await world.run({"prompt": "x"}, [drawn(REFERENCE), drawn("QQ==")], action="edit")
    assert wish is not None
    assert wish.images == (Picture(b"data:image/png;base64,QQ==", "image/png"),)
    _, wish = await world.run({"prompt": "x"}, [drawn(REFERENCE)], action="edit")
    assert wish is not None
    assert wish.images == (Picture(REFERENCE.encode(), "image/png"),)


async def test_what_the_request_names_is_the_newest(world: World) -> None:
    """In the order in which it is named last, whatever ids clients give."""
    ids = "abcc"
    items = [user(image(f"{n}{id_}")) | {"id": id_} for n, id_ in enumerate(ids)]
    for named, expected in (
        ("", "0a1b2c3c"),
        ("a", "1b2c3c0a"),
        ("cab", "2c3c0a1b"),
        ("aba", "2c3c1b0a"),
        ("cx", "0a1b2c3cx"),
    ):
        there = {item["id"]: item for item in items} | {"x": user(image("x")) | {"id": "x"}}
        world.scope = Scope("p", named=[there[id_] for id_ in named])
        arguments = {"prompt": "x", "images": 4 + expected.count("x")}
        _, wish = await world.run(arguments, items, action="edit")
        assert wish is not None
        assert b"".join(picture.body for picture in wish.images).decode() == expected


async def test_an_item_of_a_dead_process_says_nothing_twice(world: World) -> None:
    world.said = Said(fresh=False)
    world.easel.partial = 1
    outcome, _ = await world.run({"prompt": "x"}, partial_images=1)
    assert outcome.status == "completed"
    assert world.said.events == []


async def test_what_the_request_says_wins(world: World) -> None:
    said: Json = {
        "model": "other",
        "size": "1536x864",
        "quality": "max",
        "background": "transparent",
        "output_format": "webp",
        "output_compression": 30,
        "moderation": "low",
        "complexity": "high",
    }
    _, wish = await world.run({"prompt": "x", "size": "1024x1024", "background": "opaque"}, **said)
    assert wish == ImageWish(
        "p",
        "x",
        model="other",
        size="1536x864",
        quality="max",
        background="transparent",
        output_format="webp",
        output_compression=30,
        moderation="low",
        more={"complexity": "high"},
    )


async def test_defaults_are_nothing(world: World) -> None:
    said: Json = dict.fromkeys(("size", "quality", "background", "moderation", "action"), "auto")
    said |= dict.fromkeys(("model", "input_fidelity", "input_image_mask", "svg", "frame_count"))
    said |= {"output_format": "png", "output_compression": 100, "partial_images": 0}
    _, wish = await world.run({"prompt": "x"}, **said)
    assert wish == ImageWish("p", "x", model="drawer")


async def test_the_model_chooses_what_is_left(world: World) -> None:
    _, wish = await world.run({"prompt": "x", "size": "1024x1536", "background": "transparent"})
    assert wish is not None
    assert (wish.size, wish.background) == ("1024x1536", "transparent")
    _, wish = await world.run({"prompt": "x", "size": "auto", "background": "auto"})
    assert wish == ImageWish("p", "x", model="drawer")


@pytest.mark.parametrize(
    ("tool", "keys"),
    [
        ({}, "prompt action images size background"),
        ({"action": "generate"}, "prompt size background"),
        ({"action": "edit"}, "prompt images size background"),
        ({"input_image_mask": {"file_id": "file-1"}}, "prompt images size background"),
        ({"size": "1024x1024", "background": "opaque"}, "prompt action images"),
        ({"output_format": "jpeg"}, "prompt action images size"),
    ],
)
async def test_the_model_sees_what_it_may_choose(world: World, tool: Json, keys: str) -> None:
    (function,) = (await world.open(**tool)).functions
    assert list(function.parameters["properties"]) == keys.split()
    assert (function.name, function.repeatable, function.timeout) == ("image_generation", True, 600)


async def test_a_server_that_cannot_edit() -> None:
    world = World(ImageRules(unsupported=frozenset({"edit", "size"})))
    (function,) = (await world.open()).functions
    assert list(function.parameters["properties"]) == ["prompt", "background"]
    _, wish = await world.run({"prompt": "x", "action": "edit", "size": "wrong"})
    assert wish == ImageWish("p", "x")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("not json", "not a JSON object"),
        ({}, "'prompt' is missing"),
        ({"prompt": " "}, "'prompt' is missing"),
        ({"prompt": 1}, "'prompt' is missing"),
        ({"prompt": "x" * 32_001}, "too long"),
        ({"prompt": "x", "action": "paint"}, "'generate' or 'edit'"),
        ({"prompt": "x", "size": "7x7"}, "'size' is one of"),
        ({"prompt": "x", "background": ["a"]}, "'background' is one of"),
        ({"prompt": "x", "action": "edit"}, "no image in this conversation"),
        ({"prompt": "x", "action": "edit", "images": 0}, "from 1 to 16"),
        ({"prompt": "x", "action": "edit", "images": True}, "from 1 to 16"),
    ],
)
async def test_a_call_that_cannot_be_run(world: World, arguments: Any, told: str) -> None:
    outcome, wish = await world.run(arguments)
    assert outcome.status == "failed"
    assert wish is None
    assert told in str(outcome.told)
    assert outcome.fields["result"] is None
    assert told in outcome.fields["error"]["message"]


async def test_an_edit_takes_the_newest_image(world: World) -> None:
    """Of the user, of tools, of earlier calls, and of this run."""
    filled = Filled({"type": "input_image", "file_id": "file-1"}, image("data:file-1"))
    items = [
        user(image("first"), image("second")),
        drawn("QUJD", output_format="webp"),
        {"type": "function_call_output", "call_id": "c", "output": [image("third")]},
        {"type": "function_call_output", "call_id": "d", "output": "text"},
        drawn(""),
        user({"type": "input_text", "text": "Change it"}, filled),
    ]
    opened = await world.open(items)
    ask = {"prompt": "new", "action": "edit"}

    async def taken(count: int) -> list[bytes]:
        outcome = await opened.run(asking({**ask, "images": count}), world.said)
        world.around.output.append({"type": "image_generation_call", **outcome.fields})
        return [picture.body for picture in world.easel.wishes[-1].images]

    assert await taken(1) == [b"data:file-1"]
    made = b"data:image/png;base64,bmV3"
    assert await taken(2) == [b"data:file-1", made]
    sent = [b"first", b"second", b"data:image/webp;base64,QUJD", b"third", b"data:file-1"]
    assert await taken(7) == [*sent, made, made]
    world.around.output[-1]["result"] = "TEFTVA=="
    world.around.output.insert(0, {"type": "image_generation_call"})  # which is not made yet
    assert (await taken(1))[0].endswith(b"TEFTVA=="), "the last in the output is the newest"
    outcome = await opened.run(asking({**ask, "images": 16}), world.said)
    assert "only 9 images" in str(outcome.told)
    opened.close()


async def test_an_edit_has_mask_and_fidelity(world: World) -> None:
    outcome, wish = await world.run(
        {"prompt": "x"},
        [user(image("a"))],
        input_image_mask={"file_id": "file-9"},
        input_fidelity="high",
    )
    assert wish is not None
    assert outcome.fields["action"] == "edit"
    assert (wish.action, wish.input_fidelity) == ("edit", "high")
    assert wish.mask == Picture(b"file-9", "image/png")


async def test_fidelity_is_for_edits_only(world: World) -> None:
    _, wish = await world.run({"prompt": "x", "action": "generate"}, input_fidelity="high")
    assert wish is not None
    assert wish.input_fidelity is None


async def test_images_that_are_too_large_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.tools.image_generation.opened.MOST_BYTES", 3)
    outcome, _ = await world.run({"prompt": "x"}, [user(image("long"))], action="edit")
    assert "too large" in str(outcome.told)


async def test_an_image_that_is_gone(world: World) -> None:
    world.album.missing.add("a")
    opened = await world.open([user(image("a"))], action="edit")
    with pytest.raises(NoSuchFile):
        await opened.run(asking({"prompt": "x"}), world.said)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (ToolFailed("No."), {"type": "server_error", "code": None, "message": "No."}),
        (
            ToolFailed("Bad.", code="moderation_blocked"),
            {"type": "image_generation_error", "code": "moderation_blocked", "message": "Bad."},
        ),
    ],
)
async def test_a_server_that_fails(world: World, trouble: ToolFailed, error: Json) -> None:
    world.easel.trouble = trouble
    outcome, _ = await world.run({"prompt": "x"})
    assert outcome == Outcome(
        {"result": None, "error": error}, "failed", f"No image was made: {error['message']}"
    )
    assert world.easel.stopped == 1


async def test_what_nobody_says_is_as_it_was_asked(world: World) -> None:
    world.easel.look, world.easel.revised = Look(), "Better"
    outcome, _ = await world.run({"prompt": "x"}, size="1024x1024", quality="high")
    fields = outcome.fields
    assert (fields["size"], fields["quality"]) == ("1024x1024", "high")
    assert (fields["background"], fields["revised_prompt"]) == ("auto", "Better")


@pytest.mark.parametrize("format_", ["gif", "svg"])
async def test_formats_of_few_servers(world: World, format_: Format) -> None:
    more: Json = {"svg": {}} if format_ == "svg" else {"frame_count": 4, "frame_duration_ms": 90}
    outcome, wish = await world.run({"prompt": "x"}, output_format=format_, **more)
    assert wish is not None
    assert (wish.output_format, wish.more) == (format_, more)
    assert outcome.fields["output_format"] == format_


async def test_a_mask_of_somebody_else(world: World) -> None:
    """R-30."""
    world.album.missing.add("file-1")
    with pytest.raises(NoSuchFile) as caught:
        await world.open(input_image_mask={"file_id": "file-1"})
    assert caught.value.param == "tools[0].input_image_mask.file_id"


async def test_without_an_image_server() -> None:
    tool = ImageGeneration(None)
    with pytest.raises(InvalidRequestError, match=r"\[image_generation\]") as caught:
        await tool.check({"type": "image_generation"}, "tools[0]", "p")
    assert caught.value.param == "tools"
    with pytest.raises(InvalidRequestError):
        tool.open({"type": "image_generation"}, Scope("p"))
    await tool.aclose()


async def test_the_end_closes_the_backend(world: World) -> None:
    await world.tool.aclose()
    assert world.easel.stopped == -1


async def test_a_call_that_was_not_run(world: World) -> None:
    opened = await world.open()
    assert opened.begin(asking({"prompt": "x"})) == {}
    outcome = opened.failed(asking("{"), "Interrupted.")
    assert outcome.fields["error"]["message"] == "Interrupted."
    assert outcome.status == "failed"


async def test_unfinished_images_come_in_order_and_as_many_as_wished() -> None:
    """Whatever the server numbers them."""
    world = World()
    world.easel.partial = [-7, 0, 0, 1, 0, 1, 5]
    await world.run({"prompt": "x"}, partial_images=2)
    shown = [fields for name, fields in world.said.events if name.endswith("partial_image")]
    assert [fields["partial_image_index"] for fields in shown if fields] == [0, 1]


@pytest.mark.parametrize(
    ("tool", "ignored"),
    [
        ({"moderation": "low"}, []),
        ({"action": "edit"}, []),
        ({"action": "edit", "moderation": "auto"}, []),
        ({"action": "edit", "moderation": "low"}, ["moderation"]),
        ({"input_image_mask": {"file_id": "file-9"}, "moderation": "low"}, ["moderation"]),
    ],
)
async def test_edits_know_no_moderation(world: World, tool: Any, ignored: list[str]) -> None:
    """Which is said (`x-antiphon-ignored`)."""
    given = {"type": "image_generation", **tool}
    assert await world.tool.check(given, "tools[0]", "p") == ignored
