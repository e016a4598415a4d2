"""Starts sandboxes, and looks after them (`sandbox.base`).

Rules
1. What walls hold here is found out by trying: with all of them, then without ``/proc`` where a
   filter is known, which must refuse more user namespaces then. If none do there are no sandboxes,
   and the reason is told, until it is tried again: code never runs without walls.
2. As root the sandbox is another user's, since limits of processes do not hold for root (R-109).
3. A sandbox has nothing of this process but two pipes: no environment (the first process of a
   sandbox could be asked for it), no descriptors.
4. It has a cgroup where there can be one (`cgroups.py`), and is the first to go when the kernel has
   no memory left.
5. Memory of all processes of a sandbox, what epoll watches for them, and their pseudo-terminals are
   looked at twice a second; who has more than it may loses its session. Between two runs a sandbox
   has no time: one that takes some is ended.
"""

import asyncio
import contextlib
import functools
import io
import json
import os
import resource
import zipfile
from importlib.resources import files
from pathlib import Path
from shutil import which
from typing import Final

import structlog

from antiphon.sandbox import bubblewrap, seccomp
from antiphon.sandbox.base import Limits, Sandbox, SandboxGone
from antiphon.sandbox.box import MOST_LINE, Box
from antiphon.sandbox.bubblewrap import PROGRAM, SHARED, Walls
from antiphon.sandbox.cgroups import Cgroups, Group
from antiphon.sandbox.environment import PLACE, Environment, NoEnvironment, environment
from antiphon.sandbox.orphans import end, reap
from antiphon.sandbox.state import Fact, State
from antiphon.sandbox.state import limits as limit_facts
from antiphon.sandbox.watch import spent, usage

_log = structlog.get_logger(__name__)

#: What a sandbox has of this package: names in an archive, and files.
_SOURCES: Final = {
    "__main__.py": "inside.py",
    "antiphon/__init__.py": "",
    "antiphon/sandbox/__init__.py": "",
    "antiphon/sandbox/inside_files.py": "inside_files.py",
}
_PYTHON: Final = f"{PLACE}/bin/python"
#: The user of sandboxes when this process is root: nobody.
_NOBODY: Final = 65_534
#: Seconds: until a sandbox has started, until a try is over, between two looks.
_START: Final = 30.0
_TRY: Final = 15.0
_LOOK: Final = 0.5
#: Seconds after which what did not work is tried again.
_ANEW: Final = 10.0
#: Sandboxes that start at a time.
_STARTS: Final = 2
#: Bytes that the two programs of a sandbox have before any code.
_OWN: Final = 256 << 20
#: Seconds of processors that a sandbox may take between two runs.
_IDLE_SECONDS: Final = 1.0
_MOST_FILES: Final = 256
#: What epoll may watch for a sandbox. A kernel has a few dozen, and so has each of its forks.
_MOST_WATCHES: Final = 8_192
#: Pseudo-terminals of a sandbox: Linux has some 3,000 for all containers of a machine.
_MOST_TERMINALS: Final = 64
#: Sessions of processes, where no cgroup gives a sandbox its share of the processors: Linux may
#: give each session as much as the server has (autogroup). A sandbox begins with three.
_SESSIONS: Final = 10
#: Processes around the code, for a cgroup.
_AROUND: Final = 8
#: How nice code is: with less than a tenth of the weight of a server that has as much to do.
_BEHIND: Final = "10"
#: Tries to remove a cgroup, whose processes may take a while to go.
_PATIENCE: Final = 4
_CLOSED: Final = "the server stops"
#: Enter a cgroup by all its doors, or do not start.
_ENTER: Final = 'for door in $0; do echo $$ > "$door" || exit 1; done; exec "$@"'


class Launcher:
    """See `Sandboxes`. `folder` is that of the environment."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cgroups = Cgroups()
        self._boxes: dict[Box, Group] = {}
        self._starts = asyncio.Semaphore(_STARTS)
        self._tried: asyncio.Task[Walls | str] | None = None
        self._tried_at = 0.0
        self._watch: asyncio.Task[None] | None = None
        self._removals: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def unusable(self) -> str | None:
        """See `Sandboxes`."""
        walls = await self._walls()
        return walls if isinstance(walls, str) else None

    async def state(self) -> State:
        """What holds here, and what does not."""
        walls = await self._walls()
        if isinstance(walls, str):
            return State(walls)
        has_filter = seccomp.program() is not None
        facts = (
            Fact("own user, processes, network, IPC and files (namespaces)", True),
            Fact("own /proc", walls.has_proc, "" if walls.has_proc else "there is none in it"),
            Fact("filter of system calls", has_filter, "" if has_filter else "unknown machine"),
        )
        rest = limit_facts(self._cgroups.limits, which("choom") is not None)
        return State(None, "bubblewrap", (*facts, *rest))

    async def start(self, limits: Limits) -> Sandbox:
        """See `Sandboxes`."""
        walls = await self._walls()
        if isinstance(walls, str):
            raise SandboxGone(walls)
        async with self._starts:
            is_ready = False
            if self._is_closed:
                raise SandboxGone(_CLOSED)
            box = await self._box(walls, limits)
            try:
                if self._is_closed:
                    raise SandboxGone(_CLOSED)
                if self._watch is None or self._watch.done():
                    self._watch = asyncio.create_task(self._look(), name="sandbox-watch")
                await box.get_ready(_START)
                is_ready = True
            finally:
                if not is_ready:
                    await self._forget(box)
        return box

    @property
    def pids(self) -> list[int]:
        """The first process of each sandbox that there is."""
        return [box.pid for box in self._boxes]

    async def aclose(self) -> None:
        """See `Sandboxes`."""
        self._is_closed = True
        for task in (self._watch, self._tried):
            if task is not None:
                task.cancel()
        await asyncio.gather(*map(self._forget, list(self._boxes)), return_exceptions=True)
        async with self._starts, self._starts:  # those that still start see that it is closed
            await asyncio.gather(*self._removals, return_exceptions=True)

    # -- starting -----------------------------------------------------------------------------

    async def _walls(self) -> Walls | str:
        """Those that hold here, or why none do."""
        if self._is_closed:
            return _CLOSED
        now = asyncio.get_running_loop().time()
        if self._tried is None or (self._is_hopeless() and now - self._tried_at > _ANEW):
            self._tried, self._tried_at = asyncio.create_task(self._try()), now
        tried = self._tried
        await asyncio.wait((tried,))
        return _CLOSED if tried.cancelled() else tried.result()

    def _is_hopeless(self) -> bool:
        tried = self._tried
        return tried is not None and tried.done() and isinstance(tried.result(), str)

    async def _try(self) -> Walls | str:
        try:
            made = environment(self._folder)
        except NoEnvironment as error:
            return str(error)
        program = bubblewrap.program()
        if program is None:
            return "bubblewrap is missing: pip install 'antiphon[code]', or the system's `bwrap`"
        left = await asyncio.to_thread(reap, program, str(made.folder))
        if left:
            _log.warning("sandboxes_left", count=left)
        said = ""
        for has_proc in (True, False) if seccomp.program() else (True,):
            walls = Walls(program, has_proc)
            said = await self._trial(walls, made)
            if not said:
                return walls
        _log.warning("sandbox_unusable", reason=said)
        return said

    async def _trial(self, walls: Walls, made: Environment) -> str:
        """What is wrong with it; nothing is the empty text."""
        try:
            with _Descriptors() as descriptors:
                command = bubblewrap.command(walls, made, Limits(), *descriptors.all)
                program = await asyncio.create_subprocess_exec(
                    *(*_as_somebody(), *command, _PYTHON, "-I", "-c", ""),
                    env={},
                    start_new_session=True,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=descriptors.given,
                )
        except OSError as error:
            return error.strerror or str(error)
        try:
            async with asyncio.timeout(_TRY):
                _, said = await program.communicate()
        except TimeoutError:
            return "a sandbox takes too long to start"
        finally:
            if program.returncode is None:
                end(program.pid)
                await program.communicate()
        if program.returncode == 0:
            return ""
        lines = said.decode(errors="replace").splitlines() or ["it does not start"]
        return lines[-1][:200]

    async def _box(self, walls: Walls, limits: Limits) -> Box:
        """One that is not ready yet. Raises `SandboxGone`."""
        making = asyncio.create_task(self._make(walls, limits))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:  # asyncio cannot leave a program that is starting
            removal = asyncio.create_task(self._undo(making))
            self._removals.add(removal)
            removal.add_done_callback(self._removals.discard)
            raise

    async def _undo(self, making: "asyncio.Task[Box]") -> None:
        """What nobody waits for any more."""
        with contextlib.suppress(SandboxGone):
            await self._forget(await making)

    async def _make(self, walls: Walls, limits: Limits) -> Box:
        """See `_box`."""
        group = Group()
        try:
            made = environment(self._folder)
            group = self._cgroups.make(_all_memory(limits), limits.processes + _AROUND)
            resources = json.dumps(_resources(limits))
            with _Descriptors() as descriptors:
                command = bubblewrap.command(walls, made, limits, *descriptors.all)
                program = await asyncio.create_subprocess_exec(
                    *(*_around(group), *command, _PYTHON, "-I", PROGRAM, resources),
                    env={},
                    start_new_session=True,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    pass_fds=descriptors.given,
                    limit=MOST_LINE,
                )
        except (OSError, NoEnvironment) as error:
            await _remove(group)
            raise SandboxGone(str(error)) from None
        box = Box(program, limits)
        self._boxes[box] = group
        return box

    # -- looking after them -------------------------------------------------------------------

    async def _look(self) -> None:
        """Until there are none."""
        idle: dict[Box, tuple[int, float]] = {}
        while self._boxes:
            await asyncio.sleep(_LOOK)
            for box in list(self._boxes):
                try:
                    await self._look_once(box, idle)
                except (OSError, RuntimeError, ValueError, SandboxGone) as error:
                    _log.warning("sandbox_not_seen", error=repr(error))

    async def _look_once(self, box: Box, idle: dict[Box, tuple[int, float]]) -> None:
        """At one of them. `idle`: how often those without a run had had something to do, and the
        seconds of processors that they had had by then."""
        if not box.is_alive:
            idle.pop(box, None)
            await self._forget(box)
        elif box.is_busy:
            await self._look_at(box)
        else:
            turns = box.turns
            now = await asyncio.to_thread(spent, box.pid)
            known, before = idle.get(box, (-1, now))
            if known != turns:  # what its last run did at the very end
                await self._look_at(box)
                idle[box] = turns, now
            elif now - before > _IDLE_SECONDS and turns == box.turns:
                _log.warning("sandbox_restless", seconds=now)
                box.kill()

    async def _look_at(self, box: Box) -> None:
        """At what one has that runs something, or did."""
        most = box.limits.memory + _OWN
        now = await asyncio.to_thread(usage, box.pid)
        if now.memory > most:
            now = await asyncio.to_thread(usage, box.pid, is_exact=True)
        if now.memory > most:
            _log.info("sandbox_too_large", bytes=now.memory)
            box.too_large()
        elif now.watches > _MOST_WATCHES or now.terminals > _MOST_TERMINALS:
            _log.info("sandbox_holds_too_much", watches=now.watches, terminals=now.terminals)
            box.too_large()
        elif now.sessions > _SESSIONS and "cpu" not in self._cgroups.limits:
            _log.info("sandbox_has_many_sessions", sessions=now.sessions)
            box.kill()

    async def _forget(self, box: Box) -> None:
        """End it; nothing of it stays."""
        await box.close()
        await _remove(self._boxes.get(box, Group()))
        self._boxes.pop(box, None)


async def _remove(group: Group) -> None:
    for _ in range(_PATIENCE):
        if await asyncio.to_thread(group.remove):
            break
        await asyncio.sleep(_LOOK / _PATIENCE)


class _Descriptors:
    """What a sandbox reads at its start, as files that nobody else can open."""

    def __init__(self) -> None:
        self.inside = _memory(_archive())
        calls = seccomp.program()
        self.calls = None if calls is None else _memory(calls)

    @property
    def all(self) -> tuple[int, int | None]:
        """For `bubblewrap.command`."""
        return self.inside, self.calls

    @property
    def given(self) -> tuple[int, ...]:
        """Those that there are."""
        return tuple(one for one in self.all if one is not None)

    def __enter__(self) -> "_Descriptors":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.given:
            with contextlib.suppress(OSError):
                os.close(one)


@functools.cache
def _archive() -> bytes:
    """`inside.py` as a program, and the module that it imports, for another Python."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, source in _SOURCES.items():
            text = files("antiphon.sandbox").joinpath(source).read_bytes() if source else b""
            archive.writestr(name, text)
    return content.getvalue()


def _memory(content: bytes) -> int:
    number = os.memfd_create("antiphon")
    with os.fdopen(number, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _as_somebody() -> tuple[str, ...]:
    """See rule 2; uvloop cannot do it. Raises OSError when there is nothing that can."""
    if os.geteuid() != 0:
        return ()
    program = which("setpriv")
    if program is None:
        raise OSError("as root it needs the program setpriv")
    who = str(_NOBODY)
    return program, "--reuid", who, "--regid", who, "--clear-groups", "--"


def _around(group: Group) -> tuple[str, ...]:
    """What starts bubblewrap: code waits for the server, and not the other way round."""
    choom, nice = which("choom"), which("nice")
    return (
        *(("/bin/sh", "-c", _ENTER, " ".join(group.doors)) if group.doors else ()),
        *((nice, "-n", _BEHIND, "--") if nice is not None else ()),
        *((choom, "-n", "1000", "--") if choom is not None else ()),
        *_as_somebody(),
    )


def _all_memory(limits: Limits) -> int:
    """Bytes that a sandbox can have with its files."""
    return limits.memory + _OWN + limits.disk + limits.scratch + SHARED


def _resources(limits: Limits) -> dict[int, int]:
    return {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: limits.memory,
        resource.RLIMIT_FSIZE: limits.disk,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NOFILE: _MOST_FILES,
        resource.RLIMIT_NPROC: limits.processes,
    }
