"""Providers by way of any-llm: what is sent, what errors mean, what a configuration may say, and
what a real process does. `tests/conformance` has the rest, over Cohere's and Bedrock's wire."""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from antiphon.app import Antiphon
from antiphon.backends.any_llm.faults import Fault, event_of, fault_of
from antiphon.backends.any_llm.request import check_request, library_body
from antiphon.backends.any_llm.traits import Traits, traits_of
from antiphon.backends.chat_completions.faults import error_for_status, error_in_stream
from antiphon.config import ConfigError
from antiphon.errors import APIError, InvalidRequestError
from antiphon.settings import Settings
from tests.api.talk import Json, client_of
from tests.backends.asking import prompt
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.bedrock import BedrockWire
from tests.conformance.library import library_path
from tests.conformance.wire import Turn
from tests.live import LiveServer, serve

ENTRY: Final = '[[backends]]\nname = "a"\nkind = "any_llm"\n'
CHAT: Final = '[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "http://h/v1"\n'
FUNCTION: Final = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object"},
    "strict": True,
}
IMAGE: Final = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}


def traits(provider: str, **said: bool) -> Traits:
    return traits_of(provider, **{"speaks_chat": False, "reasons": True, "sees": True, **said})


def sent(provider: str, **parameters: object) -> Json:
    body: Json = orjson.loads(library_body(prompt(**parameters), traits(provider)))
    return body


# -- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "choice", "expected"),
    [
        ("cohere", "auto", None),
        ("cohere", "none", "NONE"),
        ("cohere", "required", "REQUIRED"),
        ("cohere", {"type": "function", "name": "look"}, "REQUIRED"),
        ("bedrock", "required", "required"),
        ("mistral", {"type": "function", "name": "look"}, {"name": "look"}),
        ("some-other", "none", "none"),
    ],
)
def test_a_choice_of_tools_in_the_words_of_the_provider(
    provider: str, choice: Any, expected: Any
) -> None:
    body = sent(provider, tools=[FUNCTION], tool_choice=choice)
    said = body.get("tool_choice")
    assert (said["function"] if isinstance(said, dict) else said) == expected
    assert len(body["tools"]) == 1


def test_who_cannot_be_told_to_call_nothing_gets_no_tools() -> None:
    body = sent("bedrock", tools=[FUNCTION], tool_choice="none")
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & body.keys()


def test_what_any_llm_would_leave_out_is_reported() -> None:
    asked: Json = {
        "tools": [FUNCTION],
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium"},
    }
    assert check_request(prompt(**asked).request, traits("bedrock")) == [
        "parallel_tool_calls",
        "reasoning.effort",
        "tools[0].strict",
    ]
    body = sent("bedrock", **asked)
    assert "reasoning_effort" not in body
    assert "strict" not in body["tools"][0]["function"]
    assert check_request(prompt(**asked).request, traits("mistral")) == ["reasoning.effort"]
    assert check_request(prompt(**asked).request, traits("x", speaks_chat=True)) == []
    silent = traits("x", reasons=False)
    assert "reasoning.effort" in check_request(prompt(**asked).request, silent)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0]"),
    ],
)
def test_what_cannot_be_had_is_refused(asked: Json, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_request(prompt(**asked).request, traits("some-other", sees=False))
    assert caught.value.param == param
    chat = traits("some-other", speaks_chat=True, sees=False)
    assert check_request(prompt(**asked).request, chat) == []


@pytest.mark.parametrize(
    ("provider", "sounds", "videos"),
    [("bedrock", False, False), ("vertexai", True, False), ("cohere", False, False)],
)
def test_what_any_llm_would_leave_out_of_a_message(
    provider: str, *, sounds: bool, videos: bool
) -> None:
    """Its adapter of Google passes over videos without a word."""
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    video = {"type": "input_video", "video_url": "https://example.com/a.mp4"}
    for part, taken in ((sound, sounds), (video, videos)):
        request = prompt(input=[{"role": "user", "content": [part]}]).request
        if taken:
            assert check_request(request, traits(provider)) == []
        else:
            with pytest.raises(InvalidRequestError) as caught:
                check_request(request, traits(provider))
            assert caught.value.param == "input[0].content[0]"


def test_what_converse_would_lose_is_said_in_another_way() -> None:
    """any-llm sends one system message, and takes every result that is JSON for an object."""
    history = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "And?"},
    ]
    messages = sent("bedrock", input=history, instructions="Be kind.")["messages"]
    assert [message["role"] for message in messages] == [
        *("system", "user", "assistant", "tool", "user", "user")
    ]
    assert messages[3]["content"] == '{"output":42}'
    assert messages[4]["content"] == "<system_message>\nBe brief.\n</system_message>"
    plain = sent("cohere", input=history, instructions="Be kind.", top_p=0.5)
    assert plain["messages"][3]["content"] == "42"
    assert (plain["p"], "top_p" in plain) == (0.5, False)


def test_mistral_takes_ids_of_nine_characters_only() -> None:
    calls = ("call_1", "D681PevKs")
    history = [
        {"role": "user", "content": "Hi"},
        *({"type": "function_call", "call_id": id_, "name": "f", "arguments": ""} for id_ in calls),
        *({"type": "function_call_output", "call_id": id_, "output": id_} for id_ in calls[::-1]),
    ]
    messages = sent("mistral", input=history)["messages"]
    first, second = (made["id"] for made in messages[1]["tool_calls"])
    assert (len(first), first.isalnum(), second) == (9, True, "D681PevKs")
    assert [(one["tool_call_id"], one["content"]) for one in messages[2:]] == [
        (first, "call_1"),
        (second, "D681PevKs"),
    ]


# -- what errors mean -----------------------------------------------------------------------------


class AnError(Exception):
    """As any-llm's are."""

    def __init__(self, text: str = "no", original: Exception | None = None, **said: object) -> None:
        super().__init__(text)
        self.message = text
        self.original_exception = original
        self.status_code: int | None = None
        self.__dict__.update(said)


def named(name: str, text: str = "no", **said: Any) -> AnError:
    made: AnError = type(name, (AnError,), {})(text, **said)
    return made


class ClientError(Exception):
    """As botocore's are."""

    def __init__(self, code: str, status: int | None = None, **headers: str) -> None:
        super().__init__(code)
        about = {} if status is None else {"HTTPStatusCode": status, "HTTPHeaders": headers}
        self.response = {"Error": {"Code": code}, "ResponseMetadata": about}


class ReadTimeoutError(Exception):
    """As in many SDKs."""


class ParamValidationError(Exception):
    """As botocore's is."""


def error_of(error: Exception, *, early: bool = True) -> APIError | OSError:
    fault = fault_of(error, early=early)
    if isinstance(fault, OSError):
        return fault
    return error_for_status(fault.status, fault.body, "alias")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (named("RateLimitError", status_code=429), 429, "rate_limit_exceeded"),
        (named("AuthenticationError", status_code=401), 502, "server_error"),
        (named("InsufficientFundsError", status_code=402), 502, "server_error"),
        (named("ModelNotFoundError", status_code=404), 400, "model_not_found"),
        (named("ProviderError", status_code=500), 502, "server_error"),
        (named("GatewayTimeoutError", status_code=504), 504, "server_error"),
        (named("ContextLengthExceededError", status_code=400), 400, "context_length_exceeded"),
        (
            named("InvalidRequestError", "too many tokens", status_code=400),
            *(400, "context_length_exceeded"),
        ),
        (named("ContentFilterError", status_code=400), 400, None),
        (named("MissingApiKeyError"), 502, "server_error"),
        (named("UnsupportedParameterError", parameter_name="strict"), 400, "unsupported_parameter"),
        (
            named("UnsupportedParameterError", parameter_name="response_format with stream=True"),
            *(400, "unsupported_parameter"),
        ),
        # The class is a guess by words, the code is not.
        (
            named("AuthenticationError", original=ClientError("ThrottlingException", 429)),
            *(429, "rate_limit_exceeded"),
        ),
        (
            named("ProviderError", original=ClientError("ModelErrorException", 424)),
            *(502, "server_error"),
        ),
        (named("ProviderError", original=ClientError("Other", 403)), 502, "server_error"),
        # Before anything was sent.
        (named("InvalidRequestError", original=TypeError("unexpected keyword")), 400, None),
        (named("InvalidRequestError", original=ParamValidationError("bad")), 400, None),
        (ValueError("not valid"), 400, None),
        (NotImplementedError("no"), 400, None),
    ],
)
def test_an_error_is_what_a_server_would_have_said(
    error: Exception, status: int, code: str | None
) -> None:
    made = error_of(error)
    assert isinstance(made, APIError)
    assert (made.status, made.code) == (status, code)
    assert "no" not in made.message.split()


@pytest.mark.parametrize(
    ("error", "early", "late"),
    [
        (named("ProviderError", original=ConnectionError("cut")), True, False),
        # `auth` is in the words of the message.
        (named("AuthenticationError", original=Exception("author")), True, False),
        (named("ProviderError", original=ReadTimeoutError("slow")), True, True),
        (named("InvalidRequestError", original=ValueError("no JSON")), False, False),
        # An answer that the SDK cannot read.
        (named("ProviderError", status_code=200), False, False),
    ],
)
def test_what_no_server_has_said_is_a_broken_connection(
    error: Exception, *, early: bool, late: bool
) -> None:
    made = error_of(error, early=early)
    assert isinstance(made, OSError)
    assert isinstance(made, TimeoutError) is late


def test_how_long_to_wait() -> None:
    """R-39."""
    told = fault_of(named("RateLimitError", status_code=429, retry_after="7"), early=True)
    assert isinstance(told, Fault)
    assert told.headers == {"retry-after": "7"}
    aws = ClientError("ThrottlingException", 429, **{"retry-after": "3", "x": "y"})
    told = fault_of(named("RateLimitError", original=aws, retry_after=None), early=True)
    assert isinstance(told, Fault)
    assert told.headers == {"retry-after": "3"}


def test_an_error_in_the_middle_of_a_stream() -> None:
    fault = fault_of(
        named("RateLimitError", original=ClientError("ThrottlingException")), early=False
    )
    assert isinstance(fault, Fault)
    event = orjson.loads(event_of(fault).removeprefix(b"data: "))
    assert error_in_stream(event["error"]).status == 429


# -- what a configuration may say -----------------------------------------------------------------


def start(tmp_path: Path, text: str) -> None:
    """Raises `ConfigError`."""
    path = tmp_path / "antiphon.toml"
    path.write_text(text, encoding="utf-8")
    Antiphon(Settings(config=path, data_dir=tmp_path / "data", database_url="memory://"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ENTRY, "needs a provider"),
        (ENTRY + 'provider = "cohere"\nconnect_timeout = 1\n', "'connect_timeout' is not for kind"),
        (ENTRY + 'provider = "cohere"\nclient_key = true\n', "'client_key' is not for kind"),
        (ENTRY + 'provider = "cohere"\nheaders = {a = "b"}\n', "'headers' is not for kind"),
        (ENTRY + 'provider = "cohere"\napi_key_env = "NOT_SET"\n', "NOT_SET is not set"),
        (CHAT + 'provider = "cohere"\n', "'provider' is for kind 'any_llm'"),
        (CHAT + "options = {a = 1}\n", "'options' is for kind 'any_llm'"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        start(tmp_path, text)


def test_without_the_package_it_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "antiphon.app.any_llm.find_spec", lambda name: None if name == "any_llm" else found(name)
    )
    with pytest.raises(ConfigError, match=r"pip install 'antiphon\[any-llm\]'"):
        start(tmp_path, ENTRY + 'provider = "cohere"\n')


#: Entry → why it cannot be.
UNASKABLE: Final = {
    'provider = "groq"': "pip install 'any-llm-sdk[groq]'",
    'provider = "nobody"': "'nobody' is not a supported provider",
    'provider = "cohere"': "No cohere API key provided",
    'provider = "cohere"\noptions = {nothing = 1}\napi_key_env = "PATH"': "nothing",
    'provider = "vertexai"\nbase_url = "http://h"': "any-llm takes no base_url",
}
#: Makes a backend of each entry, and prints why not.
TRY: Final = """
import json, sys
from pathlib import Path
from antiphon.app.any_llm import any_llm_of
from antiphon.config import ConfigError, load_config
for text in json.load(sys.stdin):
    Path("a.toml").write_text(text)
    try:
        any_llm_of(load_config(Path("a.toml")).backends[0])
    except ConfigError as error:
        print(json.dumps(str(error)))
"""


def test_a_provider_that_cannot_be_asked(tmp_path: Path) -> None:
    """It is known at the start, not with the first request."""
    done = subprocess.run(
        [sys.executable, "-c", TRY],
        cwd=tmp_path,
        input=orjson.dumps([ENTRY + entry for entry in UNASKABLE]),
        env={"PATH": "any", "PYTHONPATH": library_path()},
        capture_output=True,
        check=True,
    )
    reasons = [orjson.loads(line) for line in done.stdout.splitlines()]
    for reason, expected in zip(reasons, UNASKABLE.values(), strict=True):
        assert expected in reason


# -- what a process does --------------------------------------------------------------------------

BEDROCK: Final = BedrockWire()
#: Not even a status line.
SILENCE: Final = Reply(body=["stall"], raw=True)


@pytest.fixture(scope="module")
def theirs() -> Iterator[ChatUpstream]:
    with ChatUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def live(theirs: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    base_url = f"http://127.0.0.1:{theirs.port}"
    more = f'base_url = "{base_url}"\nmax_retries = 0\nfirst_byte_timeout = 1\n'
    toml = f"{ENTRY}{BEDROCK.settings}\n{more}"
    with serve(tmp_path_factory.mktemp("live"), toml, BEDROCK.environment(theirs.port)) as server:
        yield server


def test_an_sdk_that_blocks_holds_up_nobody(theirs: ChatUpstream, live: LiveServer) -> None:
    """Ten turns of which nothing more comes: the server answers others, and ends them all."""
    theirs.requests.clear()
    theirs.script(BEDROCK.fault("stall"))
    body = {"model": "m", "input": "Hi", "background": True, "stream": False}
    with client_of(live) as api:
        made = [api.post("/v1/responses", json=body).json()["id"] for _ in range(10)]
        while len(theirs.requests) < 10:
            time.sleep(0.02)
        assert api.get("/health/ready").status_code == 200
        simulated = api.post("/v1/responses", json={"model": "simulator", "input": "Hi"})
        assert simulated.json()["status"] == "completed"
        for response_id in made:
            api.post(f"/v1/responses/{response_id}/cancel")
        assert all(request.left.wait(5) for request in theirs.requests)


def test_an_answer_that_does_not_begin(theirs: ChatUpstream, live: LiveServer) -> None:
    """R-44: our own limit, whatever the SDK would wait."""
    theirs.script(SILENCE)
    with client_of(live) as api:
        reply = api.post("/v1/responses", json={"model": "m", "input": "Hi"})
        assert reply.status_code == 504
        theirs.script(BEDROCK.reply(Turn(["Hello"])))
        assert api.post("/v1/responses", json={"model": "m", "input": "Hi"}).status_code == 200


def test_a_thread_that_waits_does_not_keep_the_process(tmp_path: Path) -> None:
    with ChatUpstream() as upstream:
        upstream.script(SILENCE)
        base_url = f"http://127.0.0.1:{upstream.port}"
        toml = f'{ENTRY}{BEDROCK.settings}\nbase_url = "{base_url}"\n'
        env = {**BEDROCK.environment(upstream.port), "ANTIPHON_SHUTDOWN_GRACE": "0.5"}
        with serve(tmp_path, toml, env) as server, client_of(server) as api:
            body = {"model": "m", "input": "Hi", "background": True}
            assert api.post("/v1/responses", json=body).status_code == 200
            while not upstream.requests:
                time.sleep(0.02)
            server.process.terminate()
            assert server.process.wait(timeout=30) == 0
