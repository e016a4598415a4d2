"""Files and images of a request, as its model sees them (spec §2.3; R-30, R-33, R-94, R-99)."""

import asyncio
import base64
from pathlib import Path

import pytest

from antiphon.documents.base import Fetched, Unreadable
from antiphon.engine.attachments import (
    MOST_BYTES,
    MOST_URLS,
    Asker,
    media_of,
    refilled,
)
from antiphon.errors import APIError, InvalidRequestError, Overloaded
from antiphon.protocol.inline import inlined
from antiphon.protocol.items.base import Seen, turn_of
from antiphon.protocol.items.content import Filled, seen_of
from tests.engine.attaching import (
    DATA_URLS,
    NOW,
    PDF,
    PDF_TOO,
    TEXTS_ONLY,
    TOO_LARGE,
    Bench,
    by_id,
    image,
    said,
    text,
)
from tests.protocol.test_images import png


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- files ---------------------------------------------------------------------------------------


async def test_a_file_is_its_text(bench: Bench) -> None:
    """Only its head is read here: the rest is the business of another process."""
    await bench.add("file-1", b"x" * 3_000_000)
    hello = text("Hello")
    assert await bench.seen(hello, by_id("file-1")) == [hello, text("File a.txt:\ntext of a.txt")]
    assert bench.reader.asked == [("p", Path("/blobs/file-1"), "a.txt")]
    assert bench.blobs.reads == [1024 * 1024]
    assert bench.blobs.open == 0


async def test_a_request_without_files_is_left_alone(bench: Bench) -> None:
    items = [said(text("Hi")), {"type": "function_call_output", "call_id": "c", "output": "x"}]
    assert await bench.attachments.fill(items, {}, Asker("p", TEXTS_ONLY, NOW)) is items


async def test_the_request_may_call_it_something_else(bench: Bench) -> None:
    """How a file is read may depend on its name: the text of another name is another one."""
    await bench.add("file-1", b"hi")
    assert await bench.seen(by_id("file-1")) == [text("File a.txt:\ntext of a.txt")]
    named = by_id("file-1", filename="b.md")
    assert await bench.seen(named) == [text("File b.md:\ntext of b.md")]


async def test_files_come_inline_and_from_addresses(bench: Bench) -> None:
    bench.web.held["https://a.example/x.csv"] = Fetched(b"1,2", "x.csv")
    data = "data:text/html;base64," + base64.b64encode(b"<p>hi").decode()
    bare = base64.b64encode(b"bare").decode()
    seen = await bench.seen(
        {"type": "input_file", "file_url": "https://a.example/x.csv"},
        {"type": "input_file", "file_url": "https://a.example/x.csv", "filename": "y.csv"},
        {"type": "input_file", "file_data": data},
        {"type": "input_file", "file_data": bare, "filename": "b.txt"},
        {"type": "input_file", "file_data": bare},
    )
    names = ["x.csv", "y.csv", "file.html", "b.txt", "file"]
    assert seen == [text(f"File {name}:\ntext of {name}") for name in names]
    assert bench.reader.bodies == [b"1,2", b"1,2", b"<p>hi", b"bare", b"bare"]


async def test_pdf_stays_pdf_for_who_takes_it(bench: Bench) -> None:
    await bench.add("file-1", PDF, "a.pdf")
    url = inlined("application/pdf", PDF)
    native = {"type": "input_file", "filename": "a.pdf", "file_data": url}
    assert await bench.seen(by_id("file-1"), media=PDF_TOO) == [native]
    assert bench.reader.asked == []
    assert await bench.seen(by_id("file-1")) == [text("File a.pdf:\ntext of a.pdf")]
    inline = {"type": "input_file", "filename": "b.pdf", "file_data": url}
    assert await bench.seen(inline, media=PDF_TOO) == [inline]


@pytest.mark.parametrize(
    ("body", "name", "is_pdf"),
    [
        (b"junk\n%PDF-1.4", "a.pdf", True),
        (b"\n %PDF-1.4", "a", True),
        (b"A PDF begins with %PDF-1.4", "about.txt", False),
        (b"%PDF-1.4", "about.txt", True),
    ],
)
async def test_text_about_pdf_is_text(
    bench: Bench, body: bytes, name: str, *, is_pdf: bool
) -> None:
    await bench.add("file-1", body, name)
    (seen,) = await bench.seen(by_id("file-1"), media=PDF_TOO)
    assert (seen["type"] == "input_file") == is_pdf


async def test_a_file_that_is_an_image_is_one(bench: Bench) -> None:
    body = png(3, 4)
    await bench.add("file-1", body, "lies.txt")
    url = inlined("image/png", body)
    for media in (TEXTS_ONLY, PDF_TOO, DATA_URLS):
        assert await bench.seen(by_id("file-1", detail="low"), media=media) == [
            image(image_url=url, detail="low")
        ]


# -- what is not there ---------------------------------------------------------------------------


@pytest.mark.parametrize("id_", ["file-none", "file-other", "file-old", "file-lost"])
async def test_an_unknown_file(bench: Bench, id_: str) -> None:
    """R-29, R-30: of nobody, of another project, expired, being deleted: all the same."""
    await bench.add("file-other", b"x", project="q")
    await bench.add("file-old", b"x")
    await bench.add("file-lost", b"x")
    await bench.blobs.delete("file-lost")
    for kind in ("input_file", "input_image"):
        with pytest.raises(APIError) as caught:
            await bench.seen(text("x"), {"type": kind, "file_id": id_})
        error = caught.value
        assert (error.status, error.message) == (404, f"No such File object: {id_}")
        assert error.param == "input[0].content[1].file_id"


async def test_texts_of_another_project_are_never_shown(bench: Bench) -> None:
    """R-33."""
    await bench.add("file-1", b"secret")
    await bench.seen(by_id("file-1"))
    with pytest.raises(APIError, match="No such File"):
        await bench.seen(by_id("file-1"), project="q")


async def test_a_file_of_history_that_is_gone_is_a_note(bench: Bench) -> None:
    seen = await bench.seen(
        text("x"),
        by_id("file-gone"),
        by_id("file-gone", filename="plan.pdf"),
        image(file_id="file-gone"),
        {"type": "input_file", "file_url": "https://a.example/gone"},
        image(image_url=TOO_LARGE["a side"]),
        sent=False,
    )
    notes = [part["text"] for part in seen[1:]]
    assert notes[:3] == [
        "[The file file-gone is not available any more.]",
        "[The file plan.pdf is not available any more.]",
        "[The file file-gone is not available any more.]",
    ]
    assert notes[3].startswith("[The file https://a.example/gone cannot be shown. Error while down")
    assert notes[4].startswith("[The file image cannot be shown. The image is too large: ")
    assert len(notes[4]) < 300


async def test_a_file_that_cannot_be_read(bench: Bench) -> None:
    await bench.add("file-1", b"x")
    bench.reader.problem = Unreadable("unsupported_file", "The file is audio.")
    with pytest.raises(InvalidRequestError, match="The file is audio") as caught:
        await bench.seen(by_id("file-1"))
    assert caught.value.code == "unsupported_file"
    assert caught.value.param == "input[0].content[0].file_id"
    (note,) = await bench.seen(by_id("file-1"), sent=False)
    assert note["text"] == "[The file file-1 cannot be shown. The file is audio.]"


@pytest.mark.parametrize("sent", [True, False])
async def test_trouble_of_ours_is_nobodys_fault(bench: Bench, *, sent: bool) -> None:
    """A history without its files would be another one."""
    await bench.add("file-1", b"x")
    bench.reader.problem = Unreadable("server_error", "Files cannot be read at the moment.")
    with pytest.raises(Overloaded):
        await bench.seen(by_id("file-1"), sent=sent)


async def test_what_comes_with_a_request_does_not_touch_the_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """R-137: a server that was killed left it there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    await bench.seen({"type": "input_file", "file_data": "QQ==", "filename": "a"})
    assert bench.reader.bodies == [b"A"]


@pytest.mark.parametrize("data", ["not base64!", "data:text/plain", "data:x;base64,QQ=", "\ud800"])
async def test_inline_data_must_be_base64(bench: Bench, data: str) -> None:
    with pytest.raises(InvalidRequestError, match="expected base64") as caught:
        await bench.seen({"type": "input_file", "file_data": data, "filename": "a"})
    assert (caught.value.code, caught.value.param) == (
        "invalid_value",
        "input[0].content[0].file_data",
    )


async def test_what_a_template_says_has_no_path_of_its_own(bench: Bench) -> None:
    items = [said(text("x"), by_id("file-none"))]
    paths = {key: "prompt" for key, _ in media_of(items[0])}
    with pytest.raises(APIError) as caught:
        await bench.attachments.fill(items, paths, Asker("p", TEXTS_ONLY, NOW))
    assert caught.value.param == "prompt"


# -- limits --------------------------------------------------------------------------------------


async def test_all_files_of_a_request_together_have_a_limit(bench: Bench) -> None:
    """Those of history count: the model gets them too."""
    await bench.add("file-1", b"x", size=MOST_BYTES)
    await bench.add("file-2", b"x", size=MOST_BYTES + 1)
    await bench.add("file-3", b"x", size=1)
    assert (await bench.seen(by_id("file-1")))[0]["type"] == "input_text"
    for parts, place in (([by_id("file-2")], 0), ([by_id("file-1"), by_id("file-3")], 1)):
        with pytest.raises(InvalidRequestError) as caught:
            await bench.seen(*parts)
        assert caught.value.code == "file_too_large"
        assert caught.value.param == f"input[0].content[{place}].file_id"


async def test_what_is_asked_now_comes_before_what_was(bench: Bench) -> None:
    """The limit is that of the request first, then that of its newest history; what does not fit
    takes nothing away."""
    for name, size in (("huge", MOST_BYTES + 1), ("new", MOST_BYTES - 22), ("far", 12), ("own", 1)):
        await bench.add(f"file-{name}", b"x", name, size=size)
    items = [said(by_id(f"file-{name}")) for name in ("far", "new", "huge", "own")]
    sent = {key: "input[0].content" for key, _ in media_of(items[3])}
    made = await bench.attachments.fill(items, sent, Asker("p", TEXTS_ONLY, NOW))
    far, new, huge, own = (seen_of(item["content"][0])["text"] for item in made)
    assert (own, new) == ("File own:\ntext of own", "File new:\ntext of new")
    note = "[The file file-{} cannot be shown. The files of a request are too large"
    assert far.startswith(note.format("far"))
    assert huge.startswith(note.format("huge"))


async def test_a_request_asks_for_few_addresses(bench: Bench) -> None:
    """R-89: it must not be a way to have this server call half the web."""
    bench.web.held["https://a.example/"] = Fetched(b"x", "x")
    parts = [{"type": "input_file", "file_url": "https://a.example/"}] * (MOST_URLS + 1)
    with pytest.raises(InvalidRequestError, match="at most 50 files by URL"):
        await bench.seen(*parts)
    assert len(bench.web.asked) == MOST_URLS


async def test_all_addresses_of_a_request_have_one_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.engine.attachments.URL_SECONDS", 0.05)
    bench.web.held["https://a.example/"] = None
    part = {"type": "input_file", "file_url": "https://a.example/"}
    async with asyncio.timeout(5):
        with pytest.raises(InvalidRequestError, match="Error while downloading"):
            await bench.seen(part)
        notes = await bench.seen(*[part] * 10, sent=False)
    assert all("cannot be shown" in note["text"] for note in notes)


# -- what is kept --------------------------------------------------------------------------------


async def test_a_text_is_read_once(bench: Bench) -> None:
    await bench.add("file-1", b"x")
    for _ in range(3):
        await bench.seen(by_id("file-1"))
    assert len(bench.reader.asked) == 1
    await bench.files.delete("p", "file-1")
    with pytest.raises(APIError, match="No such File"):
        await bench.seen(by_id("file-1"))


async def test_what_is_kept_has_a_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked for longest ago goes; the same text asked for by many at once counts once."""
    monkeypatch.setattr("antiphon.engine.attachments._MOST_KEPT", 1_000)
    bench.reader.answer = "x" * 100
    for name in "abc":
        await bench.add(f"file-{name}", b"x")
    await asyncio.gather(*(bench.seen(by_id("file-a")) for _ in range(5)))
    reads = len(bench.reader.asked)
    for name in "babcba":  # c is one too many, and a was asked for longest ago
        await bench.seen(by_id(f"file-{name}"))
    read = [str(path)[-1] for _, path, _ in bench.reader.asked[reads:]]
    assert read == ["b", "c", "a"]
    bench.reader.answer = "x" * 1_000
    await bench.add("file-d", b"x")
    for _ in range(2):
        assert len((await bench.seen(by_id("file-d")))[0]["text"]) > 1_000


# -- where they stand ----------------------------------------------------------------------------


async def test_outputs_of_tools_have_files_too(bench: Bench) -> None:
    await bench.add("file-1", b"x")
    output = {"type": "function_call_output", "call_id": "c", "output": [by_id("file-1")]}
    custom = {**output, "type": "custom_tool_call_output", "output": [by_id("file-none")]}
    items = [Seen(output, 3), custom]
    paths = {key: f"input[{n}].{name}" for n, i in enumerate(items) for key, name in media_of(i)}
    with pytest.raises(APIError) as caught:
        await bench.attachments.fill(items, paths, Asker("p", TEXTS_ONLY, NOW))
    assert caught.value.param == "input[1].output[0].file_id"
    (made,) = await bench.attachments.fill(items[:1], paths, Asker("p", TEXTS_ONLY, NOW))
    assert seen_of(made["output"][0]) == text("File a.txt:\ntext of a.txt")
    assert turn_of(made) == 3


async def test_what_came_out_of_a_seal_gets_its_contents_back(bench: Bench) -> None:
    """A compaction in the middle of a run keeps items as they are stored."""
    await bench.add("file-1", b"x")
    asker = Asker("p", TEXTS_ONLY, NOW)
    filled = await bench.attachments.fill([said(text("a"), by_id("file-1"))], {}, asker)
    opened = [said(text("b"), by_id("file-1"), by_id("file-2")), said(text("c"))]
    first, second = refilled(opened, filled)
    assert second is opened[1]
    assert [seen_of(part) for part in first["content"]] == [
        text("b"),
        text("File a.txt:\ntext of a.txt"),
        by_id("file-2"),
    ]
    assert refilled(filled, filled) is filled
    assert refilled(opened, []) is opened
    assert isinstance(filled[0]["content"][1], Filled)
