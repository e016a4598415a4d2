"""Processes that read files (src/antiphon/documents/reader.py): R-58, R-97, R-100, R-118, R-133."""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.documents.base import Chunking, Unreadable
from antiphon.documents.limits import CHUNK_SECONDS, TEXT_SECONDS
from antiphon.documents.reader import DocumentReader
from antiphon.errors import Overloaded
from tests.documents.corpus import CORPUS
from tests.test_workers import children
from tests.tools.web_world import nobody_waits

MODULE = "antiphon.documents.worker"
MIB = 1024 * 1024
BY_NAME = {case.name: case for case in CORPUS}


@pytest.fixture
async def reader() -> AsyncIterator[DocumentReader]:
    made = DocumentReader(most=1)
    yield made
    await made.aclose()
    assert children(MODULE) == set()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"Otters swim.")
    return path


async def the_worker(reader: DocumentReader, small: Path) -> int:
    """The process that reads."""
    assert await reader.text("p", small, "a.txt") == "Otters swim."
    (pid,) = children(MODULE)
    return pid


async def begun(reader: DocumentReader, path: Path, project: str = "p") -> "asyncio.Task[str]":
    """Somebody waits for a file and has the process."""
    task = asyncio.create_task(reader.text(project, path, "a.txt"))
    async with asyncio.timeout(5):
        while not reader._workers._busy:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return task


async def test_text_and_chunks(reader: DocumentReader, tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_text("\n\n".join(f"Paragraph {number} about otters." for number in range(300)))
    text = await reader.text("p", path, "a.txt")
    whole = await reader.chunks("p", path, "a.txt", Chunking(4_096, 0))
    assert whole == [text]
    chunks = await reader.chunks("p", path, "a.txt", Chunking(100, 50))
    assert len(chunks) > 20
    assert chunks[0].startswith("Paragraph 0 ")
    assert chunks[-1].endswith("299 about otters.")
    assert all(chunk in text for chunk in chunks)


async def test_what_goes_wrong_is_the_same_for_chunks(
    reader: DocumentReader, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Unreadable, match="is empty") as raised:
        await reader.chunks("p", tmp_path / "empty", "a.txt", Chunking())
    assert raised.value.code == "invalid_file"


async def test_bytes_are_read_where_they_are(reader: DocumentReader) -> None:
    assert await reader.text("p", b"Otters swim.", "a.txt") == "Otters swim."
    with pytest.raises(Unreadable, match="empty"):
        await reader.text("p", b"", "a.txt")


async def test_only_files_are_opened(reader: DocumentReader, small: Path) -> None:
    """R-97, R-101. A path is ours: when nothing is there, it is not the file's fault."""
    (small.parent / "link").symlink_to(small)
    os.mkfifo(small.parent / "pipe")
    for name in ("link", "pipe", "missing", "."):
        with capture_logs() as logs, pytest.raises(Overloaded) as raised:
            await reader.text("p", small.parent / name, "a.txt")
        assert raised.value.headers()["retry-after"] == "1"
        assert str(small.parent) not in raised.value.message
        assert [line["event"] for line in logs] == ["documents_trouble"]
        assert str(small.parent) not in str(logs)


async def test_a_moment_without_processes_blames_no_file(
    reader: DocumentReader, small: Path
) -> None:
    """R-101: the file would be `failed` for good."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(Overloaded) as raised:
            await reader.chunks("p", small, "a.txt", Chunking())
    assert raised.value.should_retry is None
    assert raised.value.headers()["retry-after"] == "1"
    assert await reader.chunks("p", small, "a.txt", Chunking()) == ["Otters swim."]


async def test_any_name_of_a_file(reader: DocumentReader, small: Path) -> None:
    for name in ("", ".", "a.", "../../etc/passwd", "\ud800.txt", "x" * 10_000, "a\0b"):
        assert await reader.text("p", small, name) == "Otters swim."


async def test_who_is_killed_once_is_not_to_blame(reader: DocumentReader, small: Path) -> None:
    """R-101: by the system, which is short of memory. Another file may have it."""
    pid = await the_worker(reader, small)
    os.kill(pid, signal.SIGSTOP)
    task = await begun(reader, small)
    os.kill(pid, signal.SIGKILL)
    assert await task == "Otters swim."
    assert await the_worker(reader, small) != pid


async def test_who_is_killed_twice_harms_only_its_own_file(
    reader: DocumentReader, small: Path, tmp_path: Path
) -> None:
    """R-100."""
    path = tmp_path / "stored"
    path.write_text("a\n" * (4 * MIB))
    task = asyncio.create_task(reader.chunks("p", path, "a.txt", Chunking()))
    killed = {await killed_at_work(reader)}
    killed.add(await killed_at_work(reader, *killed))
    with pytest.raises(Unreadable, match="too much memory") as raised:
        await task
    assert raised.value.code == "invalid_file"
    assert await the_worker(reader, small) not in killed


async def killed_at_work(reader: DocumentReader, *others: int) -> int:
    """Kill the process that reads, which is not one of those."""
    async with asyncio.timeout(20):
        while True:
            for worker in reader._workers._busy:
                if worker.is_ready and worker.process.pid not in others:
                    worker.process.kill()
                    return worker.process.pid
            await asyncio.sleep(0.01)


async def test_who_has_no_memory_harms_only_its_own_file(
    reader: DocumentReader, small: Path, tmp_path: Path
) -> None:
    """R-100."""
    path = tmp_path / "stored"
    path.write_bytes(b"a few words\n" * (4 * MIB))
    pid = await the_worker(reader, small)
    most = memory("VmSize", pid) + 16 * MIB
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] == 1024 * MIB
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
    with pytest.raises(Unreadable, match="too much memory") as raised:
        await reader.text("p", path, "a.txt")
    assert raised.value.code == "invalid_file"
    assert await the_worker(reader, small) != pid


async def test_who_takes_too_long_harms_only_its_own_file(
    reader: DocumentReader, small: Path, tmp_path: Path
) -> None:
    """R-100: a second of a processor instead of thirty."""
    path = tmp_path / "stored"
    path.write_text("a\n" * (4 * MIB))
    pid = await the_worker(reader, small)
    task = asyncio.create_task(reader.chunks("p", path, "a.txt", Chunking()))
    async with asyncio.timeout(20):
        while cpu_limit(pid) < CHUNK_SECONDS + TEXT_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    resource.prlimit(pid, resource.RLIMIT_CPU, (1, resource.RLIM_INFINITY))
    with pytest.raises(Unreadable, match="too long") as raised:
        await task
    assert raised.value.code == "invalid_file"
    assert await the_worker(reader, small) != pid


def cpu_limit(pid: int) -> int:
    """In seconds; 0 if there is none."""
    soft, _ = resource.prlimit(pid, resource.RLIMIT_CPU)
    return 0 if soft == resource.RLIM_INFINITY else soft


async def test_who_stops_waiting_ends_the_work(reader: DocumentReader, small: Path) -> None:
    """R-58."""
    pid = await the_worker(reader, small)
    os.kill(pid, signal.SIGSTOP)
    task = await begun(reader, small)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(5):
        while pid in children(MODULE):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await the_worker(reader, small)


async def test_projects_take_turns(reader: DocumentReader, small: Path) -> None:
    """R-118."""
    done: list[str] = []

    async def read(project: str) -> None:
        await reader.text(project, small, "a.txt")
        done.append(project)

    await asyncio.gather(*(read(project) for project in "ppppppppq"))
    assert done.index("q") <= 2


async def test_files_are_not_in_the_memory_of_the_server(
    reader: DocumentReader, small: Path, tmp_path: Path
) -> None:
    """R-100: it never has more than the text, and that only if it is wanted."""
    names = ("json of 50 MB", "text of 70 MB", "flat bomb", "pdf of 10,000 pages")
    for number, name in enumerate(names):
        (tmp_path / str(number)).write_bytes(BY_NAME[name].build())
    await the_worker(reader, small)
    gc.collect()
    before = memory("VmRSS")
    forget_peak()
    for number, name in enumerate(names):
        async with nobody_waits():
            await asyncio.gather(
                reader.text("p", tmp_path / str(number), BY_NAME[name].filename),
                return_exceptions=True,
            )
    assert memory("VmHWM") - before < 16 * MIB


def forget_peak() -> None:
    """`VmHWM` begins anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory(name: str, pid: int | None = None) -> int:
    """Bytes, of this process or another one."""
    for line in Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


async def test_all_the_text_there_may_be_holds_nobody_up(
    reader: DocumentReader, tmp_path: Path
) -> None:
    """R-118: ten MiB come as one answer."""
    path = tmp_path / "stored"
    path.write_bytes(BY_NAME["most text"].build())
    async with nobody_waits():
        assert len(await reader.text("p", path, "a.txt")) > 10 * MIB - 10


async def test_missing_packages_are_said(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-133."""
    (tmp_path / "mammoth.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    reader = DocumentReader()
    with pytest.raises(Unreadable, match=r"antiphon\[files\]") as raised:
        await reader.text("p", small, "a.txt")
    assert raised.value.code == "server_error"
    await reader.aclose()


async def test_a_server_that_ends_blames_no_file(small: Path) -> None:
    """R-101: the file would be `failed` for good."""
    reader = DocumentReader(most=1)
    pid = await the_worker(reader, small)
    os.kill(pid, signal.SIGSTOP)
    task = await begun(reader, small)
    await reader.aclose()
    with pytest.raises(Overloaded):
        await task
    assert children(MODULE) == set()
