"""An image server on loopback, for one test."""

from collections.abc import Iterator

import pytest

from tests.backends.upstream import ChatUpstream


@pytest.fixture
def upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream() as server:
        yield server
