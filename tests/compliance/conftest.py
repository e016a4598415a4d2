"""Where the compliance cases are asked: a server of their own, before the simulator and before the
chat-completions backend with a model that answers like vLLM."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.api.talk import client_of
from tests.compliance.asking import PATIENCE
from tests.compliance.chat_model import MODEL, ChatModel
from tests.live import CHAT_TOML, LiveServer, serve


@pytest.fixture(scope="session")
def tested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The server under test."""
    with ChatModel() as upstream:
        toml = CHAT_TOML.format(base_url=upstream.base_url)
        with serve(tmp_path_factory.mktemp("compliance"), toml) as live:
            yield live


@pytest.fixture(scope="session")
def suite(tested: LiveServer) -> Iterator[httpx2.Client]:
    """The suite's side of HTTP: a Bearer key, JSON, 30 seconds."""
    with client_of(tested, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(params=["simulator", MODEL])
def model(request: pytest.FixtureRequest) -> str:
    """The simulator, and a model behind the chat-completions backend."""
    name: str = request.param
    return name
