"""Fixtures of the live API tests: plain HTTP clients of the server that all of them share."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.shelves import IDLE, Shelves
from tests.api.talk import client_of
from tests.live import OTHER_KEY, LiveServer, serve


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


@pytest.fixture
def shelves(client: httpx2.Client, server: LiveServer) -> Shelves:
    """Files and vector stores of the first project."""
    return Shelves(client, server.folder)


@pytest.fixture(scope="session")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelves]:
    """Those of a server that reads no file."""
    with serve(tmp_path_factory.mktemp("idle"), "", IDLE) as server, client_of(server) as client:
        yield Shelves(client, server.folder)
