"""Fixtures of the live API tests: plain HTTP clients of the server that all of them share."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.talk import client_of
from tests.live import OTHER_KEY, LiveServer


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[httpx2.Client]:
    """A client of the first project."""
    with client_of(server) as client:
        yield client


@pytest.fixture(scope="session")
def other(server: LiveServer) -> Iterator[httpx2.Client]:
    """A client of another project."""
    with client_of(server, OTHER_KEY) as client:
        yield client
