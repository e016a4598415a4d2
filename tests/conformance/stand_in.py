"""What stands in for the package ``xllamacpp``: a llama.cpp server that plays the test's script.

Rules
1. It has what `antiphon.backends.local.child` uses of the package. The child, its address, its key
   and the adapter are real; the model is not.
2. Who does not have the key gets llama.cpp's 401. All else is for the upstream of the test, whose
   port stands beside the file of the model; bytes and broken connections come back as they are.
"""

import asyncio
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

_REFUSED: Final = (
    b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}'
)


def installed(folder: Path) -> dict[str, str]:
    """The environment of a server that finds it in place of the package; `folder` is of the
    test."""
    package = folder / "xllamacpp"
    package.mkdir()
    names = "CommonParams, Server, llama_pooling_type"
    (package / "__init__.py").write_text(f"from {__name__} import {names}\n")
    return {"PYTHONPATH": os.pathsep.join((str(folder), *sys.path))}


def port_beside(model: Path) -> Path:
    """The file in which the upstream's port stands."""
    return model.with_suffix(".port")


llama_pooling_type: Final = SimpleNamespace(LLAMA_POOLING_TYPE_MEAN=1)


class CommonParams:
    """Takes whatever is set."""

    def __init__(self) -> None:
        self.model = SimpleNamespace(path="")
        self.mmproj = SimpleNamespace(path="")
        self.cpuparams, self.cpuparams_batch = SimpleNamespace(), SimpleNamespace()
        self.api_keys: list[str] = []


class Server:
    """Serves from a thread of its own, as the real one."""

    def __init__(self, params: Any) -> None:
        (self._key,) = params.api_keys
        self._port = int(port_beside(Path(params.model.path)).read_text())
        self._ready = threading.Event()
        self.listening_address = ""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        if not self._ready.wait(60):
            raise RuntimeError("it does not listen")

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.listening_address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if f"Authorization: Bearer {self._key}\r\n".encode() not in head:
            writer.write(_REFUSED)
            writer.close()
            return
        theirs, to_them = await asyncio.open_connection("127.0.0.1", self._port)
        to_them.write(head)
        ways = [asyncio.create_task(_carry(*way)) for way in ((reader, to_them), (theirs, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (to_them, writer):
            end.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes, until one of both ends breaks."""
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        return
