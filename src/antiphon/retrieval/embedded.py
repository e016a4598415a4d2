"""What an embeddings server is sent, and what comes back from it. Pure.

Rules
1. A vector is float32, little endian, of length 1; of what has no length (zeros, NaN) it is zeros.
2. An answer that is not what was asked for, to the last vector, is `Malformed`: a vector that went
   to the wrong text would never be noticed.
3. The server's text is only matched, never shown (R-42).
"""

import base64
import math
import re
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from antiphon.errors import APIError, RateLimitError, UpstreamError, UpstreamTimeout
from antiphon.retrieval.words import clean

#: The longest vector that is taken.
_MOST_DIMENSIONS: Final = 65_536
#: Longer waits of a server are capped, in seconds.
_LONGEST_WAIT: Final = 3600.0
#: The words of OpenAI, vLLM, llama.cpp, TEI, Ollama and others.
_TOO_LONG: Final = re.compile(
    r"context.?length|context.?size|context.?window|maximum.{0,20}(length|tokens)|too (long|large)"
    r"|too many tokens|must have less than|input.{0,20}(exceeds|larger than)",
    re.IGNORECASE,
)


class Malformed(Exception):
    """An answer that cannot be used; the message is for the log."""


def failed() -> UpstreamError:
    """What a client hears when the server cannot do its work."""
    return UpstreamError(
        "The embedding model failed. The operator of this server can find the cause in its log."
    )


def late() -> UpstreamTimeout:
    """What a client hears when it takes too long."""
    return UpstreamTimeout("The embedding model did not answer in time.")


def batches(texts: Sequence[str], most: int, characters: int) -> Iterator[list[str]]:
    """The texts in groups of at most so many, and so many characters where it has several."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and (len(batch) == most or size + len(text) > characters):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch


def body(texts: Sequence[str], model: str, dimensions: int | None) -> bytes:
    """The request; no text of it is empty, since servers refuse that."""
    fields: dict[str, Any] = {
        "model": model,
        "input": [clean(text) or " " for text in texts],
        "encoding_format": "float",
    }
    if dimensions is not None:
        fields["dimensions"] = dimensions
    return orjson.dumps(fields)


def read_vectors(answer: bytes, count: int, dimensions: int | None) -> list[bytes]:
    """The vectors, in the order of the texts. Raises `Malformed`."""
    try:
        rows = orjson.loads(answer)["data"]
        if not isinstance(rows, list) or len(rows) != count:
            raise Malformed(f"not {count} vectors")
        places = [row.get("index", at) for at, row in enumerate(rows)]
        if sorted(places) != list(range(count)):
            raise Malformed("vectors of other texts")
        vectors = [b""] * count
        for place, row in zip(places, rows, strict=True):
            vectors[place] = _vector(row["embedding"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Malformed(f"no vectors: {type(error).__name__}") from None
    sizes = {len(vector) // 4 for vector in vectors}
    if len(sizes) != 1 or dimensions not in (None, *sizes):
        raise Malformed(f"vectors of {sorted(sizes)} dimensions")
    return vectors


def error_for_status(status: int, said: bytes) -> APIError:
    """The error for an answer with another status than 200."""
    match status:
        case 408 | 504:
            return late()
        case 429:
            return RateLimitError("The embedding model has reached its rate limit.")
        # 500: llama.cpp.
        case 400 | 413 | 422 | 500 if status == 413 or _TOO_LONG.search(
            said.decode(errors="replace")
        ):
            return UpstreamError(
                "A text is too long for the embedding model. Use smaller chunks.",
                should_retry=False,
            )
    return failed()


def wait_of(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that ``Retry-After`` asks for; None when it does not. `now` is Unix time."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value):
        return min(float(value), _LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, until - now), _LONGEST_WAIT)


def _vector(value: Any) -> bytes:
    """Numbers, or float32 in base64. Raises ValueError, TypeError or OverflowError."""
    floats = array("f")
    if isinstance(value, str):
        floats.frombytes(base64.b64decode(value, validate=True))
        if sys.byteorder == "big":
            floats.byteswap()
    else:
        floats.extend(value)
    if not 0 < len(floats) <= _MOST_DIMENSIONS:
        raise ValueError("an empty vector, or a huge one")
    length = math.sqrt(math.fsum(number * number for number in floats))
    factor = 1 / length if length and math.isfinite(length) else 0.0
    unit = array("f", [number * factor if factor else 0.0 for number in floats])
    if sys.byteorder == "big":
        unit.byteswap()
    return unit.tobytes()
