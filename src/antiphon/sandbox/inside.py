"""What runs in a sandbox beside the code: it keeps a Jupyter kernel, and does what it is asked over
its pipes. It needs nothing of Antiphon but `inside_files.py`: another Python runs both.

Rules
1. A question is a line of JSON, ``{"do", "size"?, …}``, with `size` bytes behind it; so is what is
   said of it. Of each question the last word has ``"end"`` in it. Within a run ``interrupt`` and
   ``restart`` are heard; they have no answer, and no effect between two runs.
2. Between two questions all other processes are stopped: what a run leaves behind costs nothing.
3. Files are those of the working folder. Who asks must not believe what is found there.
4. What it says is what the code makes it say: who listens counts, and believes nothing.
5. The code has the same user, but cannot reach in here: this is the first process of its namespace,
   so no signal of the code arrives, and nobody may look into it (`PR_SET_DUMPABLE`), so its pipes
   cannot be opened through ``/proc``.
6. Whatever a question comes to, it is answered: an end of this process would be that of all files.
7. Of files in memory the sandbox may have so many bytes, which the kernel holds it to, and so many,
   which is looked at here: with too many all is over.
"""

import base64
import ctypes
import json
import os
import re
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from antiphon.sandbox.inside_files import FOLDER, Files, Json, Pipes

SOCKETS: Final = Path("/run/kernel")
#: What a session starts without.
SCRATCH: Final = (Path("/run"), Path("/tmp"), Path("/dev/shm"))  # noqa: S108
#: What matplotlib knows of fonts: looking for them takes a second.
FONTS: Final = Path("/opt/python/share/matplotlib")
#: Bytes of text, and of images, that a run shows.
MOST_TEXT: Final = 1024 * 1024
MOST_IMAGES: Final = 16 * 1024 * 1024
#: What a run shows, texts and images; more is left out.
MOST_SHOWN: Final = 5_000
#: Files and folders that one place may have.
MOST_ENTRIES: Final = 100_000
#: Processes that a run may leave, which are stopped; with more all of them go.
MOST_LEFT: Final = 32
#: Names that one command is given.
NAMES: Final = 500
#: Seconds until a kernel has started; for the last words of one that has answered; between two
#: looks at whether it lives.
START: Final = 30
REST: Final = 1.0
LOOK: Final = 0.2
#: What can happen to a question.
_TROUBLE: Final = (
    *(AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
)
_DUMPABLE: Final = 4
_NICE: Final = 10
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_IMAGES: Final = ("image/png", "image/jpeg")
#: Of the last one: `exit` and `quit` are no end, which would come in the middle of a later run.
_OPTIONS: Final = (
    "--HistoryManager.enabled=False",
    "--InteractiveShell.colors=nocolor",
    "--InteractiveShell.history_length=0",
    "--IPKernelApp.exec_lines=get_ipython().ask_exit = lambda: None",
)
#: Names of sockets, by the number that each has as its port.
_SOCKETS: Final = ("shell", "iopub", "stdin", "control", "hb")


class Kernel:
    """A Jupyter kernel on unix sockets, and a client of it."""

    def __init__(self) -> None:
        for folder in SCRATCH:
            _clear(folder)
        if FONTS.is_dir():
            shutil.copytree(FONTS, os.environ["MPLCONFIGDIR"])
        SOCKETS.mkdir(mode=0o700)
        name = secrets.token_hex(4)
        self._places = {
            "transport": "ipc",
            "ip": str(SOCKETS / name),
            "key": secrets.token_hex(32),
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
            **{f"{socket}_port": number for number, socket in enumerate(_SOCKETS, 1)},
        }
        path = SOCKETS / f"{name}.json"
        path.write_text(json.dumps(self._places))
        self._program = subprocess.Popen(  # noqa: S603 - a program of this environment
            [sys.executable, "-m", "ipykernel_launcher", "-f", str(path), *_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=FOLDER,
            start_new_session=True,
        )
        self._client: Any = None

    def connect(self) -> None:
        """Wait until it answers. Raises RuntimeError when it does not."""
        from jupyter_client.blocking import BlockingKernelClient  # noqa: PLC0415

        self._client = BlockingKernelClient()
        self._client.load_connection_info(self._places)
        self._client.start_channels(stdin=False, hb=False, control=False)
        self._client.wait_for_ready(timeout=START)

    @property
    def pid(self) -> int:
        """Of its program."""
        return self._program.pid

    @property
    def has_ended(self) -> bool:
        """It runs no more."""
        return self._program.poll() is not None

    def execute(self, code: str) -> str:
        """Begin; the id of the message."""
        sent: str = self._client.execute(code, allow_stdin=False)
        return sent

    def interrupt(self) -> None:
        """As with Ctrl-C."""
        with suppress(ProcessLookupError):
            os.killpg(self._program.pid, signal.SIGINT)

    def end(self) -> None:
        """It was killed, or has ended."""
        self._program.wait()
        if self._client is not None:
            self._client.stop_channels()

    @property
    def sockets(self) -> tuple[Any, Any]:
        """What it shows, and its replies."""
        return self._client.iopub_channel.socket, self._client.shell_channel.socket

    def message(self, socket: Any, parent: str) -> Json:
        """One that is there; empty when it is not about `parent`, or not signed."""
        try:
            _, message = self._client.session.recv(socket)
        except ValueError:
            return {}
        fits = message and message["parent_header"].get("msg_id") == parent
        return message if fits else {}


class Printer:
    """Says what a run shows, as far as there is room."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._text = MOST_TEXT
        self._images = MOST_IMAGES
        self._shown = MOST_SHOWN
        #: Something was left out.
        self.cut = False

    def text(self, text: str) -> None:
        """Printed, or an error."""
        body = _COLOURS.sub("", text).encode(errors="replace")
        self.cut = self.cut or len(body) > self._text
        body = body[: self._text]
        self._text -= len(body)
        self._say("text", body)

    def result(self, bundle: Json) -> None:
        """A value: its image if there is one, else its text."""
        for media_type in _IMAGES:
            if isinstance(bundle.get(media_type), str) and self._image(media_type, bundle):
                return
        if isinstance(bundle.get("text/plain"), str):
            self.text(bundle["text/plain"] + "\n")

    def _image(self, media_type: str, bundle: Json) -> bool:
        try:
            body = base64.b64decode(bundle[media_type])
        except ValueError:
            return False
        if len(body) > self._images:
            self.cut = True
            return False
        self._images -= len(body)
        self._say(media_type, body)
        return True

    def _say(self, what: str, body: bytes) -> None:
        self.cut = self.cut or not self._shown
        if body and self._shown:
            self._shown -= 1
            self._pipes.say({"shown": what}, body)


class Runs:
    """Runs code in a kernel, one after the other; what is not to run is stopped."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes
        self._kernel = Kernel()
        self._is_broken = False

    def get_ready(self) -> None:
        """Wait for the kernel."""
        self._kernel.connect()
        self._everybody(signal.SIGSTOP)

    def run(self, code: str) -> None:
        """See rule 1: what it shows, and how it ended."""
        self._everybody(signal.SIGCONT)
        renewed = self._kernel.has_ended or self._is_broken
        printer = Printer(self._pipes)
        try:
            if renewed:
                self._renew()
            ending = self._follow(self._kernel.execute(code), printer)
        except BrokenPipeError:
            raise  # nobody is there to ask
        except _TROUBLE:
            ending = "died"  # a kernel that talks like that is none any more
        if ending == "died":
            try:
                self._renew()
            except _TROUBLE:
                self._is_broken = True  # the next run tries it again
        self._everybody(signal.SIGSTOP)
        _bury()
        self._end_many(printer)
        self._pipes.say({"end": ending, "cut": printer.cut, "renewed": renewed})

    def _follow(self, run: str, printer: Printer) -> str:
        """Until it has ended."""
        import zmq  # noqa: PLC0415

        shown, replies = self._kernel.sockets
        poller = zmq.Poller()
        for one in (shown, replies, self._pipes.number):
            poller.register(one, zmq.POLLIN)
        ending, is_idle, until = "", False, float("inf")
        while not (ending and is_idle) and time.monotonic() < until:
            ready = dict(poller.poll(LOOK * 1000))
            _bury()
            _look_at_files()
            if (self._pipes.number in ready or self._pipes.is_asked) and self._is_ended():
                return "died"
            if shown in ready:
                is_idle = self._show(self._kernel.message(shown, run), printer) or is_idle
            if replies in ready and (reply := self._kernel.message(replies, run)):
                ending = "ok" if reply["content"].get("status") == "ok" else "error"
                until = time.monotonic() + REST
            if not ready and self._kernel.has_ended:
                return "died"
        return ending

    def _is_ended(self) -> bool:
        """What is asked in the middle of a run: whether that ended the session."""
        match self._pipes.question()["do"]:
            case "interrupt":
                self._kernel.interrupt()
            case "restart":
                return True
        return False

    def _show(self, message: Json, printer: Printer) -> bool:
        """What a message says; whether it is that the kernel is idle."""
        content = message.get("content", {})
        match message.get("msg_type"):
            case "stream":
                printer.text(content["text"])
            case "execute_result" | "display_data":
                printer.result(content["data"])
            case "error":
                printer.text("\n".join(content["traceback"]) + "\n")
            case "status":
                return bool(content["execution_state"] == "idle")
        return False

    def _renew(self) -> None:
        """Another kernel; nothing of the last one is left."""
        self._everybody(signal.SIGKILL)
        self._kernel.end()
        _end_all()
        self._kernel = Kernel()
        self._kernel.connect()
        self._is_broken = False

    def _end_many(self, printer: Printer) -> None:
        """What a run leaves goes when it is too much."""
        with suppress(OSError):  # there may be no /proc
            all_of_them = {int(name) for name in os.listdir("/proc") if name.isdigit()}
            left = all_of_them - {os.getpid(), self._kernel.pid}
            if len(left) > MOST_LEFT:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                printer.text(f"\n{len(left)} processes were left, more than may be: they ended\n")

    def _everybody(self, number: signal.Signals) -> None:
        """All but this process."""
        with suppress(ProcessLookupError):
            os.kill(-1, number)


def _clear(folder: Path) -> None:
    """Everything in it goes that can go."""
    names = os.listdir(folder)
    for at in range(0, len(names), NAMES):
        words = ("rm", "-rf", "--", *names[at : at + NAMES])  # which can do deep ones
        subprocess.run(words, check=False, cwd=folder)  # noqa: S603


def _bury() -> None:
    """Orphans become children of this process, the first one; somebody has to know of their end."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _end_all() -> None:
    """All other processes, and those that they start meanwhile; they are forgotten, too, since they
    count as long as they are not."""
    with suppress(ChildProcessError):
        while True:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            os.waitpid(-1, 0)


def _look_at_files() -> None:
    """See rule 7."""
    for place in (FOLDER, *SCRATCH):
        status = os.statvfs(place)
        if status.f_files - status.f_ffree > MOST_ENTRIES:
            os._exit(1)


def _limit(limits: Json) -> None:
    """What nobody in here can raise again. `setrlimit` holds for what is started, too."""
    for number, value in limits.items():
        resource.setrlimit(int(number), (value, value))
    os.nice(_NICE)


def _close_up() -> None:
    """See rule 5. Python has a way to be interrupted, and a first process must have none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0):
        os._exit(1)


def main() -> None:
    """Answer questions until nobody is there to ask. The limits are the first argument."""
    _close_up()
    _limit(json.loads(sys.argv[1]))
    pipes = Pipes()
    runs, files = Runs(pipes), Files(pipes)
    runs.get_ready()
    pipes.say({"end": ""})
    while True:
        question = pipes.question()
        if question["do"] == "run":
            runs.run(b"".join(pipes.body(question["size"])).decode())
            continue
        try:
            files.answer(question)
        except _TROUBLE as error:
            said = error.strerror if isinstance(error, OSError) else None
            pipes.say({"end": said or "trouble"})


if __name__ == "__main__":
    main()
