"""What must be true after any number of kills (issue 2/8, must show 1; R-62, R-65, R-66, R-68)."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import openai
import orjson

from antiphon.testing import assert_valid_beginning, assert_valid_log
from tests.api.talk import client_of
from tests.api.talk import events as parse_events
from tests.durability.tool_server import RUNS
from tests.durability.watching import RUNNING, Json, Witness
from tests.live import KEY, LiveServer, launch

#: The program that is killed.
TOOL_SERVER: Final = "tests.durability.tool_server"
#: A call of a tool that must not be repeated.
_ONCE: Final = "image_generation"


@dataclass
class Aftermath:
    """What a kill loop leaves: the last server, which still runs, and everybody who asked for
    something. `recovery`: seconds from its start to the end of the last response."""

    server: LiveServer
    witnesses: list[Witness]
    recovery: float


@dataclass
class Summary:
    """What there was; `recovery` in seconds."""

    clients: int
    statuses: Counter[str]
    taken_over: int
    calls: int
    recovery: float


def judge(aftermath: Aftermath) -> Summary:
    """Everything that must be true; one more kill at the end, after which it still is."""
    server = aftermath.server
    with client_of(server) as client:
        found = read_all(client, aftermath.witnesses)
    calls = assert_steps_ran_once(server.folder, found.logs.values())
    assert_sdk_replays(server.base_url, found)
    aftermath.server = assert_still_the_same(server, aftermath.witnesses, found)
    assert_sound(server.folder)
    return Summary(
        len(aftermath.witnesses),
        Counter(found.body(response_id)["status"] for response_id in found.bodies),
        sum(was_taken_over(log) for log in found.logs.values()),
        calls,
        aftermath.recovery,
    )


@dataclass
class Found:
    """By response id: what GET says, and the replay of background responses."""

    bodies: dict[str, bytes]
    logs: dict[str, list[bytes]]

    def body(self, response_id: str) -> Json:
        """The Response."""
        body: Json = orjson.loads(self.bodies[response_id])
        return body


def read_all(client: httpx2.Client, witnesses: Iterable[Witness]) -> Found:
    """Every response that anybody was told of, held against what they saw of it."""
    found = Found({}, {})
    for witness, response_id in ((w, id_) for w in witnesses for id_ in w.ids):
        reply = client.get(f"/v1/responses/{response_id}")
        if reply.status_code == 404:
            assert witness.may_be_gone(), witness
            continue
        found.bodies[response_id] = reply.content
        if witness.body["background"]:
            if response_id not in found.logs:
                found.logs[response_id] = final_log(client, response_id)
            assert_kept_its_word(witness, found.logs[response_id])
        if witness.cancelled is not None:
            assert witness.cancelled == reply.json()
    return found


def assert_still_the_same(
    server: LiveServer, witnesses: Iterable[Witness], found: Found
) -> LiveServer:
    """R-68: one more kill changes nothing. The server after it."""
    server.kill()
    started = launch(server.folder, [TOOL_SERVER, "serve"])
    base_url = started.wait_for_url()
    live = LiveServer(started.process, server.folder, base_url, base_url.removesuffix("/v1"))
    with client_of(live) as client:
        for witness, response_id in ((w, id_) for w in witnesses for id_ in w.ids):
            reply = client.get(f"/v1/responses/{response_id}")
            if reply.status_code == 404:
                assert witness.may_be_gone(), witness
            else:
                assert reply.content == found.bodies[response_id]
    locks = [path.name for path in server.folder.iterdir() if "-owner-" in path.name]
    assert len(locks) == 1, locks
    return live


def assert_sound(folder: Path) -> None:
    """The file is whole, and nothing in it waits for anybody."""
    with closing(sqlite3.connect(folder / "antiphon.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count = "SELECT count(*) FROM {}"
        running = "responses WHERE status IN ('queued', 'in_progress') AND deleted = 0"
        assert database.execute(count.format(running)).fetchone() == (0,)
        assert database.execute(count.format("jobs")).fetchone() == (0,)


def final_log(client: httpx2.Client, response_id: str) -> list[bytes]:
    """The events of its replay, held against the Response that GET has."""
    final: Json = client.get(f"/v1/responses/{response_id}").json()
    assert final["status"] not in RUNNING
    stream = client.get(f"/v1/responses/{response_id}", params={"stream": "true"})
    assert stream.status_code == 200, stream.text
    events = parse_events(stream.text)
    if final["status"] == "cancelled":
        assert_valid_beginning(events)
    else:
        assert assert_valid_log(events) == final
    blocks = stream.text.split("\n\n")
    return [b.partition("\ndata: ")[2].encode() for b in blocks if b.startswith("event: ")]


def was_taken_over(log: Sequence[bytes]) -> bool:
    """Whether somebody else went on with it."""
    return sum(b'"type":"response.in_progress"' in event for event in log) > 1


def assert_kept_its_word(witness: Witness, payloads: Sequence[bytes]) -> None:
    """Nothing that this client saw was said otherwise later; who read to the end saw all."""
    for number, event in witness.seen.items():
        assert payloads[number] == event, (number, event, payloads[number])
    if witness.ended:
        assert len(witness.seen) == len(payloads), (sorted(witness.seen), len(payloads))


def assert_steps_ran_once(folder: Path, logs: Iterable[Sequence[bytes]]) -> int:
    """A call whose outcome is in the log was not made again (R-66); how many calls there were."""
    starts: dict[str, list[str]] = defaultdict(list)
    finished = set()
    path = folder / RUNS
    for line in path.read_text().splitlines() if path.exists() else ():
        step, name, code, pid, _ = line.split()
        if step == "start":
            starts[code].append(line)
            assert name != _ONCE or len(starts[code]) == 1, f"made twice: {starts[code]}"
            assert len({run.split()[3] for run in starts[code]}) == len(starts[code])
        else:
            finished.add((code, pid))
    for payloads in logs:
        done = [item for item in _done(payloads) if item["type"] == "code_interpreter_call"]
        completed = [item for item in done if item["status"] == "completed"]
        codes = [item["code"] for item in completed]
        assert len(codes) == len(set(codes)), f"a finished step was repeated: {codes}"
        for item in completed:
            run = item["outputs"][0]["logs"]
            assert run == starts[item["code"]][-1], "it ran again after its outcome was known"
            assert (item["code"], run.split()[3]) in finished
    return len(starts)


def _done(payloads: Sequence[bytes]) -> list[Json]:
    events = [orjson.loads(event) for event in payloads if b'"response.output_item.done"' in event]
    return [event["item"] for event in events]


def assert_sdk_replays(base_url: str, found: Found) -> None:
    """The stream helper of openai-python reads every log whole, and from any event on."""
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        for response_id, log in found.logs.items():
            for after in (-1, len(log) // 2):
                replay(client, found.body(response_id), len(log), after)


def replay(client: openai.OpenAI, body: Json, count: int, after: int) -> None:
    """One log of `count` events, those above `after`."""
    starting_after = openai.omit if after < 0 else after
    try:
        with client.responses.stream(
            response_id=body["id"], starting_after=starting_after
        ) as stream:
            numbers = [event.sequence_number for event in stream]
            assert numbers == list(range(after + 1, count))
            if body["status"] == "completed":
                assert stream.get_final_response().output_text == body["output_text"]
    except openai.APIError as error:
        # The helper raises what the stream's ``error`` event says.
        if body["status"] != "failed" or error.code != body["error"]["code"]:
            raise
