"""Fixtures that several folders share: one server for a whole module, one upstream a test."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve

# A busy machine is slow; that is no failure.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


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
