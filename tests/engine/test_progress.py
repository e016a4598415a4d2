"""What is written down of a run can be read by the versions before and after (R-74)."""

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import pytest

from antiphon.engine.progress import Note, PendingCall, Progress
from antiphon.protocol.image_usage import ImageUsage
from antiphon.protocol.response import Usage
from antiphon.store.base import Batch, Lease, Snapshot
from tests.engine.bench import HELLO, Bench

Json = dict[str, Any]


# -- the version before hosted tools, word for word ----------------------------------------------


@dataclass
class OldUsage:
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass
class OldCall:
    name: str
    arguments: str


@dataclass
class OldProgress:
    settled: int = 0
    usage: OldUsage = field(default_factory=OldUsage)
    turns: int = 0
    pending: list[OldCall] = field(default_factory=list)
    begun: bool = False
    waits_for_client: bool = False


def old_decode(encoded: bytes) -> OldProgress:
    """It raises where it meets what it does not know."""
    kept = orjson.loads(encoded)
    kept["usage"] = OldUsage(**kept["usage"])
    kept["pending"] = [OldCall(**call) for call in kept["pending"]]
    return OldProgress(**kept)


# -- older versions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "old"),
    [
        (Progress(), OldProgress()),
        (
            Progress(3, Usage(1, 2, 3, 4), 2, waits_for_client=True),
            OldProgress(3, OldUsage(1, 2, 3, 4), 2, waits_for_client=True),
        ),
        (Progress(pending=[PendingCall("f", "")]), OldProgress(pending=[OldCall("f", "")])),
    ],
)
def test_the_version_before_reads_what_is_not_new(progress: Progress, old: OldProgress) -> None:
    assert old_decode(progress.encode()) == old


async def test_the_version_before_takes_over_a_plain_job() -> None:
    """Everything that is written of a run without tools."""
    bench = Bench(HELLO)
    append, written = bench.store.runs.append, list[bytes]()

    async def seen(lease: Lease, events: Batch, snapshot: Snapshot | None = None) -> bool:
        if snapshot is not None:
            written.append(snapshot.progress)
        return await append(lease, events, snapshot)

    bench.store.runs.append = seen  # type: ignore[method-assign]
    async with bench.working():
        made = await bench.admit()
        await bench.ended(made.id)
    assert written
    assert [old_decode(progress) for progress in written] == [OldProgress()] * len(written)


def test_a_call_that_the_version_before_began_was_begun() -> None:
    calls = [OldCall("f", "1"), OldCall("g", "2")]
    found = Progress.decode(orjson.dumps(asdict(OldProgress(1, pending=calls, begun=True))))
    assert [(call.name, call.begun) for call in found.pending] == [("f", True), ("g", False)]


def test_begun_without_a_call_means_nothing() -> None:
    old = OldProgress(1, OldUsage(1), begun=True)
    found = Progress.decode(orjson.dumps(asdict(old)))
    assert found == Progress(1, Usage(1))


# -- this version and later ones -----------------------------------------------------------------


def full() -> Progress:
    """Nothing has its default."""
    return Progress(
        settled=1,
        usage=Usage(1, 2, 3, 4),
        image_usage=ImageUsage(1, 2, 3, 4),
        turns=2,
        spent=5,
        pending=[PendingCall("f", "{}", "call_1", "mcpr_1", 0, begun=True)],
        waits_for_client=True,
        ready=True,
        refused=1,
        notes=[Note("g", "{}", "no", 1), Note("h", "{}", "no", 2, "")],
        turn_of={"ci_1": 1},
        told={"ci_1": "text", "ci_2": [{"type": "input_text", "text": "x"}]},
        sources=[["https://a.example", "A"]],
    )


def test_everything_comes_back() -> None:
    assert asdict(Progress.decode(full().encode())) == asdict(full())
    assert Progress.decode(Progress().encode()) == Progress.decode(b"") == Progress()


def test_what_a_later_version_adds_is_left_out() -> None:
    written = orjson.loads(full().encode())
    for place in (written, written["usage"], written["pending"][0], written["notes"][0]):
        place["later"] = {"a": 1}
    assert asdict(Progress.decode(orjson.dumps(written))) == asdict(full())
