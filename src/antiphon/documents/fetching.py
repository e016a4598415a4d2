"""Files and images at addresses that requests name, through the guarded way out (R-83 to R-86)."""

from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote

import structlog
from yarl import URL

from antiphon.documents.base import Fetched
from antiphon.egress import BadURL, Egress, SendError
from antiphon.egress_pages import Ask, ReadLimits, TooLarge, read
from antiphon.errors import InvalidRequestError

_log = structlog.get_logger(__name__)

#: Seconds for all of it.
_PATIENCE: Final = 30.0
_NAME: Final = 255


class GuardedFetcher:
    """See `Fetcher`."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    async def fetch(
        self, url: str, most_bytes: int, take: Callable[[int], Awaitable[None]]
    ) -> Fetched:
        """See `Fetcher`."""
        limits = ReadLimits(total=_PATIENCE, sent=most_bytes, unpacked=most_bytes, take=take)
        try:
            answer = await read(self._egress, Ask(url), limits)
        except BadURL as error:
            raise InvalidRequestError(f"The URL cannot be requested: {error}.") from None
        except TooLarge:
            raise InvalidRequestError(
                f"What is at the URL is too large: the limit is {most_bytes} bytes."
            ) from None
        except SendError as error:
            _log.info("file_url_failed", reason=str(error))
            raise InvalidRequestError("Error while downloading the file at the URL.") from None
        if answer.status != 200:
            raise InvalidRequestError(
                f"Error while downloading the file at the URL: status code {answer.status}."
            )
        return Fetched(answer.body, _name(answer.url))


def _name(url: URL) -> str:
    name = unquote(PurePosixPath(url.path).name)[-_NAME:]
    return "".join(letter for letter in name if letter.isprintable()) or "file"
