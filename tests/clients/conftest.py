"""Fixtures of the client tests."""

from collections.abc import Iterator

import pytest

from tests.backends.upstream import ChatUpstream
from tests.live import CHAT_TOML, LiveServer, serve


@pytest.fixture(scope="module")
def restless(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server that fills every pause with comments and events."""
    env = {"ANTIPHON_HEARTBEAT": "0.1", "ANTIPHON_EVENT_HEARTBEAT": "0.3"}
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("restless"), toml, env) as live:
        yield live
