"""Images that are to be changed: files, data URLs, addresses (R-30, R-83, R-99)."""

import pytest

from antiphon.documents.base import Fetched
from antiphon.engine.images import ProjectImages
from antiphon.engine.pictures import ProjectPictures
from antiphon.errors import InvalidRequestError, NoSuchFile, NotFoundError
from antiphon.images.base import Picture
from antiphon.protocol.inline import inlined
from antiphon.store.base import FileRow
from antiphon.store.memory import MemoryStore
from antiphon.tools.base import Scope
from tests.engine.attaching import Drawer, Json, Web
from tests.protocol.test_images import gif, gif_image, jpeg, png

MIB = 1024 * 1024


class Bench:
    """Pictures on fakes, and a store in memory."""

    def __init__(self) -> None:
        store = MemoryStore()
        self.files = store.files
        self.blobs = Drawer()
        self.web = Web()
        self.images = ProjectImages(store.images, self.blobs)
        self.pictures = ProjectPictures(self.files, self.images, self.blobs, self.web)

    async def add(
        self, id_: str, body: bytes, expires: int | None = None, size: int | None = None
    ) -> None:
        """A file of project ``p``."""
        length = len(body) if size is None else size
        assert await self.files.add(FileRow(id_, "p", 1, expires, length, "a.png", "vision"))
        self.blobs.held[id_] = body

    async def load(self, project: str = "p", **source: str) -> Picture:
        """What is checked and loaded."""
        await self.pictures.check(project, source)
        return await self.pictures.load(project, source)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_image_is_what_its_bytes_say(bench: Bench) -> None:
    body = jpeg(4, 3)
    await bench.add("file-1", body)
    bench.web.held["https://a.example/x.png"] = Fetched(body, "x.png")
    for source in (
        {"file_id": "file-1"},
        {"image_url": "https://a.example/x.png"},
        {"image_url": inlined("image/png", body)},
        {"image_url": inlined("image/png", body).replace("data:", "DATA:")},
    ):
        assert await bench.load(**source) == Picture(body, "image/jpeg")


async def test_a_file_is_known_to_its_project_only(bench: Bench) -> None:
    """R-30; one that has expired is nobody's, and one whose bytes are gone is not there."""
    await bench.add("file-1", png(1, 1))
    await bench.add("file-old", png(1, 1), expires=2)
    for project, name in (("other", "file-1"), ("p", "file-old"), ("p", "file-none")):
        with pytest.raises(NoSuchFile):
            await bench.pictures.check(project, {"file_id": name})
        with pytest.raises(NoSuchFile):
            await bench.pictures.load(project, {"file_id": name})
    del bench.blobs.held["file-1"]
    with pytest.raises(NoSuchFile):
        await bench.load(file_id="file-1")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Hello", "invalid_image_format"),
        (gif(1, 1), "invalid_image_format"),
        (b"GIF89a" + gif_image(), "invalid_image_format"),
        (png(8_001, 1), "image_too_large"),
        (jpeg(8_000, 7_000), "image_too_large"),
    ],
)
async def test_what_cannot_be_changed(bench: Bench, body: bytes, code: str) -> None:
    """R-99: by its head, before anything is sent."""
    await bench.add("file-1", body)
    bench.web.held["https://a.example/x"] = Fetched(body, "x")
    url = inlined("image/png", body)
    for source in ({"file_id": "file-1"}, {"image_url": "https://a.example/x"}, {"image_url": url}):
        with pytest.raises(InvalidRequestError) as caught:
            await bench.pictures.load("p", source)
        assert caught.value.code == code
    with pytest.raises(InvalidRequestError) as caught:
        await bench.pictures.check("p", {"image_url": url})
    assert caught.value.code == code


async def test_an_image_without_a_size_is_the_servers_business(bench: Bench) -> None:
    body = b"\xff\xd8\xff\xdb"
    assert await bench.load(image_url=inlined("image/jpeg", body)) == Picture(body, "image/jpeg")


async def test_bytes_that_cannot_be_read(bench: Bench) -> None:
    url = inlined("image/png", png(1, 1)) + "%"
    with pytest.raises(InvalidRequestError) as caught:
        await bench.load(image_url=url)
    assert caught.value.code == "invalid_base64_image"


@pytest.mark.parametrize("kind", ["file", "inline"])
async def test_bytes_are_limited(bench: Bench, kind: str) -> None:
    await bench.add("file-1", png(1, 1), size=50 * MIB + 1)
    source: Json = {"file_id": "file-1"}
    if kind == "inline":
        source = {"image_url": "data:image/png;base64," + "A" * (67 * MIB)}
    with pytest.raises(InvalidRequestError) as caught:
        await bench.pictures.load("p", source)
    assert caught.value.code == "image_file_too_large"


async def test_an_address_that_cannot_be_had(bench: Bench) -> None:
    """R-94: in the fetcher's words."""
    with pytest.raises(InvalidRequestError, match="Error while downloading"):
        await bench.load(image_url="https://a.example/none")


async def test_what_was_made_here(bench: Bench) -> None:
    """By its reference, in its own project (R-30, decision 0010)."""
    body = jpeg(4, 3)
    scope = Scope("p", response_id="resp_1")
    reference = await bench.pictures.keep(scope, body, "image/jpeg")
    assert await bench.load(result=reference) == Picture(body, "image/jpeg")
    for call in (bench.pictures.check, bench.pictures.load):
        with pytest.raises(NotFoundError, match="not available any more"):
            await call("other", {"result": reference})
    bench.blobs.held.clear()
    with pytest.raises(NotFoundError, match="not available any more"):
        await bench.load(result=reference)
