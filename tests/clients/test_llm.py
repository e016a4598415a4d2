"""`llm`, the command line, against a real server: as a Responses client, and over chat completions.

Rules
1. Its models stand in ``extra-openai-models.yaml``; with ``responses: true`` it speaks the
   Responses API, without it chat completions, which are passed on to the backend.
2. Its folder, with its key and its log, is one of the test.
"""

import json
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import (
    ADA,
    SUNNY,
    TWO_CALLS,
    assert_both_ran,
    python_client,
    python_lock,
    run_flows,
)
from tests.live import KEY, LiveServer

VERSION: Final = "0.36"
MODEL: Final = """
- model_id: {name}
  model_name: m
  api_base: {base_url}
  api_key_name: antiphon
  responses: {responses}
  supports_tools: true
  supports_schema: true
  vision: true
"""
#: Model → what it answers with.
OBJECTS: Final = {"responses": "response", "chat": "chat.completion.chunk"}
WEATHER: Final = '''
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"
'''
PNG: Final = b"\x89PNG\r\n\x1a\n" + b"\0" * 16


class Llm:
    """The command, in a folder of its own."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self._server = server
        self._env = {
            "PYTHONPATH": str(python_client("clients-llm")),
            "LLM_USER_PATH": str(folder),
        }
        models = (
            MODEL.format(name=name, base_url=server.base_url, responses=responses)
            for name, responses in {"responses": "true", "chat": "false"}.items()
        )
        (folder / "extra-openai-models.yaml").write_text("".join(models), encoding="utf-8")
        (folder / "keys.json").write_text(json.dumps({"antiphon": KEY}), encoding="utf-8")

    def __call__(self, *arguments: str) -> str:
        """What it prints."""
        command = [sys.executable, "-m", "llm", *arguments]
        return run_flows(command, self._server, **self._env).strip()


@pytest.fixture
def llm(server: LiveServer, tmp_path: Path) -> Llm:
    return Llm(server, tmp_path)


@pytest.mark.parametrize("model", OBJECTS)
def test_a_conversation(llm: Llm, upstream: ChatUpstream, model: str) -> None:
    assert llm("--version").endswith(VERSION)
    upstream.script(Reply.chat("Hello ", "Ada."), Reply.chat("Ada."))
    assert llm("-m", model, "-s", "Be brief.", "My name is Ada.") == "Hello Ada."
    assert llm("-m", model, "-c", "My name?") == "Ada."
    (logged,) = json.loads(llm("logs", "-n", "1", "--json"))
    assert logged["response_json"]["object"] == OBJECTS[model]
    told = [message["content"] for message in upstream.requests[1].json["messages"]]
    assert told == ["Be brief.", "My name is Ada.", "Hello Ada.", "My name?"]


@pytest.mark.parametrize("model", OBJECTS)
def test_tools(llm: Llm, upstream: ChatUpstream, model: str) -> None:
    upstream.script(TWO_CALLS, SUNNY)
    assert llm("-m", model, "--functions", WEATHER, "Paris and Rome?") == "Both are sunny."
    assert_both_ran(upstream.requests[1].json["messages"], "sunny in Paris", "sunny in Rome")


def test_a_schema_and_an_image(llm: Llm, upstream: ChatUpstream, tmp_path: Path) -> None:
    (tmp_path / "ada.png").write_bytes(PNG)
    upstream.script(ADA)
    shown = llm("-m", "responses", "--schema", "name, age int", "-a", f"{tmp_path}/ada.png", "Who?")
    assert json.loads(shown) == {"name": "Ada", "age": 36}
    (request,) = upstream.requests
    assert request.json["response_format"]["type"] == "json_schema"
    kinds = [part["type"] for part in request.json["messages"][0]["content"]]
    assert kinds == ["text", "image_url"]


def test_the_lock_names_no_address() -> None:
    assert f"\nllm=={VERSION} " in python_lock("clients-llm")
