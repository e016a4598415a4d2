"""A model on this machine: llama.cpp's server as it answers, behind a real child of our server
(`stand_in.py`). What an answer looks like was read off ``xllamacpp`` 2026.10."""

from pathlib import Path
from typing import Final

from gguf import GGUFWriter

from tests.backends.upstream import Reply, Step, chunk, sse
from tests.conformance.chat import ChatWire
from tests.conformance.stand_in import port_beside
from tests.conformance.wire import Break, Refusal, Turn

_SECRET: Final = "SECRET of the server"


def _error(status: int, kind: str, message: str = _SECRET) -> Reply:
    return Reply.json({"error": {"code": status, "message": message, "type": kind}}, status)


_TOO_LONG: Final = (
    f"request (9020 tokens) exceeds the available context size (8192 tokens) {_SECRET}"
)
#: In its own words. There are none for other refusals: it has no limits of rate, no other models
#: and no users; they are played in those of `ChatWire`, and are to end as everywhere.
_REFUSALS: Final[dict[Refusal | Break, Reply]] = {
    "overloaded": _error(503, "unavailable_error"),
    "broken": _error(500, "server_error"),
    "key": _error(401, "authentication_error"),
    "too_long": _error(400, "exceed_context_size_error", _TOO_LONG),
    "refused": _error(400, "invalid_request_error"),
}


class LocalWire(ChatWire):
    """See `Wire`. It has no key of the operator: the child is given one that nobody knows, and
    answers nobody without it."""

    name = kind = "local"
    settings = "threads = 1"
    keyed = False

    def reached(self, port: int, folder: Path) -> str:
        """See `Wire`: a model and the file with which it sees, of which only the heads are
        there. Its name is in the list of models, as that of a remote one."""
        model, sight = folder / "listed-1.gguf", folder / "sight.gguf"
        for path in (model, sight):
            writer = GGUFWriter(path, "llama")
            writer.add_context_length(16_384)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
        port_beside(model).write_text(str(port))
        return f'path = "{model}"\nmmproj = "{sight}"'

    def reply(self, turn: Turn) -> Reply:
        """See `Wire`: who speaks comes first, and alone."""
        first: Step = sse(chunk(role="assistant", content=None))
        return Reply(body=[first, *super().reply(turn).body])

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire`."""
        return _REFUSALS.get(fault) or super().fault(fault)
