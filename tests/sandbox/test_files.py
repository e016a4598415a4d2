"""The channel of files: what code makes of its folder reaches nobody outside (R-111)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from antiphon.sandbox.base import MOST_LISTED, Sandbox, SandboxGone, SandboxRefused, is_decent
from antiphon.sandbox.inside_files import MOST_FILES
from antiphon.sandbox.launcher import Launcher
from tests.sandbox.bench import LIMITS, printed, started, works
from tests.sandbox.cases import PRELUDE
from tests.sandbox_environment import sandbox_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRICKS = """
os.symlink("/etc/passwd", "link")
os.symlink("/proc/self/environ", "environ")
os.symlink("/proc/1/environ", "first")
os.symlink("..", "up")
os.symlink("loop", "loop")
os.mkfifo("fifo")
os.mkdir("folder.txt")
socket.socket(socket.AF_UNIX).bind("socket")
write("line\\nbreak"); write("red\\x1b[31m"); write("bidi\\u202etxt"); write(".hidden")
os.close(os.open(b"raw\\xff", os.O_CREAT))
write("n" * 255)
write("fine.txt", "fine")
os.mkdir("real"); write("real/in.txt", "in")
os.symlink("real", "linked")
os.mkdir("closed"); write("closed/x"); os.chmod("closed", 0)
"""
#: What must not be read, each for its reason.
NOT_READ = ("link", "environ", "first", "up", "loop", "fifo", "folder.txt", "socket", "none")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def launcher() -> AsyncIterator[Launcher]:
    made = Launcher(sandbox_environment())
    yield made
    await made.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(launcher: Launcher) -> AsyncIterator[Sandbox]:
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + TRICKS, 10)).ending == "ok"
        yield made


async def _read(sandbox: Sandbox, path: str, most: int = 1 << 20) -> bytes:
    async with aclosing(sandbox.get(path, most)) as pieces:
        return b"".join([piece async for piece in pieces])


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_only_files_with_decent_names_are_listed(sandbox: Sandbox) -> None:
    found = {file.path for file in await sandbox.files()}
    decent = {path for path in found if is_decent(path)}
    assert decent == {"n" * 255, "fine.txt", "real/in.txt"}
    assert found - decent == {"line\nbreak", "red\x1b[31m", "bidi\u202etxt", "\0"}


@pytest.mark.parametrize("path", NOT_READ)
async def test_what_is_no_file_is_refused(path: str, sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefused):
        await _read(sandbox, path)
    await works(sandbox)


async def test_paths_lead_nowhere_else(sandbox: Sandbox) -> None:
    """Whatever a path says, it is one of the sandbox, where there is nothing of anybody."""
    for path in ("../../etc/shadow", "/etc/shadow", "../../root/.ssh", "../../proc/1/environ"):
        with pytest.raises(SandboxRefused):
            await _read(sandbox, path)
    await works(sandbox)


async def test_files_come_and_go(sandbox: Sandbox) -> None:
    await sandbox.put("new/a.bin", 5, _pieces(b"ab", b"cde"))
    assert await _read(sandbox, "new/a.bin") == b"abcde"
    await sandbox.delete("new/a.bin")
    await sandbox.delete("new/a.bin")
    with pytest.raises(SandboxRefused):
        await _read(sandbox, "new/a.bin")


@pytest.mark.parametrize("path", ["folder.txt", "fine.txt/x", "closed/y", "loop/x"])
async def test_a_place_that_is_taken_is_refused(path: str, sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefused):
        await sandbox.put(path, 3, _pieces(b"abc"))
    await works(sandbox)


async def test_a_put_through_a_link_stays_in_there(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxRefused):
        await sandbox.put("up/x", 1, _pieces(b"x"))
    await sandbox.put("link", 3, _pieces(b"abc"))  # the link is replaced, not followed
    assert await _read(sandbox, "link") == b"abc"


async def test_where_no_file_is_any_more(launcher: Launcher) -> None:
    """A folder is none, nor a link; what cannot be looked at may be one."""
    code = """
os.mkdir("folder"); os.symlink("/etc/passwd", "link"); write("file")
os.mkdir("shut"); write("shut/file"); os.chmod("shut", 0)
"""
    paths = {"folder", "link", "file", "file/in", "none", "shut/file"}
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + code, 10)).ending == "ok"
        assert await made.lacking(paths) == paths - {"file", "shut/file"}


async def test_a_change_is_seen_whatever_its_time_is_set_to(launcher: Launcher) -> None:
    code = """
write("a", "old")
was = os.stat("a").st_mtime_ns
"""
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + code, 10)).ending == "ok"
        before = await made.files()
        change = "time.sleep(0.02); write('a', 'new'); os.utime('a', ns=(was, was))"
        assert (await made.run(change, 10)).ending == "ok"
        assert await made.files() != before


async def test_a_file_has_at_most_so_many_bytes(sandbox: Sandbox) -> None:
    code = "os.truncate(os.open('sparse', 65), 40 << 20); os.truncate(os.open('small', 65), 10)"
    await sandbox.run(PRELUDE + code, 10)
    with pytest.raises(SandboxRefused):
        await _read(sandbox, "sparse", 10 << 20)
    assert len(await _read(sandbox, "sparse", 40 << 20)) == 40 << 20
    assert await _read(sandbox, "small", 10) == bytes(10)


async def test_more_than_the_disk_is_refused(sandbox: Sandbox) -> None:
    piece = bytes(1 << 20)
    most = (LIMITS.disk >> 20) + 1
    with pytest.raises(SandboxRefused):
        await sandbox.put("big", most << 20, _pieces(*[piece] * most))
    assert "big" not in {file.path for file in await sandbox.files()}
    await works(sandbox)


async def test_a_file_that_grows_and_shrinks_is_read_to_its_end(sandbox: Sandbox) -> None:
    code = """
import itertools
def change():
    for size in itertools.cycle((1, 5 << 20, 100, 3 << 20)):
        os.truncate("growing", size)
write("growing")
threading.Thread(target=change, daemon=True).start()
"""
    await sandbox.run(PRELUDE + code, 10)
    run = asyncio.create_task(sandbox.run("time.sleep(0.3)", 10))
    assert len(await _read(sandbox, "growing", 8 << 20)) <= 5 << 20
    await run
    await works(sandbox)


async def test_a_reader_who_leaves_does_no_harm(sandbox: Sandbox) -> None:
    async with aclosing(sandbox.get("sparse", 40 << 20)) as pieces:
        async for _ in pieces:
            break
    await works(sandbox)


async def test_a_writer_who_leaves_ends_the_sandbox(launcher: Launcher) -> None:
    async with started(launcher) as sandbox:
        with pytest.raises(SandboxGone):
            await sandbox.put("half", 10, _pieces(b"half"))
        assert not sandbox.is_alive


async def test_many_files_and_deep_folders_are_listed_in_part(launcher: Launcher) -> None:
    code = """
for at in range(10_000): os.close(os.open(f"many{at}", 65))
for _ in range(3_000):
    os.mkdir("d"); os.chdir("d")
write("deep")
os.chdir("/tmp")
for _ in range(3_000):
    os.mkdir("d"); os.chdir("d")
os._exit(0)
"""
    async with started(launcher) as sandbox:
        assert (await sandbox.run(PRELUDE + code, 20)).ending == "died"
        assert len(await sandbox.files()) == MOST_FILES == MOST_LISTED + 1
        await works(sandbox)
        ran = await sandbox.run("import os; print(os.listdir('/tmp'))", 10)
        assert "'d'" not in printed(ran)


async def test_many_files_elsewhere_do_not_end_a_sandbox(launcher: Launcher) -> None:
    """More names than a command line has room for, when a session starts anew; and many zombies."""
    code = """
write("result.txt", "x")
for at in range(20_000): os.close(os.open("/tmp/" + "x" * 120 + str(at), 65))
for _ in range(40):
    if os.fork() == 0: time.sleep(1000)
os._exit(1)
"""
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + code, 20)).ending == "died"
        assert [file.path for file in await made.files()] == ["result.txt"]
        ran = await made.run("import os; print(len(os.listdir('/tmp')) < 10)", 20)
        assert (ran.ending, printed(ran)) == ("ok", "True\n")


async def test_long_names_of_any_script_are_listed(launcher: Launcher) -> None:
    code = """
folder = "/mnt/data/" + "/".join(["\\u65e5" * 80] * 4)
os.makedirs(folder)
for at in range(900): os.close(os.open(folder + "/" + "\\u672c" * 15 + str(at), 65))
"""
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + code, 20)).ending == "ok"
        assert len(await made.files()) == 900


async def test_a_list_that_is_too_long_is_cut(launcher: Launcher) -> None:
    """Each control character takes six bytes."""
    code = """
folder = "/mnt/data/" + "/".join(["\\x01" * 200] * 4)
os.makedirs(folder)
for at in range(900): os.close(os.open(folder + "/" + str(at), 65))
write("a", "x")
"""
    async with started(launcher) as made:
        assert (await made.run(PRELUDE + code, 20)).ending == "ok"
        found = [file.path for file in await made.files()]
        assert [path for path in found if is_decent(path)] == ["a"]
        assert 1 < len(found) < 900, "the others are not all of them"
        await works(made)


async def test_a_session_that_cannot_start_is_tried_again(launcher: Launcher) -> None:
    """The files stay. What it lacks here is a folder for its sockets."""
    code = """
write("result.txt", "x")
os.chmod("/run/kernel", 0)
os.chmod("/run", 0o500)
os._exit(1)
"""
    async with started(launcher) as made:
        for _ in range(2):
            ran = await made.run(PRELUDE + code, 20)
            assert ran.ending in ("died", "error")
        assert [file.path for file in await made.files()] == ["result.txt"]
