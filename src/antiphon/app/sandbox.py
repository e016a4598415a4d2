"""Where code of models runs, and what may be asked for."""

from pathlib import Path

from antiphon.engine.coding import Coding
from antiphon.engine.containers import ContainerService
from antiphon.engine.sessions import SessionOptions, Sessions
from antiphon.sandbox.launcher import Launcher
from antiphon.settings import Settings
from antiphon.tools.code_interpreter.tool import CodeInterpreter


def sandbox_folder(settings: Settings) -> Path:
    """The folder of the Python of sandboxes."""
    folder = Path(settings.sandbox) if settings.sandbox else settings.data_dir / "sandbox"
    return folder.absolute()


def sessions_of(settings: Settings, containers: ContainerService) -> Sessions:
    """Those of this process, not started yet."""
    options = SessionOptions(
        settings.containers,
        settings.tool_timeout,
        settings.container_disk,
    )
    return Sessions(Launcher(sandbox_folder(settings)), containers, options)


def code_interpreter_of(containers: ContainerService, sessions: Sessions) -> CodeInterpreter:
    """The tool. Sessions hold the time of a call; its own limit is for what they have not seen."""
    return CodeInterpreter(Coding(containers, sessions), sessions.longest)
