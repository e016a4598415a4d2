"""What `inside.py` has of pipes and files. Rules are there."""

import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path("/mnt/data")
#: Files that are listed, of which the last only says that there are more; bytes of the path of a
#: folder that is looked into.
MOST_FILES: Final = 1_001
MOST_PATH: Final = 1024
#: Bytes of a list of files.
MOST_LIST: Final = 2 * 1024 * 1024 - 16
#: Bytes that are copied at a time.
PIECE: Final = 256 * 1024

Json = dict[str, Any]


class Pipes:
    """Questions in, words out; nobody else has them."""

    def __init__(self) -> None:
        self._source = os.fdopen(os.dup(0), "rb", buffering=0)
        self._sink = os.fdopen(os.dup(1), "wb", buffering=0)
        self._read = bytearray()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):
            os.dup2(null, number)
        #: To wait for the next question.
        self.number = self._source.fileno()

    @property
    def is_asked(self) -> bool:
        """Whether a question was read already."""
        return b"\n" in self._read

    def question(self) -> Json:
        """The next one. Without anybody who asks all is over."""
        while not self.is_asked:
            self._read += self._piece(PIECE)
        line, _, rest = self._read.partition(b"\n")
        self._read = rest
        question: Json = json.loads(line)
        return question

    def body(self, size: int) -> Iterator[bytes]:
        """The bytes behind a question."""
        while size:
            piece = bytes(self._read[:size])
            del self._read[: len(piece)]
            piece = piece or self._piece(min(size, PIECE))
            size -= len(piece)
            yield piece

    def say(self, word: Json, body: bytes = b"") -> None:
        """A line, with bytes behind it."""
        word = {**word, "size": len(body)} if body else word
        self.write(json.dumps(word).encode() + b"\n")
        self.write(body)

    def write(self, content: bytes) -> None:
        """Bytes that were announced."""
        left = memoryview(content)
        while left:
            left = left[self._sink.write(left) :]

    def _piece(self, most: int) -> bytes:
        piece = self._source.read(most)
        if not piece:
            os._exit(0)
        return piece


class Files:
    """The working folder."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes

    def put(self, question: Json) -> None:
        """Write one, beside its place first."""
        path = FOLDER / question["path"]
        draft = path.with_name(f".new-{secrets.token_hex(8)}")
        trouble = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = draft.open("xb", buffering=0)
        except OSError as error:
            trouble = error.strerror or "trouble"
            file = open(os.devnull, "wb", buffering=0)  # noqa: SIM115 - closed below
        with file:
            for piece in self._pipes.body(question["size"]):
                try:
                    if not trouble:
                        _write(file, piece)
                except OSError as error:
                    trouble = error.strerror or "trouble"
        try:
            if trouble:
                draft.unlink(missing_ok=True)
            else:
                draft.replace(path)
        except OSError as error:
            trouble = trouble or error.strerror or "trouble"
        self._pipes.say({"end": trouble})

    def get(self, question: Json) -> None:
        """Read one: its size, then so many bytes."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            number = os.open(FOLDER / question["path"], flags)
        except OSError as error:
            self._pipes.say({"end": error.strerror})
            return
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            os.close(number)
            self._pipes.say({"end": "Not a file"})
            return
        with os.fdopen(number, "rb", buffering=0) as file:
            if status.st_size > question["most"]:
                self._pipes.say({"end": "File too large"})
            else:
                self._pipes.say({"end": "", "size": status.st_size})
                left = status.st_size
                while left:  # if it was cut meanwhile there are zeros
                    piece = file.read(min(left, PIECE)) or bytes(min(left, PIECE))
                    left -= len(piece)
                    self._pipes.write(piece)

    def delete(self, question: Json) -> None:
        """Forget one."""
        try:
            (FOLDER / question["path"]).unlink(missing_ok=True)
        except OSError as error:
            self._pipes.say({"end": error.strerror})
        else:
            self._pipes.say({"end": ""})

    def lacking(self, question: Json) -> None:
        """At which of some paths no file is."""
        paths = json.loads(b"".join(self._pipes.body(question["size"])))
        gone = [path for path in paths if not _is_file(FOLDER / path)]
        self._pipes.say({"end": ""}, json.dumps(gone).encode())

    def listing(self) -> None:
        """All of them, as ``[path, bytes, changed]``: no hidden ones, no links. The time of the
        last change is the one that code cannot set; a name that is no text comes as one that nobody
        takes."""
        found: list[list[Any]] = []
        for folder, folders, names in os.walk(FOLDER):
            deep = len(os.fsencode(folder)) > MOST_PATH
            folders[:] = sorted(name for name in folders if not (deep or name.startswith(".")))
            for name in sorted(names):
                path = Path(folder, name)
                try:
                    status = path.lstat()
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode) and not name.startswith("."):
                    place = os.fsencode(path.relative_to(FOLDER))
                    found.append([_text(place), status.st_size, status.st_ctime_ns])
            if len(found) >= MOST_FILES:
                break
        left, rows = MOST_LIST, []
        for row in found[:MOST_FILES]:
            rows.append(json.dumps(row, ensure_ascii=False).encode())
            left -= len(rows[-1]) + 1
            if left < 0:
                rows.pop()
                break
        self._pipes.say({"end": ""}, b"[" + b",".join(rows) + b"]")

    def answer(self, question: Json) -> None:
        """One of these."""
        match question["do"]:
            case "put":
                self.put(question)
            case "get":
                self.get(question)
            case "delete":
                self.delete(question)
            case "list":
                self.listing()
            case "lacking":
                self.lacking(question)


def _is_file(path: Path) -> bool:
    """Whether one is there, or may be."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _text(place: bytes) -> str:
    try:
        return place.decode()
    except UnicodeDecodeError:
        return "\0"


def _write(file: Any, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[file.write(left) :]
