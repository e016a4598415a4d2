"""An answer that the server has compressed although nobody asked for it.

Rules
1. It is unpacked as it is read, so that a small answer that becomes a large one (a "bomb") comes in
   pieces like any other.
"""

import zlib
from collections.abc import Mapping
from typing import Final, final

from antiphon.backends.answers import Answer
from antiphon.backends.http1.connection import HttpError

#: Bytes that are taken at a time.
_PIECE: Final = 64 * 1024
#: Any zlib header, or gzip's.
_EITHER: Final = zlib.MAX_WBITS | 32
#: The first byte of a part.
_GZIP: Final = 0x1F
_KNOWN: Final = frozenset({"gzip", "x-gzip", "deflate"})
#: What no library here unpacks. Anything else is no compression: some servers write "utf-8".
_UNKNOWN: Final = frozenset({"br", "zstd", "compress", "x-compress"})


def unpacked(answer: Answer) -> Answer:
    """The answer as it was before it was compressed. Raises `HttpError`; then it is closed."""
    coding = answer.headers.get("content-encoding", "").strip().lower()
    if coding in _UNKNOWN:
        answer.close()
        raise HttpError(f"compressed with {coding}, which nobody asked for")
    return _Unpacked(answer) if coding in _KNOWN else answer


@final
class _Unpacked:
    """See `Answer` and `Body`."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.status = answer.status
        self._unpack: zlib._Decompress | None = None
        #: Compressed bytes; whether there may be more to unpack without more of them.
        self._packed = b""
        self._is_more = False
        #: Closed before its end.
        self._is_cut = False

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Answer.headers`."""
        return self._answer.headers

    @property
    def content_type(self) -> str:
        """See `Answer.content_type`."""
        return self._answer.content_type

    @property
    def content(self) -> "_Unpacked":
        """See `Answer.content`."""
        return self

    async def read(self, n: int = -1) -> bytes:
        """See `Body.read`."""
        most = n if 0 < n < _PIECE else _PIECE
        if self._is_cut:
            raise HttpError("closed")
        while True:
            if not self._is_more:
                self._packed = await self._answer.content.read(_PIECE)
                if not self._packed:
                    self._check_end()
                    return b""
            if data := self._next(most):
                return data

    def at_eof(self) -> bool:
        """See `Body.at_eof`."""
        return self._answer.content.at_eof() and not self._is_more

    def close(self) -> None:
        """See `Answer.close`."""
        self._is_cut = self._is_cut or self._is_more
        self._packed, self._is_more = b"", False
        self._answer.close()

    def _next(self, most: int) -> bytes:
        """Bytes of what has come; none if there is no whole one."""
        if self._unpack is not None and self._unpack.eof and self._packed[0] != _GZIP:
            self._packed, self._is_more = b"", False  # padding
            return b""
        if self._unpack is None or self._unpack.eof:
            # The first part, or one of several: RFC 1952 §2.2. Raw "deflate" has no header.
            is_raw = self._packed[0] & 0x0F != 8 and self._packed[0] != _GZIP
            self._unpack = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _EITHER)
        unpack = self._unpack
        try:
            data = unpack.decompress(self._packed, most)
        except zlib.error as exc:
            raise HttpError(str(exc)) from None
        self._packed = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
        self._is_more = bool(self._packed) or len(data) == most
        return data

    def _check_end(self) -> None:
        if self._unpack is not None and not self._unpack.eof:
            raise HttpError("the compressed answer was cut off")
