"""Images in the format that was wished for, so many at once, projects in turns (R-118)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from antiphon.errors import ToolFailed
from antiphon.images import finishing as finishing_module
from antiphon.images.base import Drawing, FinalImage, ImageWish, PartialImage
from antiphon.images.finishing import Finishing
from antiphon.images.formats import found_in
from antiphon.protocol.image_usage import ImageUsage
from tests.images.image_server import picture

PNG, WEBP = picture(), picture("webp")


@dataclass
class Easel:
    """A backend that gives what it has, when it may."""

    images: Sequence[PartialImage | FinalImage] = (FinalImage(PNG, "png"),)
    running: list[str] = field(default_factory=list)
    most: int = 0
    order: list[str] = field(default_factory=list)
    closed: bool = False

    async def paint(self, wish: ImageWish) -> Drawing:
        self.running.append(wish.project)
        self.order.append(wish.project)
        self.most = max(self.most, len(self.running))
        try:
            await asyncio.sleep(0.01)
            for image in self.images:
                yield image
        finally:
            self.running.remove(wish.project)

    async def aclose(self) -> None:
        self.closed = True


async def painted(
    easel: Easel, wish: ImageWish, *, packs: bool = False
) -> list[PartialImage | FinalImage]:
    return [image async for image in Finishing(easel, 2, packs=packs).paint(wish)]


async def test_what_fits_stays_as_it_is() -> None:
    (image,) = await painted(Easel(), ImageWish("p", "x"))
    assert image.body is PNG


async def test_what_has_another_format_is_brought_into_it() -> None:
    easel = Easel([PartialImage(0, PNG, "png"), FinalImage(PNG, "png", usage=ImageUsage(1))])
    images = await painted(easel, ImageWish("p", "x", output_format="webp"))
    assert [found_in(image.body).format for image in images] == ["webp", "webp"]
    assert [image.format for image in images] == ["webp", "webp"]
    assert isinstance(images[1], FinalImage)
    assert images[1].usage == ImageUsage(1)


async def test_compression_is_done_here_if_the_server_cannot() -> None:
    wish = ImageWish("p", "x", output_format="webp", output_compression=5)
    (given,) = await painted(Easel([FinalImage(WEBP, "webp")]), wish)
    (packed,) = await painted(Easel([FinalImage(WEBP, "webp")]), wish, packs=True)
    assert given.body is WEBP
    assert packed.body != WEBP


async def test_a_partial_image_that_is_none_is_left_out() -> None:
    easel = Easel([PartialImage(0, b"no", "jpeg"), FinalImage(PNG, "png")])
    (image,) = await painted(easel, ImageWish("p", "x"))
    assert isinstance(image, FinalImage)


@pytest.mark.parametrize(
    ("image", "wished"),
    [(FinalImage(b"no", "jpeg"), "png"), (FinalImage(PNG, "png"), "gif")],
)
async def test_an_image_that_cannot_be_used(image: FinalImage, wished: str) -> None:
    with pytest.raises(ToolFailed, match=wished):
        await painted(Easel([image]), ImageWish("p", "x", output_format=wished))  # type: ignore[arg-type]


async def test_an_image_that_is_too_large() -> None:
    huge = FinalImage(PNG + bytes(48 * 1024 * 1024), "png")
    with pytest.raises(ToolFailed, match="too large"):
        await painted(Easel([huge]), ImageWish("p", "x"))


async def test_one_is_converted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-118: what somebody has left is still decoded, and the next one waits for it."""
    running: list[bytes] = []
    most = 0

    def slowly(body: bytes, *_: object) -> bytes:
        nonlocal most
        running.append(body)
        most = max(most, len(running))
        time.sleep(0.1)
        running.pop()
        return body

    monkeypatch.setattr(finishing_module, "converted", slowly)
    finishing = Finishing(Easel(), 8)

    async def one() -> None:
        async for _ in finishing.paint(ImageWish("p", "x", output_format="webp")):
            pass

    left = [asyncio.create_task(one()) for _ in range(3)]
    await asyncio.sleep(0.04)
    for task in left:
        task.cancel()
    await asyncio.gather(*(one() for _ in range(3)))
    assert most == 1
    await finishing.aclose()


async def test_so_many_at_once_and_projects_in_turns() -> None:
    easel = Easel()
    finishing = Finishing(easel, 2)

    async def one(project: str) -> None:
        async for _ in finishing.paint(ImageWish(project, "x")):
            pass

    await asyncio.gather(*(one("a") for _ in range(6)), one("b"))
    assert easel.most == 2
    assert easel.order.index("b") <= 3
    await finishing.aclose()
    assert easel.closed
