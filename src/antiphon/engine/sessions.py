"""Live sandboxes of containers, in this process (decision 0009, R-108 to R-113).

Rules
1. The rows of a container are what is true of its files; a sandbox has copies. Before code runs it
   gets what is new there, and afterwards what the code has made, changed or deleted is kept
   (`sandbox_files.py`). Once the code has ended that is done to its end, whoever leaves.
2. One run of a container at a time, in whatever process: who runs code has claimed the container,
   and says so until its files are kept. Where another process had it since, our session is over,
   in the middle of a run if need be, and nothing of it is kept.
3. When a session is gone (another process, a crash, a restart, too many of them) the next run has a
   new one with the files of before, and the model is told that variables are lost.
4. A session ends with its container, in the middle of a run if need be, and the one that was not
   used for longest when there are too many; one in use is never ended for another.
"""

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from antiphon.engine.containers import ContainerService
from antiphon.engine.executed import executed
from antiphon.engine.loops import for_ever
from antiphon.engine.sandbox_files import Copies, Kept, SandboxFiles
from antiphon.errors import APIError, ContainerNotFound, NotFoundError, Overloaded
from antiphon.protocol.code_interpreter import Executed
from antiphon.protocol.containers import MEMORY
from antiphon.sandbox.base import Limits, Ran, Sandbox, Sandboxes, SandboxGone
from antiphon.store.base import Claim

_log = structlog.get_logger(__name__)

#: Seconds between two looks at which containers are over.
_LOOK: Final = 15.0
#: Seconds that somebody waits until a container is not in use, and between two looks.
_PATIENCE: Final = 600.0
_PAUSE: Final = 0.2
#: Seconds that a run waits until one of too many sessions is not used.
_SOON: Final = 5.0
#: Seconds for which a run says that it runs, and after which it says so again.
_BUSY: Final = 6
_BEAT: Final = 2.0
#: Seconds that the end waits for files that are being kept.
_LAST_FILES: Final = 5.0

RENEWED: Final = (
    "The Python session was started anew: variables and imports of before are lost; the files in "
    "/mnt/data are still there."
)
GONE: Final = (
    "The sandbox has ended while the code ran: variables are lost, and so are files that were not "
    "there before this call."
)
NOT_STARTED: Final = "The sandbox did not start. Try again later."
LATE: Final = "The call was stopped: with its files it took longer than {:g} seconds."


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """`most` sandboxes at once; `seconds` of one run; bytes of the files of a container. `around`:
    seconds beside those of the code, when a sandbox has to be started or files take long."""

    most: int = 20
    seconds: float = 50.0
    disk: int = 512 << 20
    around: float = 60.0


@dataclass(slots=True, eq=False)
class _Session:
    """That of a container, whose files are the `copies`."""

    copies: Copies
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    sandbox: Sandbox | None = None
    #: Variables of before are lost, and the model was not told yet.
    is_anew: bool = False
    #: One is being started.
    starting: bool = False
    #: Runs that are under way or wait.
    users: int = 0
    #: Files of the last run that are being kept.
    keeping: asyncio.Task[Kept] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.copies.key

    @property
    def is_live(self) -> bool:
        return self.sandbox is not None or self.starting

    @property
    def is_used(self) -> bool:
        return self.users > 0 or (self.keeping is not None and not self.keeping.done())

    async def settle(self) -> None:
        """Wait until the files of the last run are kept; its trouble was that run's."""
        if self.keeping is not None:
            await asyncio.wait([self.keeping])
            if not self.keeping.cancelled():
                self.keeping.exception()
            self.keeping = None

    async def end(self) -> None:
        sandbox, self.sandbox = self.sandbox, None
        self.is_anew = False
        self.copies.clear()
        if sandbox is not None:
            await sandbox.close()


class Sessions:
    """See the rules; `start` and `aclose` it."""

    def __init__(
        self, sandboxes: Sandboxes, containers: ContainerService, options: SessionOptions
    ) -> None:
        self.sandboxes = sandboxes
        self._containers = containers
        self._options = options
        #: This process, for whoever else claims a container.
        self._owner = secrets.token_hex(8)
        self._files = SandboxFiles(containers, self._owner)
        #: By project and container, the one that was used longest ago first.
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._changed = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look for containers that are over, from now on."""
        self._reaper = asyncio.create_task(for_ever(self._reap_on, "sessions"), name="sessions")
        self._containers.on_change = lambda _: self._changed.set()

    async def aclose(self) -> None:
        """End all, once files are kept."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        keeping = [one.keeping for one in self._sessions.values() if one.keeping is not None]
        if keeping:
            await asyncio.wait(keeping, timeout=_LAST_FILES)
        await self.sandboxes.aclose()

    async def run(self, project: str, container_id: str, code: str) -> Executed:
        """Run code in a container; its time begins when nobody else runs code in there. Raises
        `NotFoundError` when it is over, and `Overloaded`."""
        most = self._options.seconds + self._options.around
        async with self._session(project, container_id) as session:
            claim = await self._claim(session)
            beat = asyncio.create_task(self._beat(session), name="container-beat")
            try:
                async with asyncio.timeout(most):
                    return await self._run(session, claim, code, beat)
            except TimeoutError:
                return Executed(notes=[LATE.format(most)], has_failed=True)
            finally:
                if session.keeping is None:
                    await self._release(session, beat)

    async def _run(
        self, session: _Session, claim: Claim, code: str, beat: asyncio.Task[None]
    ) -> Executed:
        await self._get_ready(session, claim)
        sandbox = session.sandbox
        if sandbox is None:
            return Executed(notes=[NOT_STARTED], has_failed=True)
        notes: list[str] = []
        try:
            notes += await self._files.bring(session.copies, sandbox)
            ran = await sandbox.run(code, self._options.seconds)
            notes[:0] = [RENEWED] if session.is_anew or ran.renewed else []
            session.is_anew |= ran.renewed or ran.ending in ("died", "memory")
            session.keeping = asyncio.create_task(self._keep(session, sandbox, beat))
            kept = await asyncio.shield(session.keeping)
        except SandboxGone:
            await session.end()
            return Executed(notes=[*notes, GONE], has_failed=True)
        done = await self._told(ran, kept, notes)
        session.is_anew = False
        return done

    async def _keep(self, session: _Session, sandbox: Sandbox, beat: asyncio.Task[None]) -> Kept:
        """What the code has made of the files, if the container is still ours; it is until then."""
        try:
            if not await self._hold(session, _BUSY):
                raise SandboxGone
            return await self._files.collect(session.copies, sandbox)
        finally:
            await self._release(session, beat)

    async def _told(self, ran: Ran, kept: Kept, notes: list[str]) -> Executed:
        made = await executed(ran, self._options.seconds)
        notes = [*notes, *made.notes, *kept.lost]
        return Executed(made.outputs, kept.made, notes, made.has_failed, kept.links)

    @property
    def longest(self) -> float:
        """Seconds that `run` may take, with all its waiting."""
        return 2 * _PATIENCE + self._options.seconds + self._options.around

    # -- sessions -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self, project: str, container_id: str) -> AsyncGenerator[_Session, None]:
        """That of a container, for one run."""
        key = project, container_id
        session = self._sessions.setdefault(key, _Session(Copies(project, container_id)))
        self._sessions.move_to_end(key)
        session.users += 1
        try:
            try:
                await asyncio.wait_for(session.turn.acquire(), _PATIENCE)
            except TimeoutError:
                raise _in_use() from None
            try:
                await session.settle()
                yield session
            finally:
                session.turn.release()
        finally:
            session.users -= 1
            if not session.is_used and session.sandbox is None:
                self._drop(session)

    async def _claim(self, session: _Session) -> Claim:
        """Wait until no other process runs code in it."""
        until = asyncio.get_running_loop().time() + _PATIENCE
        while asyncio.get_running_loop().time() < until:
            claim = await self._containers.claim(*session.key, self._owner, _BUSY)
            if not claim.busy:
                return claim
            await asyncio.sleep(_PAUSE)
        raise _in_use()

    async def _hold(self, session: _Session, seconds: int) -> bool:
        return await self._containers.hold(*session.key, self._owner, seconds)

    async def _beat(self, session: _Session) -> None:
        """Say that it is ours; when it is not any more nothing is left to do in its sandbox."""
        while True:
            await asyncio.sleep(_BEAT)
            with contextlib.suppress(APIError):
                if not await self._hold(session, _BUSY) and session.sandbox is not None:
                    _log.warning("container_lost", container_id=session.copies.container_id)
                    await session.sandbox.close()

    async def _release(self, session: _Session, beat: asyncio.Task[None]) -> None:
        """Others may have it."""
        beat.cancel()
        with contextlib.suppress(APIError):
            await self._hold(session, 0)

    async def _get_ready(self, session: _Session, claim: Claim) -> None:
        """A sandbox that lives, if one can be started."""
        sandbox = session.sandbox
        if sandbox is not None and (claim.owner != self._owner or not sandbox.is_alive):
            await session.end()
        if session.sandbox is not None:
            return
        row = await self._containers.use(*session.key)
        limits = Limits(memory=MEMORY[row.memory_limit], disk=self._options.disk)
        await self._make_room()
        session.starting = True
        try:
            session.sandbox = await self.sandboxes.start(limits)
            session.is_anew = claim.used
        except SandboxGone:
            _log.warning("sandbox_not_started", container_id=session.copies.container_id)
        finally:
            session.starting = False

    async def _make_room(self) -> None:
        """End sessions that nobody uses until there are fewer than there may be; when all are used,
        wait a little. Nothing is waited for between the last count and the return."""
        until = asyncio.get_running_loop().time() + _SOON
        while sum(one.is_live for one in self._sessions.values()) >= self._options.most:
            idle = (one for one in self._sessions.values() if one.is_live and not one.is_used)
            session = next(idle, None)
            if session is not None:
                self._drop(session)
                await session.end()
            elif asyncio.get_running_loop().time() < until:
                await asyncio.sleep(_PAUSE)
            else:
                raise Overloaded("Too many containers run code at the moment.", retry_after=5)

    def _drop(self, session: _Session) -> None:
        """Out of the table, unless its container has another one by now."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]

    async def _reap_on(self) -> None:
        while True:
            self._changed.clear()
            for session in list(self._sessions.values()):
                await self._reap(session)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK)

    async def _reap(self, session: _Session) -> None:
        """End it if its container is over; one in use only if that is gone. What became of the
        session meanwhile is looked at afterwards."""
        is_gone = is_over = False
        try:
            await self._containers.look(*session.key)
        except ContainerNotFound:
            is_gone = is_over = True
        except NotFoundError:
            is_over = True
        except APIError as error:
            _log.warning("container_not_asked_for", error=error.message)
        sandbox = session.sandbox
        if session.is_used:
            if is_gone and sandbox is not None:
                await sandbox.close()
        elif is_over or sandbox is None or not sandbox.is_alive:
            self._drop(session)
            await session.end()


def _in_use() -> Overloaded:
    return Overloaded("Other code runs in the container.", retry_after=5)
