"""Files and images of a request, as its model can take them (spec §1, §2.3; R-99).

Rules
1. What is stored and shown stays as it was sent; what the model sees is filled in beside it
   (`Filled`), when a request is planned: what is wrong with a file is a 4xx.
2. A backend gets what it takes as it is, of the rest the text. What a file is, its bytes say: one
   that is an image is one, and an image has the media type that it has.
3. A file of history that cannot be had any more is a note for the model; one of the request is an
   error at its path. Ids are those of the caller's project, whoever wrote them (R-30, R-127).
4. Text is kept a while by project and file: files never change (R-33).
5. Bytes and addresses of one request are limited, and so is the time for all addresses (R-89).
   A file whose text is longer than itself counts as that. What came with the request is filled in
   first, then the newest: a large file of history must not be in the way of what is asked now.
6. Bytes of all requests are limited too, from before they come for as long as their parts live
   (`room.py`). So no error of a file is in a variable of a frame that it goes through: the frames
   that it keeps have the bytes.
"""

import asyncio
import mimetypes
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from antiphon.backends.base import Media
from antiphon.blobs.base import BlobMissing, Blobs
from antiphon.documents.base import Documents, Fetcher, Unreadable
from antiphon.engine.album import Album
from antiphon.engine.attached import Sent, Source, Stored
from antiphon.engine.images import ProjectImages
from antiphon.engine.room import Held, Room
from antiphon.errors import InvalidRequestError, NoSuchFile, NotFoundError, Overloaded
from antiphon.protocol.images import HEAD, Image, image_of
from antiphon.protocol.inline import head_of, inlined, read_inline, with_media_type
from antiphon.protocol.items.base import Item, changed
from antiphon.protocol.items.content import PARTS_IN, Filled
from antiphon.protocol.validation import echo
from antiphon.store.base import Files

Json = dict[str, Any]

#: Bytes of one file, and of all that a request's context has (spec §1, other limits).
MOST_BYTES: Final = 50 * 1024 * 1024
#: Addresses that one request's context may name, and seconds for all of them.
MOST_URLS: Final = 50
URL_SECONDS: Final = 60.0
#: The path of what a prompt template says: it has none of its own in the request.
IN_TEMPLATE: Final = "prompt"
#: Bytes of files that all requests together have in memory, and those of one project.
MOST_HELD: Final = 256 * 1024 * 1024
MOST_HELD_EACH: Final = MOST_HELD // 4 * 3
#: Bytes of text that are kept.
_MOST_KEPT: Final = 32 * 1024 * 1024
_PDF: Final = "application/pdf"
#: Bytes in which most images say what they are.
_GLANCE: Final = 4 * 1024
#: Where a PDF may begin (ISO 32000-1, annex H.3.4.1).
_PDF_HEAD: Final = 1024
#: The keys of a part of which one says where its bytes are. Any other is one that no type has.
_SOURCES: Final[Mapping[str, Sequence[str]]] = {
    "input_file": ("file_id", "file_url", "file_data"),
    "input_image": ("file_id", "image_url"),
}


@dataclass(slots=True)
class Asker:
    """For whom and for which backend; `now` in Unix seconds."""

    project: str
    media: Media
    now: int
    spent: int = 0
    urls: int = 0
    #: The loop's time at which addresses have had their time.
    until: float | None = None

    def check(self, size: int) -> None:
        """Whether one more file may have so many bytes. Raises `InvalidRequestError`."""
        if self.spent + size > MOST_BYTES:
            raise InvalidRequestError(
                f"The files of a request are too large: the limit is {MOST_BYTES} bytes.",
                code="file_too_large",
            )

    def spend(self, size: int) -> None:
        """Bytes of one more file that is used. Raises `InvalidRequestError`."""
        self.check(size)
        self.spent += size

    def spend_url(self) -> float:
        """One more address; until when it may take. Raises `InvalidRequestError`."""
        self.urls += 1
        if self.urls > MOST_URLS:
            raise InvalidRequestError(
                f"The context of a request may name at most {MOST_URLS} files by URL."
            )
        if self.until is None:
            self.until = asyncio.get_running_loop().time() + URL_SECONDS
        return self.until


class Attachments:
    """Fills parts with what their model can take."""

    def __init__(
        self,
        files: Files,
        images: ProjectImages,
        blobs: Blobs,
        documents: Documents,
        fetcher: Fetcher,
    ) -> None:
        self._files = files
        self._images = images
        self._blobs = blobs
        self._documents = documents
        self._fetcher = fetcher
        self._room = Room(MOST_HELD, MOST_HELD_EACH)
        #: By project and file: the end of the name that it was read under, and the text.
        self._texts: OrderedDict[tuple[str, str], tuple[str, str]] = OrderedDict()
        self._kept = 0

    async def fill(self, items: list[Item], sent: Mapping[int, str], asker: Asker) -> list[Item]:
        """The same items, some with `Filled` parts. `sent`: the paths of lists of parts that came
        with the request, by `media_of`; in these everything must be right. Raises `APIError`."""
        lists = [(place, *one) for place, item in enumerate(items) for one in media_of(item)]
        own = [one for one in lists if one[1] in sent]
        filled = list(items) if lists else items
        for place, key, name in own + [one for one in reversed(lists) if one[1] not in sent]:
            parts = await self._parts(items[place][name], sent.get(key), asker)
            filled[place] = changed(items[place], **{name: parts})
        return filled

    def album(self, asker: Asker) -> Album:
        """What shows the images that were made here."""
        return Album(self._images, asker.project, self._room, asker.spend)

    async def _parts(self, parts: Sequence[Json], where: str | None, asker: Asker) -> list[Json]:
        here = where is None or where == IN_TEMPLATE
        return [
            await self._part(part, where if here else f"{where}[{place}]", asker)
            if part["type"] in _SOURCES
            else part
            for place, part in enumerate(parts)
        ]

    async def _part(self, part: Json, path: str | None, asker: Asker) -> Json:
        name = _source_of(part)
        try:
            return await self._filled(part, name, asker)
        except (NotFoundError, InvalidRequestError) as error:
            if path is None:
                return Filled(part, _note(part, name, error))
            error.param = path if path == IN_TEMPLATE else f"{path}.{name}"
            raise

    async def _filled(self, part: Json, name: str, asker: Asker) -> Json:
        if part["type"] == "input_image":
            _check_sight(asker)
        if name == "image_url" and part[name][:5].lower() == "data:":
            return await _checked_inline(part, part[name])
        if name == "image_url" and _takes_address(asker.media, part[name]):
            return part
        held = self._room.hold(asker.project)
        try:
            return Filled(part, await self._seen(part, name, asker, held), held)
        except BlobMissing:
            raise NoSuchFile(echo(part[name])) from None
        except Unreadable as error:
            if error.code == "server_error":
                raise Overloaded(error.message) from None
            raise InvalidRequestError(error.message, code=error.code) from None

    async def _seen(self, part: Json, name: str, asker: Asker, held: Held) -> Json:
        source = await self._source(part, name, asker, held)
        head = await source.head()
        if part["type"] == "input_image" or image_of(head) is not None:
            _check_sight(asker)
            seen = await _image(part, source, head)
            asker.spend(source.size)
            return seen
        if _PDF in asker.media.files and _is_pdf(head, source.filename):
            url = await _inlined(_PDF, await source.whole())
            asker.spend(source.size)
            return {"type": "input_file", "filename": source.filename, "file_data": url}
        text = await self._text(source, asker.project)
        asker.spend(max(source.size, len(text)))
        await held.take(sys.getsizeof(text) - source.size)
        return {"type": "input_text", "text": f"File {source.filename}:\n{text}"}

    async def _source(self, part: Json, name: str, asker: Asker, held: Held) -> Source:
        if name == "file_id":
            return await self._stored(part, asker, held)
        if name == "file_data":
            return await _sent(part, asker, held)
        try:
            async with asyncio.timeout_at(asker.spend_url()):
                fetched = await self._fetcher.fetch(part[name], MOST_BYTES, held.take)
        except TimeoutError:
            raise InvalidRequestError("Error while downloading the file at the URL.") from None
        asker.check(len(fetched.body))
        return Sent(fetched.body, _name_of(part) or fetched.filename)

    async def _stored(self, part: Json, asker: Asker, held: Held) -> Source:
        row = await self._files.get(asker.project, part["file_id"], asker.now)
        if row is None:
            self._forget((asker.project, part["file_id"]))
            raise NoSuchFile(echo(part["file_id"]))
        asker.check(row.bytes)
        await held.take(row.bytes)
        return Stored(row.id, _name_of(part) or row.filename, row.bytes, self._blobs)

    async def _text(self, source: Source, project: str) -> str:
        key = None if source.key is None else (project, source.key)
        kind = PurePath(source.filename).suffix.lower()
        if key is not None and key in self._texts and self._texts[key][0] == kind:
            self._texts.move_to_end(key)
            return self._texts[key][1]
        async with source.local() as file:
            text = await self._documents.text(project, file, source.filename)
        if key is not None:
            self._forget(key)  # somebody may have asked meanwhile
            self._texts[key] = kind, text
            self._kept += _cost(text)
            while self._kept > _MOST_KEPT:
                self._forget(next(iter(self._texts)))
        return text

    def _forget(self, key: tuple[str, str]) -> None:
        if key in self._texts:
            self._kept -= _cost(self._texts.pop(key)[1])


async def _sent(part: Json, asker: Asker, held: Held) -> Source:
    await held.take(len(part["file_data"]) // 4 * 3)
    try:
        inline = await asyncio.to_thread(read_inline, part["file_data"])
    except ValueError:
        raise _undecodable() from None
    asker.check(len(inline.body))
    extension = mimetypes.guess_extension(inline.media_type) or ""
    return Sent(inline.body, _name_of(part) or f"file{extension}")


def _takes_address(media: Media, url: str) -> bool:
    """Whether the backend fetches an image itself."""
    return media.image_urls and (media.plain_http or url[:6].lower() == "https:")


def _cost(text: str) -> int:
    """Bytes of a text that is kept, and of its place."""
    return sys.getsizeof(text) + 300


def media_of(item: Item) -> Iterator[tuple[int, str]]:
    """The lists of parts of an item in which there is something to fill: the `id()` of the list,
    which is the same wherever the item is copied to, and its name."""
    name = PARTS_IN.get(item["type"])
    parts = item[name] if name is not None else None
    if name is not None and isinstance(parts, list) and any(p["type"] in _SOURCES for p in parts):
        yield id(parts), name


def refilled(items: list[Item], filled: Sequence[Item]) -> list[Item]:
    """The same items, of which some came out of a seal: their parts get back what the same parts
    have in `filled`."""
    known = {_key(part): part for item in filled for part in _media_parts(item) if _is_full(part)}
    if not known:
        return items
    made = items
    for place, item in enumerate(items):
        if all(map(_is_full, _media_parts(item))):
            continue
        if made is items:
            made = list(items)
        name = PARTS_IN[item["type"]]
        parts = [known.get(_key(p), p) if p["type"] in _SOURCES else p for p in item[name]]
        made[place] = changed(item, **{name: parts})
    return made


def _media_parts(item: Item) -> Iterator[Json]:
    for _, name in media_of(item):
        yield from (part for part in item[name] if part["type"] in _SOURCES)


def _source_of(part: Json) -> str:
    return next(key for key in _SOURCES[part["type"]] if part.get(key))


def _name_of(part: Json) -> str | None:
    """What the client calls a file; images have no names."""
    name: str | None = part.get("filename") if part["type"] == "input_file" else None
    return name


def _is_full(part: Json) -> bool:
    return isinstance(part, Filled)


def _key(part: Json) -> tuple[Any, ...]:
    source = _source_of(part)
    return part["type"], source, part[source], _name_of(part), part.get("detail")


def _note(part: Json, name: str, problem: NotFoundError | InvalidRequestError) -> Json:
    """What the model is told of a file of history."""
    called = echo(_name_of(part) or ("image" if name == "image_url" else part[name]))
    why = "is not available any more" if isinstance(problem, NotFoundError) else "cannot be shown"
    reason = "" if isinstance(problem, NotFoundError) else f" {problem.message}"
    return {"type": "input_text", "text": f"[The file {called} {why}.{reason}]"}


def _check_sight(asker: Asker) -> None:
    if not asker.media.images:
        raise InvalidRequestError("This model takes no images.")


def _is_pdf(head: bytes, filename: str) -> bool:
    """As `documents/` has it: text may be about PDF."""
    by_name = filename.lower().endswith(".pdf") and b"%PDF-" in head[:_PDF_HEAD]
    return by_name or head.lstrip().startswith(b"%PDF-")


async def _image(part: Json, source: Source, head: bytes) -> Json:
    """The image as a data URL. Raises `InvalidRequestError`."""
    found = image_of(head)
    if found is None:
        raise InvalidRequestError(
            "The file is not an image that can be read: expected PNG, JPEG, GIF, WebP or BMP.",
            code="invalid_image_format",
        )
    _check(found)
    url = await _inlined(found.media_type, await source.whole())
    detail = {"detail": part["detail"]} if part.get("detail") else {}
    return {"type": "input_image", "image_url": url, **detail}


async def _checked_inline(part: Json, url: str) -> Json:
    """Raises `InvalidRequestError` for an image that is one and too large; what its head does not
    tell is the backend's business."""
    await asyncio.sleep(0)  # there may be many
    found = image_of(head_of(url, _GLANCE))
    is_vague = found is None or found.size is None or found.media_type == "image/gif"
    if is_vague and len(url) > _GLANCE:
        found = image_of(await asyncio.to_thread(head_of, url, HEAD))
    if found is None:
        return part
    _check(found)
    right = await asyncio.to_thread(with_media_type, url, found.media_type)
    return part if right is url else Filled(part, {**part, "image_url": right})


def _check(found: Image) -> None:
    """Raises `InvalidRequestError`."""
    if found.size is not None and found.size.is_too_large:
        width, height = found.size
        raise InvalidRequestError(
            f"The image is too large: {width} × {height} pixels. A side may have 8000, the whole "
            "50 million.",
            code="image_too_large",
        )
    if found.is_animated:
        raise InvalidRequestError(
            "The image is animated: models see single images.", code="invalid_image_format"
        )


def _undecodable() -> InvalidRequestError:
    return InvalidRequestError(
        "Invalid file data: expected base64, or a data URL (`data:application/pdf;base64,…`).",
        code="invalid_value",
    )


async def _inlined(media_type: str, body: bytes) -> str:
    return await asyncio.to_thread(inlined, media_type, body)
