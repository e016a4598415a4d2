"""``/v1/chat/completions`` and ``/v1/embeddings`` with models on this machine: the real server."""

from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest

from antiphon.backends.local.refusals import refuse_addresses
from antiphon.errors import InvalidRequestError
from tests.api.talk import Json, client_of, error_of
from tests.backends.tiny_gguf import write_model
from tests.live import KEY, LiveServer, serve

ENTRY = """
[[backends]]
name = "{name}"
kind = "local"
path = "{path}"
models = ["{name}"]
threads = 1
parallel = 2
context_window = 256
"""
CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
HI: list[Json] = [{"role": "user", "content": "Hi"}]
WORDS = {"enum": [f"word {number}" for number in range(20_000)]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("local")
    toml = ""
    for name in ("talks", "vectors"):
        path = folder / f"{name}.gguf"
        write_model(path, vectors=name == "vectors")
        toml += ENTRY.format(name=name, path=path)
    with serve(folder, toml) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def sdk(server: LiveServer) -> Any:
    return openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0, timeout=60)


def test_chat(sdk: Any) -> None:
    answer = sdk.chat.completions.create(model="talks", messages=HI, max_tokens=8, seed=1)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8


def test_chat_streamed(sdk: Any) -> None:
    pieces = list(
        sdk.chat.completions.create(model="talks", messages=HI, max_tokens=8, seed=1, stream=True)
    )
    assert pieces[-1].choices[0].finish_reason == "length"
    assert len(pieces) > 2


def test_embeddings(sdk: Any) -> None:
    """openai-python asks for base64."""
    (row,) = sdk.embeddings.create(model="vectors", input="rain").data
    assert len(row.embedding) == 64
    assert sum(number**2 for number in row.embedding) == pytest.approx(1)


def test_vectors_of_texts_of_different_lengths(sdk: Any) -> None:
    """They are the same, made together or alone."""
    texts = ["rain", "sun", "rain", "a cloud"]
    together = [row.embedding for row in sdk.embeddings.create(model="vectors", input=texts).data]
    for text, vector in zip(texts, together, strict=True):
        (alone,) = sdk.embeddings.create(model="vectors", input=text).data
        assert vector == pytest.approx(alone.embedding, abs=1e-4), text


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        (CHAT, {"model": "vectors", "messages": HI}, "model", "unsupported_value"),
        ("/v1/responses", {"model": "vectors", "input": "Hi"}, "model", "unsupported_value"),
        (EMBEDDINGS, {"model": "talks", "input": "Hi"}, "model", "unsupported_value"),
        (
            EMBEDDINGS,
            {"model": "vectors", "input": "Hi", "dimensions": 8},
            "dimensions",
            "unsupported_parameter",
        ),
        (
            EMBEDDINGS,
            {"model": "vectors", "input": "x" * 300},
            "input",
            "context_length_exceeded",
        ),
        (
            CHAT,
            {
                "model": "talks",
                "messages": HI,
                "response_format": {"type": "json_schema", "json_schema": {"schema": WORDS}},
            },
            "response_format",
            None,
        ),
        (
            CHAT,
            {
                "model": "talks",
                "messages": HI,
                "tools": [{"type": "function", "function": {"name": "f", "parameters": WORDS}}],
            },
            "tools[0]",
            None,
        ),
    ],
)
def test_what_is_refused(
    client: httpx2.Client, path: str, body: Json, param: str, code: str | None
) -> None:
    """R-02: and says what to do."""
    reply = client.post(path, json=body)
    error = error_of(reply)
    assert (reply.status_code, error["param"], error["code"]) == (400, param, code), error


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "input_audio", "input_audio": {"data": "HTTPS://h/a.wav", "format": "wav"}},
    ],
)
def test_it_fetches_nothing(client: httpx2.Client, part: Json) -> None:
    """R-83: llama.cpp would, past our guard."""
    body = {"model": "talks", "messages": [*HI, {"role": "user", "content": [part]}]}
    reply = client.post(CHAT, json=body)
    assert reply.status_code == 400
    assert error_of(reply)["param"] == "messages[1].content[0]"


def test_a_sound_is_no_address() -> None:
    """R-83: of a model that hears."""
    sound = {"type": "input_audio", "input_audio": {"data": "http://h/a.wav", "format": "wav"}}
    refuse_addresses([{"type": "function_call_output", "call_id": "c", "output": "http://h"}])
    with pytest.raises(InvalidRequestError):
        refuse_addresses([{"type": "message", "role": "user", "content": [sound]}])


def test_a_picture_for_a_model_that_sees_none_is_no_failure(client: httpx2.Client) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    body = {"model": "talks", "messages": [{"role": "user", "content": [part]}]}
    error = error_of(client.post(CHAT, json=body))
    assert error["message"] == "This model takes no images."
    failed = 'antiphon_backend_calls_total{backend="talks",outcome="failed"} 0.0'
    assert failed in client.get("/metrics").text
