"""Fixtures that several folders share: one server for a whole module, one upstream a test."""

import gc
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve

# A busy machine is slow; that is no failure.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

#: A module that looks at a clock, itself or through a helper.
CLOCK = re.compile(
    r"^import time$|^from tests\.(\w+\.)?(pace|watch|watching|heavy_bodies|cost|filing|raw) "
    r"|^from tests\.sandbox\.bench |asyncio\.(wait_for|timeout)\(",
    re.M,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that looks at a clock fails when four runs of it do: a shared machine may stand still
    for seconds, and that does not come back. The summary names what was run again."""
    again = pytest.mark.flaky(reruns=3, reruns_delay=5)
    for item in items:
        if _looks_at_a_clock(item.path):
            item.add_marker(again)


@cache
def _looks_at_a_clock(module: Path) -> bool:
    return CLOCK.search(module.read_text("utf-8")) is not None


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Iterator[None]:
    """What a module of tests leaves open is its own error. What stays is never looked at again: a
    worker holds millions of objects, and a full collection of them stops everything for seconds."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def server(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server in its own process, in front of the upstream and the simulator."""
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("server"), toml) as live:
        yield live


@pytest.fixture
def upstream(_upstream: ChatUpstream) -> ChatUpstream:
    """The chat-completions server behind `server`, with nothing asked yet."""
    _upstream.requests.clear()
    _upstream.script(Reply.chat("Hello"))
    return _upstream
