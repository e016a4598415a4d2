"""What a request may ask of `image_generation`: every option works, or is a 400 that names it."""

from typing import Any

import pytest

from antiphon.errors import InvalidRequestError
from antiphon.tools.image_generation.rules import ImageRules
from tests.tools.image_world import ALL, World

Json = dict[str, Any]
MASK: Json = {"file_id": "file-1"}
PLAIN = ImageRules("drawer", frozenset({"other"}))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("tool", "param", "code"),
    [
        ({"model": "secret"}, "model", "model_not_found"),
        ({"size": "large"}, "size", "invalid_value"),
        ({"size": "0x10"}, "size", "invalid_value"),
        ({"size": "8001x10"}, "size", "invalid_value"),
        ({"size": "8000x8000"}, "size", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "unsupported_parameter"),
        ({"output_format": "svg"}, "output_format", "unsupported_parameter"),
        ({"complexity": "low"}, "complexity", "unsupported_parameter"),
        ({"frame_count": 3}, "frame_count", "unsupported_parameter"),
        ({"frame_duration_ms": 3}, "frame_duration_ms", "unsupported_parameter"),
        ({"svg": {}}, "svg", "unsupported_parameter"),
        ({"output_compression": 50}, "output_compression", "invalid_value"),
        ({"output_format": "jpeg", "background": "transparent"}, "background", "invalid_value"),
        ({"action": "generate", "input_image_mask": MASK}, "input_image_mask", "invalid_value"),
        ({"action": "generate", "input_fidelity": "low"}, "input_fidelity", "invalid_value"),
        (
            {"input_image_mask": {**MASK, "image_url": "data:x"}},
            "input_image_mask",
            "invalid_value",
        ),
    ],
)
async def test_what_is_refused_is_named(tool: Json, param: str, code: str) -> None:
    world = World(PLAIN)
    with pytest.raises(InvalidRequestError) as caught:
        await world.open(**tool)
    assert (caught.value.param, caught.value.code) == (f"tools[0].{param}", code)


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"output_format": "gif", "partial_images": 1}, "partial_images"),
        ({"output_format": "gif", "input_image_mask": MASK}, "input_image_mask"),
        ({"output_format": "gif", "output_compression": 10}, "output_compression"),
        ({"output_format": "svg", "partial_images": 1}, "partial_images"),
        ({"frame_count": 3}, "frame_count"),
        ({"output_format": "gif", "svg": {}}, "svg"),
    ],
)
async def test_what_does_not_go_together(world: World, tool: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await world.open(**tool)
    assert (caught.value.param, caught.value.code) == (f"tools[0].{param}", "invalid_value")


OPTIONS: Json = {
    "background": "opaque",
    "input_fidelity": "low",
    "input_image_mask": MASK,
    "moderation": "low",
    "partial_images": 1,
    "quality": "low",
    "size": "1024x1024",
}


@pytest.mark.parametrize("option", OPTIONS)
async def test_an_option_that_the_server_lacks(option: str) -> None:
    lacking = World(ImageRules(unsupported=frozenset({option})))
    with pytest.raises(InvalidRequestError) as caught:
        await lacking.open(**{option: OPTIONS[option]})
    assert caught.value.param == f"tools[0].{option}"
    assert caught.value.code == "unsupported_parameter"
    others = OPTIONS.keys() - {option, "moderation"}  # which edits do not know
    await lacking.open(**{other: OPTIONS[other] for other in others})
    default: Json = {"partial_images": 0, "input_image_mask": {}, "input_fidelity": None}
    await lacking.open(**{option: default.get(option, "auto")})


@pytest.mark.parametrize(
    "tool", [{"action": "edit"}, {"input_image_mask": MASK}, {"input_fidelity": "low"}]
)
async def test_a_server_that_lacks_edits_refuses_them(tool: Json) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await World(ImageRules(unsupported=frozenset({"edit"}))).open(**tool)
    assert caught.value.param == f"tools[0].{next(iter(tool))}"


async def test_formats_are_never_refused() -> None:
    lacking = frozenset({"output_format", "output_compression"})
    await World(ImageRules(unsupported=lacking)).open(output_format="webp", output_compression=3)


@pytest.mark.parametrize(
    ("model", "rules"),
    [("drawer", PLAIN), ("other", PLAIN), ("any", ALL), (None, ImageRules())],
)
async def test_models_that_may_be_named(model: str | None, rules: ImageRules) -> None:
    await World(rules).open(model=model)
