"""Tokens of image servers (spec §7, `tool_usage.image_gen`)."""

from typing import Any

import pytest

from antiphon.protocol.image_usage import ImageUsage, read_usage


def details(text: Any, image: Any) -> dict[str, Any]:
    return {"text_tokens": text, "image_tokens": image}


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({}, ImageUsage()),
        (
            {"input_tokens": 10, "output_tokens": 272},
            ImageUsage(10, 0, 0, 272),
        ),
        (
            {
                "input_tokens": 50,
                "input_tokens_details": details(10, 40),
                "output_tokens": 300,
                "output_tokens_details": details(28, 272),
            },
            ImageUsage(10, 40, 28, 272),
        ),
        ({"input_tokens_details": details(10, 40)}, ImageUsage(10, 40)),
        ({"input_tokens": 60, "input_tokens_details": details(10, 40)}, ImageUsage(20, 40)),
        ({"input_tokens": 5, "input_tokens_details": []}, ImageUsage(5)),
        ({"input_tokens": 5, "input_tokens_details": details("9", None)}, ImageUsage(5)),
        ({"input_tokens": -1, "output_tokens": 2**53}, ImageUsage()),
        ({"input_tokens": True, "output_tokens": 1.5}, ImageUsage()),
    ],
)
def test_what_a_server_says(said: dict[str, Any], usage: ImageUsage) -> None:
    assert read_usage(said) == usage


def test_the_object_of_the_api() -> None:
    usage = ImageUsage(1, 2, 3, 4) + ImageUsage(10, 20, 30, 40)
    assert usage.body() == {
        "input_tokens": 33,
        "input_tokens_details": {"image_tokens": 22, "text_tokens": 11},
        "output_tokens": 77,
        "output_tokens_details": {"image_tokens": 44, "text_tokens": 33},
        "total_tokens": 110,
    }
    assert usage
    assert not ImageUsage()
