"""Everything here runs on both event loops: asyncio's, and uvloop, which the server uses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from antiphon.backends.http1.client import Client

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See pytest-asyncio."""
    return LOOPS


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    made = Client({"User-Agent": "test"}, connect_timeout=5.0)
    yield made
    await made.aclose()
