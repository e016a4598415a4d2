"""The query of stored responses: as strict as a body (spec §2.1, §6)."""

from typing import Any

import httpx2
import pytest

from tests.api.talk import create, error_of

Error = dict[str, Any]


@pytest.fixture
def made(client: httpx2.Client) -> str:
    """The path of a stored response."""
    return f"/v1/responses/{create(client, 'simulator')['id']}"


def refusal(client: httpx2.Client, url: str) -> Error:
    reply = client.get(url)
    assert reply.status_code == 400, reply.text
    return error_of(reply)


@pytest.mark.parametrize("path", ["", "/input_items"])
@pytest.mark.parametrize("name", ["include", "include[]"])
def test_include_means_the_same_with_and_without_brackets(
    name: str, path: str, made: str, client: httpx2.Client
) -> None:
    good = f"{made}{path}?{name}=message.input_image.image_url"
    assert client.get(good).status_code == 200
    assert refusal(client, f"{good}&{name}=bogus")["param"] == "include[1]"


@pytest.mark.parametrize("path", ["?", "/input_items?limit=0&"])
def test_an_unknown_parameter_is_named_first(path: str, made: str, client: httpx2.Client) -> None:
    """R-02; the order is OpenAI's."""
    error = refusal(client, f"{made}{path}colour=red")
    assert (error["code"], error["param"]) == ("unknown_parameter", "colour")
    assert error["message"] == "Unknown parameter: 'colour'."


def test_what_is_repeated_is_short_and_printable(made: str, client: httpx2.Client) -> None:
    """R-24"""
    for query in ("after=", ""):
        error = refusal(client, f"{made}/input_items?{query}%1b%0a{'x' * 5000}")
        assert error["message"].isprintable()
        assert len(error["message"]) < 200
        assert len(error["param"]) < 200


@pytest.mark.parametrize("value", ["1.0", "1_0", "%201", "+1", "1e1", "%D9%A1"])
@pytest.mark.parametrize("place", ["/input_items?limit", "?starting_after"])
def test_an_integer_is_digits(place: str, value: str, made: str, client: httpx2.Client) -> None:
    error = refusal(client, f"{made}{place}={value}")
    assert (error["code"], error["param"]) == ("invalid_value", place.partition("?")[2])
