"""A world for the tool `image_generation`: an easel and an album that remember."""

from collections.abc import Sequence
from typing import Any

import orjson

from antiphon.errors import NoSuchFile
from antiphon.images.base import Drawing, FinalImage, ImageWish, Look, PartialImage, Picture
from antiphon.protocol.image_usage import UNKNOWN
from antiphon.protocol.items.base import Item
from antiphon.tools.base import Call, CallItem, OpenTool, Outcome, OwnItem, Scope
from antiphon.tools.image_generation.opened import Studio
from antiphon.tools.image_generation.rules import ImageRules
from antiphon.tools.image_generation.tool import ImageGeneration

Json = dict[str, Any]
REFERENCE = "antiphon-image:" + 16 * "0f"
ALL = ImageRules("drawer", frozenset({"*"}), extra=frozenset({"gif", "svg", "complexity"}))


class Easel:
    """`ImageBackend`: paints what it was asked, byte for byte."""

    def __init__(self) -> None:
        self.wishes: list[ImageWish] = []
        #: The indices of unfinished images.
        self.partial: int | Sequence[int] = 0
        self.trouble: Exception | None = None
        self.look = Look("32x24", "low", "opaque")
        self.revised: str | None = None
        self.usage = UNKNOWN
        self.stopped = 0

    async def paint(self, wish: ImageWish) -> Drawing:
        self.wishes.append(wish)
        try:
            indices = range(self.partial) if isinstance(self.partial, int) else self.partial
            for index in indices:
                yield PartialImage(index, b"part", wish.output_format, self.look)
            if self.trouble is not None:
                raise self.trouble
            body = wish.prompt.encode()
            yield FinalImage(body, wish.output_format, self.look, self.revised, self.usage)
        finally:
            self.stopped += 1

    async def aclose(self) -> None:
        self.stopped = -1


class Album:
    """`Pictures`: what was asked for is what there is, but for what is `missing`."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.kept: list[tuple[Scope, bytes, str]] = []
        self.trouble: Exception | None = None

    async def check(self, project: str, source: Json) -> None:
        (name,) = source.values()
        if name in self.missing:
            raise NoSuchFile(name)

    async def keep(self, scope: Scope, body: bytes, media_type: str) -> str:
        self.kept.append((scope, body, media_type))
        if self.trouble is not None:
            raise self.trouble
        return REFERENCE

    async def load(self, project: str, source: Json) -> Picture:
        await self.check(project, source)
        (name,) = source.values()
        return Picture(name.encode(), "image/png")


class Said(CallItem):
    """The item of a call: its events."""

    def __init__(self, *, fresh: bool = True) -> None:
        self._fresh = fresh
        self.events: list[tuple[str, Json | None]] = []

    @property
    def fresh(self) -> bool:
        return self._fresh

    def emit(self, event: str, fields: Json | None = None) -> None:
        self.events.append((event, fields))


class Around:
    """`Stage`."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.output: list[Item] = []

    def begin(self, item_type: str, fields: Json) -> OwnItem:
        raise AssertionError(item_type)


class World:
    """A tool, and what it works with."""

    def __init__(self, rules: ImageRules = ALL) -> None:
        self.easel, self.album, self.said = Easel(), Album(), Said()
        self.scope = Scope("p")
        self.tool = ImageGeneration(Studio(self.easel, self.album, rules, 600.0))

    async def open(self, items: Sequence[Item] = (), **tool: Any) -> OpenTool:
        given = {"type": "image_generation", **tool}
        assert await self.tool.check(given, "tools[0]", "p") == []
        opened = self.tool.open(given, self.scope)
        self.around = Around(items)
        await opened.prepare(self.around)
        return opened

    async def run(
        self, arguments: Any, items: Sequence[Item] = (), **tool: Any
    ) -> tuple[Outcome, ImageWish | None]:
        """One call in a run of its own; what was drawn."""
        opened = await self.open(items, **tool)
        outcome = await opened.run(asking(arguments), self.said)
        return outcome, self.easel.wishes[-1] if self.easel.wishes else None


def asking(arguments: Any) -> Call:
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return Call("image_generation", text)


def user(*parts: Json) -> Item:
    return {"type": "message", "role": "user", "content": list(parts)}


def image(url: str) -> Json:
    return {"type": "input_image", "image_url": url}


def drawn(result: str, **more: Any) -> Item:
    return {"type": "image_generation_call", "id": "ig_1", "result": result, **more}
