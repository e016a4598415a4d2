"""Images by any server that speaks OpenAI's ``/v1/images/generations`` and ``/v1/images/edits``.

Rules
1. This file does the I/O; what is sent and what comes back is made and read in `wire.py`.
2. One deadline holds for an image, with all attempts. What may pass (429, 5xx, a broken
   connection) is tried again, as long as nothing was shown. Every failure is a `ToolFailed`; what
   the server said goes to the log and nowhere else (R-42), keys not even there.
3. An image at a `url` is fetched through the guarded way out, which trusts the server's own host.
   The key goes there only if it is the same origin.
4. Answers are bounded; what is long is read in a thread (R-118).
5. A partial image that cannot be used is left out, and stands in the log: the final one counts.
"""

import asyncio
import io
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urljoin

import aiohttp
import structlog
from yarl import URL

from antiphon import __version__
from antiphon.backends.resilience import backoff, retry_after
from antiphon.backends.sse import EventDecoder, EventTooLargeError
from antiphon.egress import BadURL, Egress, Policy, SendError
from antiphon.egress_pages import Ask, ReadLimits, read
from antiphon.errors import ToolFailed
from antiphon.images.base import Drawing, FinalImage, ImageWish, Look, PartialImage
from antiphon.images.formats import BadImage, found_in
from antiphon.images.wire import (
    FAILED,
    LATE,
    Made,
    Malformed,
    fields_of,
    form_text,
    read_answer,
    read_event,
    refusal,
)
from antiphon.protocol.inline import read_inline

_log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT: Final = 5.0
#: A longer `Retry-After` is not waited for, in seconds.
_PATIENCE: Final = 30.0
#: Bytes of an answer, of one event, and of an image.
MOST_ANSWER: Final = 64 * 1024 * 1024
#: Bytes of an error body that are read, and shown in the log.
_ERROR_BODY: Final = 64 * 1024
_SHOWN: Final = 2_048


@dataclass(frozen=True, slots=True)
class ImageServer:
    """Where images are made. `timeout`: seconds for one image."""

    #: With the version in it: ``http://127.0.0.1:8080/v1``.
    base_url: str
    #: None: the server has only one.
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    timeout: float = 300.0
    max_retries: int = 2
    #: Before the first retry, give or take half; doubled for each further one.
    retry_wait: float = 0.5
    #: Fields that it does not know.
    unsent: frozenset[str] = frozenset()
    #: Whether images may be at other hosts than its own.
    elsewhere: bool = True


class OpenAIImages:
    """See `ImageBackend`."""

    def __init__(self, server: ImageServer) -> None:
        """Raises ValueError when nothing can be sent to the server."""
        self._server = server
        self._base = URL(server.base_url.rstrip("/"))
        self._egress = Egress(Policy([self._base.host or ""]))
        self._session: aiohttp.ClientSession | None = None

    async def paint(self, wish: ImageWish) -> Drawing:
        """See `ImageBackend.paint`."""
        until = time.monotonic() + self._server.timeout
        async with aclosing(self._answer(wish, until)) as answer:
            async for made in answer:
                try:
                    image = await self._read(made, until)
                except ToolFailed:
                    if made.index is None:
                        raise
                    continue
                yield image
                if made.index is None:
                    return
        raise self._failed("image_malformed", "the stream ended without an image")

    async def aclose(self) -> None:
        """See `ImageBackend.aclose`."""
        if self._session is not None:
            await self._session.close()
        await self._egress.close()

    async def _answer(self, wish: ImageWish, until: float) -> AsyncGenerator[Made, None]:
        """The images of the first attempt that comes to one."""
        attempt = 0
        while True:
            shown = False
            try:
                async with aclosing(self._attempt(wish, until)) as images:
                    async for made in images:
                        shown = True
                        yield made
            except _RefusedError as refused:
                attempt += 1
                over = attempt > self._server.max_retries or refused.wait > _PATIENCE
                wait = max(backoff(attempt, self._server.retry_wait), refused.wait)
                if over or shown or not refused.may_pass or time.monotonic() + wait >= until:
                    raise refused.error from None
                await asyncio.sleep(wait)
            else:
                return

    async def _attempt(self, wish: ImageWish, until: float) -> AsyncGenerator[Made, None]:
        """What one request comes to. Raises `_RefusedError`."""
        try:
            async with self._post(wish, until) as response:
                if response.status != 200:
                    raise await self._refused(response)
                if response.content_type == "text/event-stream":
                    async for made in self._events(response):
                        yield made
                else:
                    yield await asyncio.to_thread(read_answer, await _limited(response))
        except (Malformed, EventTooLargeError) as error:
            raise self._failed("image_malformed", str(error)) from None
        except TimeoutError:
            self._tell("image_timeout", "no answer in time")
            raise ToolFailed(LATE) from None
        except (aiohttp.ClientError, OSError) as exc:
            # Not `repr`: aiohttp puts all headers of the request into it, keys included.
            failed = self._failed("image_server_unreachable", f"{type(exc).__name__}: {exc}")
            raise _RefusedError(failed, may_pass=True) from None

    def _post(self, wish: ImageWish, until: float) -> "aiohttp.client._RequestContextManager":
        fields = fields_of(wish, self._server.unsent)
        timeout = aiohttp.ClientTimeout(
            total=max(0.001, until - time.monotonic()), sock_connect=_CONNECT_TIMEOUT
        )
        session = self._client()
        if not wish.images:
            url = f"{self._base}/images/generations"
            return session.post(url, json=fields, timeout=timeout, allow_redirects=False)
        url = f"{self._base}/images/edits"
        form = _form(wish, fields)
        return session.post(url, data=form, timeout=timeout, allow_redirects=False)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[Made, None]:
        decoder = EventDecoder(MOST_ANSWER)
        async for piece in response.content.iter_any():
            for event in decoder.feed(piece):
                made = await asyncio.to_thread(read_event, event.name, event.data)
                if made is not None:
                    yield made
        for event in decoder.close():
            made = await asyncio.to_thread(read_event, event.name, event.data)
            if made is not None:
                yield made

    async def _refused(self, response: aiohttp.ClientResponse) -> "_RefusedError":
        status = response.status
        said = b""
        while len(said) < _ERROR_BODY and (piece := await response.content.readany()):
            said += piece
        self._tell("image_server_refused", said.decode(errors="replace"), status)
        asked = retry_after(response.headers, time.time()) if status in (429, 503) else None
        may_pass = status in (408, 429) or status >= 500
        return _RefusedError(refusal(status, said), may_pass=may_pass, wait=asked or 0.0)

    async def _read(self, made: Made, until: float) -> PartialImage | FinalImage:
        """Raises `ToolFailed`."""
        body = await self._bytes(made, until)
        try:
            found = await asyncio.to_thread(found_in, body)
        except BadImage as error:
            raise self._failed("image_malformed", str(error)) from None
        if found.format is None:
            raise self._failed("image_malformed", "a format that nobody asks for")
        look = Look(found.size, made.look.quality, made.look.background)
        if made.index is not None:
            return PartialImage(made.index, body, found.format, look)
        return FinalImage(body, found.format, look, made.revised_prompt, made.usage)

    async def _bytes(self, made: Made, until: float) -> bytes:
        """The image. Raises `ToolFailed`."""
        if made.b64 is not None:
            try:
                text = "".join(made.b64.split())  # some servers break lines
                return (await asyncio.to_thread(read_inline, text)).body
            except ValueError:
                raise self._failed("image_malformed", "no base64") from None
        if made.url is None:
            raise self._failed("image_malformed", "neither bytes nor a URL")
        if made.url.startswith("data:"):
            return await self._bytes(Made(made.url, None, made.look), until)
        try:
            url = urljoin(f"{self._base}/", made.url)
        except ValueError:
            raise self._failed("image_malformed", "a URL that is none") from None
        return await self._fetched(url, until)

    async def _fetched(self, url: str, until: float) -> bytes:
        limits = ReadLimits(
            total=max(0.001, until - time.monotonic()), sent=MOST_ANSWER, unpacked=MOST_ANSWER
        )
        try:
            answer = await read(
                self._egress, Ask(url, headers=self._headers_for(url)), limits, self._judge
            )
        except (BadURL, SendError) as error:
            raise self._failed("image_url_failed", str(error)) from None
        if answer.status != 200:
            raise self._failed("image_url_failed", f"HTTP {answer.status}", answer.status)
        return answer.body

    def _headers_for(self, url: str) -> dict[str, str]:
        """The key is for the server only."""
        try:
            own = URL(url).origin() == self._base.origin()
        except ValueError:
            return {}
        return self._headers() if own else {}

    async def _judge(self, url: URL) -> None:
        """Where the operator allows no addresses of others, images are at the server's own host."""
        if not self._server.elsewhere and url.host != self._base.host:
            raise SendError("it is at another host, and ANTIPHON_EGRESS is off")

    def _headers(self) -> dict[str, str]:
        key = self._server.api_key
        named = {"Authorization": f"Bearer {key}"} if key else {}
        return {"User-Agent": f"antiphon/{__version__}", **named, **self._server.headers}

    def _client(self) -> aiohttp.ClientSession:
        """The session; made here because it belongs to the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), headers=self._headers()
            )
        return self._session

    def _failed(self, event: str, detail: str, status: int | None = None) -> ToolFailed:
        self._tell(event, detail, status)
        return ToolFailed(FAILED)

    def _tell(self, event: str, detail: str, status: int | None = None) -> None:
        """A line for the operator; 401 and 403 are theirs to mend (R-41)."""
        for secret in (self._server.api_key, *self._server.headers.values()):
            detail = detail.replace(secret, "…") if secret else detail
        level = logging.ERROR if status in (401, 402, 403, 404) else logging.WARNING
        model = self._server.model
        _log.log(level, event, model=model, status=status, detail=ascii(detail[:_SHOWN]))


class _RefusedError(Exception):
    """One attempt failed; `wait`: seconds that the server asks for."""

    def __init__(self, error: ToolFailed, *, may_pass: bool, wait: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.may_pass = may_pass
        self.wait = wait


def _form(wish: ImageWish, fields: Mapping[str, object]) -> aiohttp.FormData:
    """One image is `image`, as every server has it; several are `image[]`."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, form_text(value))
    name = "image" if len(wish.images) == 1 else "image[]"
    files = [(name, picture) for picture in wish.images]
    files += [("mask", wish.mask)] if wish.mask is not None else []
    for number, (field_name, picture) in enumerate(files):
        kind = picture.media_type.rpartition("/")[2]
        form.add_field(
            field_name,
            io.BytesIO(picture.body),
            filename=f"{field_name.strip('[]')}-{number}.{kind}",
            content_type=picture.media_type,
        )
    return form


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    """The body. Raises `Malformed` when it is too long."""
    whole = io.BytesIO()
    async for piece in response.content.iter_any():
        whole.write(piece)
        if whole.tell() > MOST_ANSWER:
            raise Malformed(f"more than {MOST_ANSWER} bytes")
    return whole.getvalue()
