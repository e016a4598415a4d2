"""Text of pages is made elsewhere: reliability R-58, R-118, R-123, R-130."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

import orjson
import pytest

from antiphon.errors import ToolFailed
from antiphon.tools.web.extractor import MOST_ANSWER, Extractor
from antiphon.tools.web.text import MOST_TAGS, MOST_TEXT, NotReadable, page_text
from antiphon.tools.web.text_worker import answer
from tests.tools.web_world import ARTICLE, article, nobody_waits

HTML = "text/html; charset=utf-8"
#: Each attribute is compared with all before it: this takes more than ten seconds.
QUADRATIC = (
    "<html><body><p " + " ".join(f"a{number}=1" for number in range(80_000)) + ">x</p>"
).encode()
#: More than is looked at, one paragraph after another.
HUGE = article("</p><p>".join(f"{number} {ARTICLE}" for number in range(2_000))).encode()


@pytest.fixture
async def extractor() -> AsyncIterator[Extractor]:
    made = Extractor()
    yield made
    await made.aclose()


async def test_a_page_that_takes_long_holds_nobody_up_and_is_given_up() -> None:
    """R-118, R-58: its process is killed, and the next page is read."""
    extractor = Extractor(patience=1.5)
    async with nobody_waits():
        start = time.monotonic()
        with pytest.raises(ToolFailed, match="takes too long"):
            await extractor.text("p", QUADRATIC, HTML)
        assert time.monotonic() - start < 6
        assert ARTICLE in (await extractor.text("p", article().encode(), HTML)).text
    await extractor.aclose()


async def test_a_huge_page_holds_nobody_up(extractor: Extractor) -> None:
    """R-118: what takes the parser seconds does not take them from us."""
    assert len(HUGE) > 8_000_000
    async with nobody_waits():
        page = await extractor.text("p", HUGE, HTML)
    assert len(page.text) == MOST_TEXT


async def test_who_gives_up_ends_the_work(extractor: Extractor) -> None:
    """R-58."""
    reading = asyncio.create_task(extractor.text("p", QUADRATIC, HTML))
    await asyncio.sleep(0.5)
    (pid,) = children()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(2):
        await asyncio.gather(*extractor._workers._ending)
    assert pid not in children()


async def test_so_many_pages_at_once_and_no_more() -> None:
    extractor = Extractor(most=2, patience=30)
    pages = [asyncio.create_task(extractor.text("p", HUGE, HTML)) for _ in range(4)]
    await asyncio.sleep(0.5)
    assert len(children()) == 2
    for page in pages:
        page.cancel()
    await asyncio.gather(*pages, return_exceptions=True)
    await extractor.aclose()
    assert children() == set()


async def test_who_reads_much_holds_no_other_project_up() -> None:
    """R-118: who comes later waits for one page of another project, not for all of them."""
    extractor = Extractor(most=1, patience=1)
    pages = [asyncio.create_task(extractor.text("p", QUADRATIC, HTML)) for _ in range(8)]
    await asyncio.sleep(0.1)
    assert ARTICLE in (await extractor.text("q", article().encode(), HTML)).text
    assert sum(page.done() for page in pages) <= 1
    for page in pages:
        page.cancel()
    await asyncio.gather(*pages, return_exceptions=True)
    await extractor.aclose()


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit",
        "import os; os.kill(os.getpid(), 9)",
        "import sys; sys.stdout.buffer.write(b'\\xff' * 100)",
        "import sys; sys.stdout.buffer.write(b'\\0\\0\\0\\2no')",
    ],
)
async def test_a_parser_that_breaks_breaks_nothing_else(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    real = asyncio.create_subprocess_exec

    async def start(*command: str, **more: object) -> asyncio.subprocess.Process:
        return await real(sys.executable, "-c", program, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    extractor = Extractor()
    with pytest.raises(ToolFailed, match="cannot be read"):
        await extractor.text("p", article().encode(), HTML)
    await extractor.aclose()


def children() -> set[int]:
    """Processes of this test that make text of pages."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                ours = b"antiphon.tools.web.text_worker" in file.read()
            with open(f"/proc/{name}/stat", encoding="ascii") as file:
                state, parent = file.read().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if ours and state != "Z" and int(parent) == os.getpid():
            found.add(int(name))
    return found


# -- the other side ------------------------------------------------------------------------------


def test_what_is_asked_and_answered() -> None:
    assert answer({"content_type": "text/plain"}, b"one") == {"title": "", "text": "one"}
    assert answer({"content_type": "image/png"}, b"two") == {
        "problem": "It is not a page that can be read."
    }


def test_an_answer_always_fits() -> None:
    """Every character as long as it can be in JSON."""
    text = page_text("\x01\x85\U0001f9a6".encode() * 600_000, "text/plain").text
    assert len(orjson.dumps({"title": text[:300], "text": text})) < MOST_ANSWER


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(NotReadable, match="needs the package 'trafilatura'"):
        page_text(article().encode(), HTML)
    assert page_text(b"plain", "text/plain").text == "plain"


@pytest.mark.parametrize(
    ("markup", "title"),
    [
        ("<TITLE lang=de>A &amp; B</TITLE>", "A & B"),
        ("<title>\n two\n lines </title>", "two lines"),
        ("<title></title>", ""),
        ("no title", ""),
        ("<title>" + "x" * 5_000 + "</title>", "x" * 300),
    ],
)
def test_titles(markup: str, title: str) -> None:
    assert page_text(f"<html>{markup}<body><p>text</p>".encode(), HTML).title == title


def test_only_so_many_tags_are_read() -> None:
    """R-118: a parser takes its time for each of them."""
    text = page_text(b"<p>a</p>" * 200_000, HTML).text
    assert 20_000 < text.count("a") <= MOST_TAGS // 2


def test_spaces_and_empty_lines_are_few() -> None:
    text = page_text(b"a \t b\r\n\r\n\r\n\r\n\x0bc\n  d", "text/plain").text
    assert text == "a b\n\nc\nd"
