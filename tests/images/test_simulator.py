"""The simulator of an image server draws what it was asked for."""

from dataclasses import replace

import pytest
from PIL import ImageChops, ImageStat

from antiphon.errors import ToolFailed
from antiphon.images.base import FinalImage, ImageWish, PartialImage, Picture
from antiphon.images.simulator import DrawingSimulator
from tests.images.image_server import opened, picture

WISH = ImageWish("p", "An otter", size="320x200")


async def drawn(wish: ImageWish) -> list[PartialImage | FinalImage]:
    return [image async for image in DrawingSimulator().paint(wish)]


async def test_it_draws_the_same_for_the_same() -> None:
    one, two = await drawn(WISH), await drawn(WISH)
    other = await drawn(replace(WISH, prompt="A stone"))
    assert one == two != other
    (final,) = one
    assert isinstance(final, FinalImage)
    assert opened(final.body).size == (320, 200)
    assert final.look.size == "320x200"
    assert final.revised_prompt == "An otter"


async def test_partial_images_get_sharper() -> None:
    images = await drawn(replace(WISH, partial_images=3, output_format="webp"))
    assert [image.index for image in images if isinstance(image, PartialImage)] == [0, 1, 2]
    *partial, final = (opened(image.body).convert("L") for image in images)
    far = [ImageStat.Stat(ImageChops.difference(one, final)).mean[0] for one in partial]
    assert far == sorted(far, reverse=True)
    assert {opened(image.body).format for image in images} == {"WEBP"}


async def test_an_edit_shows_what_it_was_given() -> None:
    given = Picture(picture(size=(64, 48)), "image/png")
    edit = replace(WISH, action="edit", images=[given])
    images = [
        await drawn(wish)
        for wish in (WISH, edit, replace(edit, mask=given), replace(edit, images=[given, given]))
    ]
    assert len({image.body for (image,) in images}) == 4


async def test_it_can_be_transparent() -> None:
    (final,) = await drawn(replace(WISH, background="transparent"))
    assert opened(final.body).getpixel((160, 100))[3] == 0  # type: ignore[index]
    assert final.look.background == "transparent"


async def test_it_has_its_limits() -> None:
    with pytest.raises(ToolFailed, match="4096"):
        await drawn(replace(WISH, size="8000x100"))
