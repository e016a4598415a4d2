"""An upstream on loopback and a backend that talks to it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from tests.backends.asking import KEY, using
from tests.backends.upstream import ChatUpstream


@pytest.fixture
def upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        yield server


@pytest.fixture
def config(upstream: ChatUpstream) -> UpstreamConfig:
    return UpstreamConfig(
        "gpu-box",
        upstream.base_url,
        api_key=KEY,
        first_byte_timeout=5.0,
        idle_timeout=5.0,
        breaker=BreakerSettings(failures=100),
    )


@pytest.fixture
async def backend(config: UpstreamConfig) -> AsyncIterator[ChatCompletions]:
    async with using(config) as made:
        yield made
