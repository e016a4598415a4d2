"""The process in which a model runs: llama.cpp with its own HTTP server, by ``xllamacpp``.

Rules
1. stdin has one line of JSON, what to load (`Load`). stdout gets one line of JSON: ``{"url": …}``
   once it can be asked, or ``{"error": …}``.
2. It listens on loopback, at any free port, and answers nobody who does not have the key.
3. It ends with its stdin, and on Linux with the server itself. Nothing of it is on disk.
4. It never looks anything up on the network: models are files, images come as bytes.
"""

import os
import sys
from typing import Any

import orjson

from antiphon.workers_side import depend


def main() -> None:
    """Load, say so, and serve until stdin ends."""
    if sys.platform == "linux":
        depend()
    # What a library prints must not get between.
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        served = _served(orjson.loads(sys.stdin.buffer.readline()))
    except RuntimeError as error:
        sink.write(orjson.dumps({"error": str(error)}) + b"\n")
        return
    sink.write(orjson.dumps({"url": served.listening_address}) + b"\n")
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)  # the system takes everything back, at once


def _served(load: dict[str, Any]) -> Any:
    import xllamacpp  # noqa: PLC0415

    params = xllamacpp.CommonParams()
    params.model.path = load["path"]
    params.api_keys = [load["key"]]
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.offline = True
    params.ui = params.endpoint_slots = False
    params.verbosity = 1  # errors
    # Each turn has a window of its own; what is idle is not kept beside it.
    params.n_parallel = load["parallel"]
    params.n_ctx = load["window"] * load["parallel"]
    params.kv_unified = False
    params.cache_ram_mib = 0
    if load["threads"] is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = load["threads"]
    if load["mmproj"] is not None:
        params.mmproj.path = load["mmproj"]
    if load["vectors"]:
        params.embedding = True
        # A text is one piece; apart, texts of different lengths would be cut to equal ones, and the
        # mean of each be that of its last.
        params.n_batch = params.n_ubatch = load["window"]
        params.kv_unified = True
        if not load["pooling"]:
            params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
