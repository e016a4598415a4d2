"""``kind = "local"`` over the real server: a tiny model, loaded and asked as a large one is."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from os import kill
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.api.raw import eventually
from tests.api.shelves import Shelves
from tests.api.talk import Json, client_of, create, error_of, events
from tests.backends.tiny_gguf import CONTEXT, write_model
from tests.live import LiveServer, serve

TOML = """
[[backends]]
name = "here"
kind = "local"
path = "{path}"
models = ["tiny"]
parallel = 2
threads = 1
context_window = 8192
{more}
"""
#: An answer that takes many seconds, if nobody stops it.
LONG: Json = {"max_output_tokens": 8_000, "temperature": 0}
DELTA = b"event: response.output_text.delta"
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]{1,8}$"},
        "sure": {"type": "boolean"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
    },
    "required": ["name", "sure", "colour"],
    "additionalProperties": False,
}
ANSWER: Json = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_model(path)
    return path


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The model is loaded with its first request, and stays."""
    toml = TOML.format(path=model, more=f'[embeddings]\npath = "{model}"')
    with serve(tmp_path_factory.mktemp("local"), toml) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(server, timeout=60) as client:
        yield client


def ask(client: httpx2.Client, **body: Any) -> Json:
    return create(client, "tiny", **{"max_output_tokens": 30, **body})


def children(server: LiveServer) -> list[int]:
    """The processes that it has started (Linux)."""
    pid = server.process.pid
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def cpu_seconds(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def read_some(pieces: Iterator[bytes]) -> bytes:
    """The stream so far, once it has some text."""
    said = b""
    for piece in pieces:
        said += piece
        if said.count(DELTA) >= 3:
            return said
    raise AssertionError(said)


# -- turns ---------------------------------------------------------------------------------------


def test_a_stream(client: httpx2.Client) -> None:
    body = {"model": "tiny", "input": "Hi", "max_output_tokens": 30, "stream": True}
    said = events(client.post("/v1/responses", json=body).text)
    deltas = [event["delta"] for event in said if event["type"] == "response.output_text.delta"]
    response = said[-1]["response"]
    assert len(deltas) > 3
    assert response["output"][0]["content"][0]["text"] == "".join(deltas)
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == 30
    assert response["usage"]["input_tokens"] > 2


def test_an_answer_by_a_schema(client: httpx2.Client) -> None:
    """Even random numbers obey a grammar."""
    for _ in range(3):
        response = ask(client, text=ANSWER, max_output_tokens=400)
        assert response["status"] == "completed", response
        answer = orjson.loads(response["output"][0]["content"][0]["text"])
        assert set(answer) == {"name", "sure", "colour"}
        assert isinstance(answer["sure"], bool)
        assert answer["colour"] in ("red", "blue")


def test_an_answer_by_a_schema_that_is_cut(client: httpx2.Client) -> None:
    """In a letter of several bytes llama.cpp calls it an error."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    text = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    for _ in range(5):
        response = ask(client, text=text, max_output_tokens=50)
        if response["status"] != "completed":
            assert response["incomplete_details"] == {"reason": "max_output_tokens"}


def test_tools_and_their_results_reach_the_template(client: httpx2.Client) -> None:
    tool = {"type": "function", "name": "weather", "parameters": SCHEMA}
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "Rain."}
    said = [{"role": "user", "content": "Hi"}]
    plain = ask(client, input=said)["usage"]["input_tokens"]
    told = ask(client, input=said, tools=[tool])["usage"]["input_tokens"]
    returned = ask(client, input=[*said, call, output], tools=[tool])["usage"]["input_tokens"]
    assert plain < told < returned


def test_a_call_that_was_cut_is_no_fault_of_the_model(client: httpx2.Client) -> None:
    """llama.cpp answers 500 to what it cannot parse, and five of those would open the breaker."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a": "b'}
    output = {"type": "function_call_output", "call_id": "c", "output": "No."}
    said = [{"role": "user", "content": "Hi"}, call, output]
    assert ask(client, input=said)["status"] == "incomplete", "it never ends by itself"


def test_the_next_turn_has_the_last_one(client: httpx2.Client) -> None:
    first = ask(client)
    second = ask(client, previous_response_id=first["id"])
    assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] + 10


def test_two_at_once(client: httpx2.Client) -> None:
    """A short answer is not behind a long one, which goes on."""
    body = {"model": "tiny", "input": "Hi", "stream": True, **LONG, "max_output_tokens": 2_000}
    with client.stream("POST", "/v1/responses", json=body) as long:
        pieces = long.iter_raw()
        said = read_some(pieces)
        began = time.monotonic()
        assert ask(client)["usage"]["output_tokens"] == 30
        short = time.monotonic() - began
        said += b"".join(pieces)
        assert time.monotonic() - began > short, "it was not over"
    assert b"event: response.incomplete" in said


def test_who_leaves_stops_the_work(client: httpx2.Client, server: LiveServer) -> None:
    ask(client)
    (pid,) = children(server)
    body = {"model": "tiny", "input": "Hi", "stream": True, **LONG}
    with client.stream("POST", "/v1/responses", json=body) as reply:
        pieces = reply.iter_raw()
        read_some(pieces)
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) > before + 0.05, "it works"

    def is_quiet() -> bool:
        before = cpu_seconds(pid)
        time.sleep(0.5)
        return cpu_seconds(pid) < before + 0.03

    assert eventually(is_quiet, 5)


# -- what does not work --------------------------------------------------------------------------


def test_too_much_is_told_before_tokens_are_spent(client: httpx2.Client) -> None:
    reply = client.post("/v1/responses", json={"model": "tiny", "input": "x" * 20_000})
    assert error_of(reply)["code"] == "context_length_exceeded"
    assert reply.status_code == 400


IMAGE: Json = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
SOUND: Json = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}
LOOKED: Json = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
SHOT: Json = {"type": "computer_screenshot", "image_url": IMAGE["image_url"]}


@pytest.mark.parametrize(
    ("items", "param", "what"),
    [
        ([{"role": "user", "content": [IMAGE]}], "input[0].content[0]", "images"),
        ([{"role": "user", "content": [SOUND]}], "input[0].content[0]", "sounds"),
        (
            [LOOKED, {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}],
            "input[1].output[0]",
            "images",
        ),
        (
            [
                {"type": "computer_call", "call_id": "c", "action": {"type": "screenshot"}},
                {"type": "computer_call_output", "call_id": "c", "output": SHOT},
            ],
            "input[1].output",
            "images",
        ),
    ],
)
def test_images_and_sounds_are_for_others(
    client: httpx2.Client, items: list[Json], param: str, what: str
) -> None:
    """R-02: and it is no failure of the model."""
    error = error_of(client.post("/v1/responses", json={"model": "tiny", "input": items}))
    assert (error["message"], error["param"]) == (f"This model takes no {what}.", param)


@pytest.mark.parametrize("part", [IMAGE, SOUND])
def test_of_earlier_images_it_reads_that_they_were_there(client: httpx2.Client, part: Json) -> None:
    """A conversation goes on with it that another model began."""
    text = {"type": "input_text", "text": "What is it?"}
    kept = [create(client, "simulator", input=[{"role": "user", "content": content}])["id"]
            for content in ([text], [text, part])]  # fmt: skip
    plain, told = (ask(client, previous_response_id=one)["usage"]["input_tokens"] for one in kept)
    assert plain + 20 < told < plain + 100, "so many letters are the note"


def test_a_schema_that_would_keep_it_busy_for_hours(client: httpx2.Client) -> None:
    words = [f"word {number}" for number in range(20_000)]
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"enum": words}}}
    reply = client.post("/v1/responses", json={"model": "tiny", "input": "Hi", "text": text})
    assert error_of(reply)["param"] == "text.format.schema"


def test_nobody_else_can_ask_it(client: httpx2.Client, server: LiveServer) -> None:
    ask(client)
    (pid,) = children(server)
    port = listening(pid)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    assert httpx2.post(url, json=body, trust_env=False).status_code == 401


def listening(pid: int) -> int:
    """The port on which a process listens (Linux)."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            inodes.add(str(descriptor.readlink()))
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            assert fields[1].startswith("0100007F:"), "loopback"
            return int(fields[1].rpartition(":")[2], 16)
    raise AssertionError("it does not listen")


def test_a_model_that_breaks_is_loaded_again(client: httpx2.Client, server: LiveServer) -> None:
    ask(client)
    (pid,) = children(server)
    body = {"model": "tiny", "input": "Hi", "stream": True, **LONG}
    with client.stream("POST", "/v1/responses", json=body) as reply:
        pieces = reply.iter_raw()
        said = read_some(pieces)
        kill(pid, signal.SIGKILL)
        said += b"".join(pieces)
    assert b"event: response.failed" in said
    assert ask(client)["usage"]["output_tokens"] == 30
    assert children(server) != [pid]
    assert "local_model_ended" in server.log()


# -- loading and unloading -----------------------------------------------------------------------


def test_memory_comes_back(model: Path, tmp_path: Path) -> None:
    """Nothing is loaded before it is asked for, and nothing stays when nobody asks any more."""
    toml = TOML.format(path=model, more="idle_unload = 1")
    with serve(tmp_path, toml) as server, client_of(server, timeout=60) as client:
        assert children(server) == []
        names = [one["id"] for one in client.get("/v1/models").json()["data"]]
        assert "tiny" in names
        assert children(server) == []
        ask(client, input="warm")
        (pid,) = children(server)
        before = server.memory()
        assert eventually(lambda: children(server) == [], 10)
        assert not is_there(pid)
        for _ in range(3):
            ask(client)
            assert eventually(lambda: children(server) == [], 10)
        assert server.memory() < before + 8 * 1024 * 1024
        assert server.log().count("local_model_unloaded") == 4
        counted = 'antiphon_backend_calls_total{backend="here",outcome="ok"} 4.0'
        assert counted in client.get("/metrics").text, "over all times that it was loaded"


def test_what_nobody_waits_for_any_more_does_not_stay(model: Path, tmp_path: Path) -> None:
    toml = TOML.format(path=model, more="idle_unload = 0.1")
    with serve(tmp_path, toml) as server, client_of(server, timeout=0.05) as client:
        with pytest.raises(httpx2.ReadTimeout):
            ask(client)
        assert eventually(lambda: "local_model_loaded" in server.log(), 20)
        assert eventually(lambda: children(server) == [], 10)


def test_a_turn_that_runs_is_used(model: Path, tmp_path: Path) -> None:
    toml = TOML.format(path=model, more="idle_unload = 0.2")
    with serve(tmp_path, toml) as server, client_of(server, timeout=120) as client:
        response = ask(client, max_output_tokens=600)
        assert response["usage"]["output_tokens"] == 600
        assert server.log().count("local_model_loaded") == 1


def test_preload_and_an_end_with_the_server(model: Path, tmp_path: Path) -> None:
    with serve(tmp_path, TOML.format(path=model, more="preload = true")) as server:
        assert eventually(lambda: "local_model_loaded" in server.log(), 20)
        (pid,) = children(server)
        server.kill()
        assert eventually(lambda: not is_there(pid), 10)


def test_a_file_that_cannot_be_loaded(model: Path, tmp_path: Path) -> None:
    """Its head is right and its body is missing."""
    half = tmp_path / "half.gguf"
    half.write_bytes(model.read_bytes()[:100_000])
    with serve(tmp_path, TOML.format(path=half, more="")) as server, client_of(server) as client:
        reply = client.post("/v1/responses", json={"model": "tiny", "input": "Hi"})
        assert reply.status_code == 502
        assert "local_model_failed" in server.log()
        assert children(server) == []


# -- counting and vectors ------------------------------------------------------------------------


def test_it_counts_with_its_own_tokenizer(client: httpx2.Client) -> None:
    body = {"model": "tiny", "input": "Hi"}
    reply = client.post("/v1/responses/input_tokens", json=body)
    assert reply.headers["x-antiphon-token-count"] == "backend"
    assert reply.json()["input_tokens"] == ask(client)["usage"]["input_tokens"]


def test_its_window_is_listed(client: httpx2.Client) -> None:
    rows = {row["id"]: row for row in client.get("/v1/models").json()["data"]}
    assert rows["tiny"]["context_window"] == 8_192 < CONTEXT


def test_vectors(client: httpx2.Client, server: LiveServer) -> None:
    """Another copy of it makes them; of the same words it makes the same ones."""
    shelves = Shelves(client, server.folder)
    fox, rain = shelves.file("The quick brown fox."), shelves.file("Rain falls.")
    store = shelves.full(fox, rain)
    assert shelves.get(f"/{store}")["file_counts"]["completed"] == 2
    meaning = {"hybrid_search": {"embedding_weight": 1, "text_weight": 0}}
    best = shelves.search(store, "Rain falls.", ranking_options=meaning)[0]
    assert best["file_id"] == rain
    assert best["score"] > 0.99
