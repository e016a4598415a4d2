# ruff: noqa: E501 - lines of code in texts
"""The abuse corpus: code that takes what there is, or does not end (R-108, R-111).

Rules
1. A case says how its run may end; ``gone``: the sandbox has ended, and a new one works.
2. Whatever it is, it ends in time, this process stays as it was, and the next run works.
"""

from dataclasses import dataclass
from typing import Final

from tests.sandbox.cases import PRELUDE


@dataclass(frozen=True)
class Abuse:
    """`seconds` are those of the run; `cut`: some of its output was left out."""

    code: str
    endings: tuple[str, ...]
    seconds: float = 2.0
    cut: bool | None = False
    #: What is printed, somewhere.
    says: str = ""

    @property
    def text(self) -> str:
        """The code as it is run."""
        return PRELUDE + self.code


#: How a flood may end: of its own memory, too.
FLOODED: Final = ("timeout", "died", "memory", "error")
#: C is called by ctypes: no signal is seen before it returns.
_BLOCKED: Final = "libc.sleep(1000)"
_FILL: Final = """
for place in {places}:
    size = 0
    try:
        with open(place + "/big", "wb", buffering=0) as file:
            while True:
                size += file.write(b"x" * (1 << 20))
    except OSError as error:
        print("no:", place, size >> 20, "MiB", error)
"""

ABUSES: Final = {
    "fork bomb": Abuse(
        """
children = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        children += 1
except OSError as error:
    print("no:", children < 64, error)
""",
        ("ok",),
        says="no: True",
    ),
    "fork bomb that forks": Abuse(
        "while True:\n    try: os.fork()\n    except OSError: pass",
        ("timeout", "died", "gone", "memory"),
    ),
    "thread bomb": Abuse(
        """
threads = 0
try:
    while True:
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        threads += 1
except RuntimeError as error:
    print("no:", threads < 64, error)
""",
        ("ok",),
        says="no: True",
    ),
    "shell fork bomb": Abuse(
        "subprocess.run(['bash', '-c', ':(){ :|:& };:; sleep 1'])", ("ok", "timeout", "died")
    ),
    "memory of Python": Abuse(
        "x = []\nwhile True: x.append(bytearray(b'x') * (8 << 20))",
        ("error", "memory", "died"),
        10,
        says="MemoryError",
    ),
    "memory of children": Abuse(
        """
for _ in range(30):
    if os.fork() == 0:
        x = bytearray(b"x") * (40 << 20)
        time.sleep(1000)
time.sleep(8)
""",
        ("memory",),
        10,
    ),
    "shared memory": Abuse(
        """
import mmap
held = mmap.mmap(-1, 2 << 30)
for at in range(0, 2 << 30, 4096):
    held[at] = 1
""",
        ("memory",),
        10,
    ),
    "shared memory that nobody touches": Abuse(
        """
import mmap
held = []
while True:
    one = mmap.mmap(-1, 64 << 20)
    for at in range(0, 64 << 20, 4096):
        one[at] = 1
    one.madvise(mmap.MADV_DONTNEED)
    held.append(one)
""",
        ("memory",),
        10,
    ),
    "page tables": Abuse(
        """
import mmap
held = [mmap.mmap(-1, 1 << 39, mmap.MAP_PRIVATE | 0x4000, mmap.PROT_READ) for _ in range(2)]
for one in held:
    for at in range(0, 1 << 39, 1 << 21):
        one[at]
time.sleep(3)
""",
        ("memory",),
        20,
    ),
    "buffers of sockets": Abuse(
        """
held = []
def fill():
    while True:
        a, b = socket.socketpair()
        a.setblocking(False)
        held.append((a, b))
        try:
            while True: a.send(b"x" * 65536)
        except BlockingIOError: pass
for _ in range(6):
    if os.fork() == 0:
        try: fill()
        except OSError: time.sleep(1000)
time.sleep(8)
""",
        ("memory",),
        10,
    ),
    "what epoll watches": Abuse(
        """
import select
for _ in range(8):
    if os.fork() == 0:
        ends = [os.pipe() for _ in range(20)]
        held = []
        try:
            while True:
                held.append(select.epoll())
                for end in ends: held[-1].register(end[0])
        except OSError: time.sleep(1000)
time.sleep(8)
""",
        ("memory",),
        10,
    ),
    "pseudo-terminals": Abuse(
        """
for _ in range(3):
    if os.fork() == 0:
        held = [os.openpty() for _ in range(40)]
        time.sleep(1000)
time.sleep(8)
""",
        ("memory",),
        10,
    ),
    "files of a thread": Abuse(
        """
print("no:", libc.syscall(436, 100, 200, 2), libc.syscall(56, 0x10000 | 0x800 | 0x100, 0, 0, 0, 0))
""",
        ("ok",),
        says="no: -1 -1",
    ),
    "processes that stay": Abuse(
        """
for _ in range(40):
    if os.fork() == 0: time.sleep(1000)
""",
        ("ok",),
        says="40 processes were left, more than may be",
    ),
    "memory behind a closed door": Abuse(
        """
import mmap
libc.prctl(4, 0, 0, 0, 0)
held = mmap.mmap(-1, 1 << 30)
for at in range(0, 1 << 30, 4096):
    held[at] = 1
time.sleep(5)
""",
        ("memory",),
        10,
    ),
    "full disks": Abuse(
        _FILL.format(places=["/mnt/data", "/tmp", "/dev/shm", "/run"]),  # noqa: S108
        ("ok",),
        8,
        says="No space left",
    ),
    "a file that is too long": Abuse(
        "try:\n    os.truncate(os.open('/mnt/data/x', 65), 1 << 40)\nexcept OSError as error: print('no:', error)",
        ("ok",),
        says="no: ",
    ),
    "many empty files": Abuse(
        """
for folder in range(100):
    os.makedirs(f"/mnt/data/f{folder}")
    for at in range(100_000):
        os.close(os.open(f"/mnt/data/f{folder}/{at}", 65))
""",
        ("gone",),
        20,
    ),
    "endless loop": Abuse("while True: pass", ("timeout",), 1),
    "a regular expression": Abuse("import re\nre.match('(a+)+b', 'a' * 40)", ("timeout",), 1),
    "sleeps through interrupts": Abuse(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(100)", ("timeout",), 1
    ),
    "catches interrupts": Abuse(
        "while True:\n    try:\n        while True: time.sleep(1)\n    except BaseException: pass",
        ("timeout",),
        1,
    ),
    "blocked outside of Python": Abuse(
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n" + _BLOCKED, ("timeout",), 1
    ),
    "stops itself": Abuse("os.kill(os.getpid(), signal.SIGSTOP)", ("timeout",), 1),
    "ends itself": Abuse("os._exit(3)", ("died",)),
    "crashes": Abuse("ctypes.string_at(0)", ("died",), seconds=10.0),
    "kill -9 -1": Abuse("os.kill(-1, 9)", ("died", "error")),
    "kill -9 1": Abuse("os.kill(1, 9)\nprint('still here')", ("ok",), says="still here"),
    "all threads busy": Abuse(
        """
for _ in range(50):
    if os.fork() == 0:
        while True: pass
time.sleep(1000)
""",
        ("timeout",),
        2,
    ),
    "flood of stdout": Abuse("while True: print('x' * 10_000)", FLOODED, 1.5, cut=True),
    "flood of stderr": Abuse("while True: sys.stderr.write('x' * 10_000)", FLOODED, 1.5, cut=True),
    "flood of a descriptor": Abuse(
        "while True: os.write(1, b'x' * 10_000)", FLOODED, 1.5, cut=True
    ),
    "flood of a child": Abuse("subprocess.run(['yes'])", FLOODED, 1.5, cut=True),
    "flood of small things": Abuse(
        "for i in range(8_000): display(i)", ("ok", "timeout"), 20, cut=True
    ),
    "one long line": Abuse("print('x' * (8 << 20))", ("ok",), 10, cut=True),
    "one line that is too long": Abuse(
        "print('x' * (64 << 20))", ("error", "died", "memory", "ok"), 10, cut=None
    ),
    "flood of images": Abuse(
        """
import base64
image = base64.b64encode(b"\\x89PNG\\r\\n\\x1a\\n" + os.urandom(1 << 20)).decode()
while True: display({"image/png": image}, raw=True)
""",
        FLOODED,
        2,
        cut=True,
    ),
    "a message that is none": Abuse(
        """
shell = get_ipython().kernel
for content in ({}, {"text": 5}, {"data": 5}, {"data": {"image/png": "!"}}, {"execution_state": []}):
    for kind in ("stream", "display_data", "error", "status"):
        shell.session.send(shell.iopub_socket, kind, content, parent=shell.get_parent())
""",
        ("died",),
    ),
    "answers of its own": Abuse(
        """
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if os.readlink(path).startswith("pipe:") and not path.startswith(f"/proc/{os.getpid()}/"):
            os.write(os.open(path, os.O_WRONLY | os.O_NONBLOCK), b'{"end": "ok"}\\n')
            print("YES", path)
    except OSError: pass
print("done")
""",
        ("ok",),
        says="done",
    ),
}
