"""Finding model servers on this machine, for a start without a configuration file.

Rules
1. Loopback only, briefly, all ports at once; what does not answer like a model list is not there.
2. Our own port is never asked: vLLM's default is ours too.
"""

import http.client
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

#: Server → its usual port.
PORTS: Final[Mapping[str, int]] = {
    "ollama": 11434,
    "lmstudio": 1234,
    "llama.cpp": 8080,
    "vllm": 8000,
}
_TIMEOUT_SECONDS: Final = 0.5
_MAX_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A model server that answered: `profile` is also its name."""

    profile: str
    base_url: str
    models: tuple[str, ...]


def discover(own_port: int, ports: Mapping[str, int] = PORTS) -> list[LocalServer]:
    """The servers that list models now, in the order of `ports`."""
    asked = [(profile, port) for profile, port in ports.items() if port != own_port]
    with ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
        found = pool.map(lambda server: _ask(*server), asked)
    return [server for server in found if server is not None]


def _ask(profile: str, port: int) -> LocalServer | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v1/models")
        answer = connection.getresponse()
        listed = json.loads(answer.read(_MAX_BYTES)) if answer.status == 200 else {}
        models = tuple(str(row["id"]) for row in listed["data"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
    return LocalServer(profile, f"http://127.0.0.1:{port}/v1", models)
