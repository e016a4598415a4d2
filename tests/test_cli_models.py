"""``antiphon models``: a hub on loopback, files, and a server with one model."""

import hashlib
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest

from tests.api.command import Case, Outcome, shell
from tests.api.talk import client_of, create
from tests.backends.tiny_gguf import write_model
from tests.live import KEY, LiveServer, launch

Run: TypeAlias = Callable[..., Outcome]
BYTES = b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(range(256)) * 4_000
REPO = "someone/Some-Model-GGUF"
NAMES = ["README.md", "Some-Model-Q4_K_M.gguf", "Some-Model-Q8_0.gguf", "mmproj-Some-Model.gguf"]


class Hub(ThreadingHTTPServer):
    """Answers as Hugging Face does: HEAD says what a file is, GET leads elsewhere."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.names = NAMES
        self.content = BYTES
        self.sha256 = hashlib.sha256(BYTES).hexdigest()
        #: Bytes after which a connection breaks; None: none.
        self.breaks: int | None = None
        self.takes_ranges = True
        self.requests: list[tuple[str, str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self) -> list[str | None]:
        """The `Range` of each file that was fetched."""
        return [wanted for method, path, wanted, _ in self.requests if path.startswith("/blob")]


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._note()
        name = Path(self.path.partition("?")[0]).name
        if "/resolve/main/" not in self.path or name not in self.server.names:
            self._say(404)
            return
        size = str(len(self.server.content))
        self._say(
            302,
            {
                "Location": "/blob/x",
                "X-Linked-Size": size,
                "X-Linked-Etag": f'"{self.server.sha256}"',
            },
        )

    def do_GET(self) -> None:
        self._note()
        if self.path.startswith("/api/models/"):
            files = [{"rfilename": name} for name in self.server.names]
            self._say(200, body=orjson.dumps({"siblings": files}))
        elif "/resolve/main/" in self.path:
            self._say(302, {"Location": f"http://localhost:{self.server.server_port}/blob/x"})
        else:
            self._send_file()

    def _send_file(self) -> None:
        content, start = self.server.content, 0
        if self.server.takes_ranges and (wanted := self.headers.get("Range")):
            start = int(re.findall(r"\d+", wanted)[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = self.server.breaks
        self.wfile.write(content[start:stop])
        if stop is not None:
            self.close_connection = True

    def _note(self) -> None:
        said = self.headers.get("Range"), self.headers.get("Authorization")
        self.server.requests.append((self.command, self.path, *said))

    def _say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where models are."""
    return tmp_path / "data" / "models"


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[Sequence[Case]], list[Outcome]]]:
    with shell() as play:
        yield play


@pytest.fixture
def run(play: Callable[[Sequence[Case]], list[Outcome]], hub: Hub, tmp_path: Path) -> Run:
    """``antiphon models …``."""

    def run(*arguments: str, **env: str) -> Outcome:
        case = Case(["models", *arguments], {"HF_ENDPOINT": hub.url, **env}, folder=str(tmp_path))
        return play([case])[0]

    return run


# -- pull ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted", [REPO, f"{REPO}:Some-Model-Q4_K_M.gguf", f"{REPO}:q4_k_m", "{url}"]
)
def test_a_file_of_a_hub(run: Run, hub: Hub, folder: Path, wanted: str) -> None:
    url = f"{hub.url}/{REPO}/resolve/main/Some-Model-Q4_K_M.gguf?download=true"
    result = run("pull", wanted.format(url=url))
    assert result.code == 0, result.stderr
    assert os.listdir(folder) == ["Some-Model-Q4_K_M.gguf"]
    assert (folder / "Some-Model-Q4_K_M.gguf").read_bytes() == BYTES
    assert "Some-Model-Q4_K_M.gguf: 1000.0 KiB" in result.stdout.replace(str(folder) + "/", "")


def test_what_is_there_is_not_fetched_again(run: Run, hub: Hub, folder: Path) -> None:
    assert run("pull", REPO).code == run("pull", REPO).code == 0
    assert len(hub.gets()) == 1
    (folder / "Some-Model-Q4_K_M.gguf").write_bytes(BYTES[:-1] + b"x")
    assert run("pull", REPO).code == 0
    assert (folder / "Some-Model-Q4_K_M.gguf").read_bytes() == BYTES, "another one"


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_a_broken_download_goes_on(run: Run, hub: Hub, folder: Path, takes_ranges: bool) -> None:
    hub.breaks, hub.takes_ranges = 500_000, takes_ranges
    broken = run("pull", REPO)
    assert broken.code == 2
    assert "what came is kept" in broken.stderr
    assert [name.startswith(".") for name in os.listdir(folder)] == [True], "it looks like none"
    hub.breaks = None
    assert run("pull", REPO).code == 0
    assert hub.gets() == [None, "bytes=500000-"]
    assert os.listdir(folder) == ["Some-Model-Q4_K_M.gguf"]
    assert (folder / "Some-Model-Q4_K_M.gguf").read_bytes() == BYTES


def test_another_file_is_not_joined_to_what_was_begun(run: Run, hub: Hub, folder: Path) -> None:
    hub.breaks = 500_000
    run("pull", REPO)
    hub.breaks, hub.content = None, BYTES[:-1] + b"x"
    hub.sha256 = hashlib.sha256(hub.content).hexdigest()
    assert run("pull", REPO).code == 0
    assert (folder / "Some-Model-Q4_K_M.gguf").read_bytes() == hub.content


def test_what_is_not_what_the_hub_has_is_thrown_away(run: Run, hub: Hub, folder: Path) -> None:
    hub.sha256 = "0" * 64
    result = run("pull", REPO)
    assert result.code == 2
    assert "SHA-256" in result.stderr
    assert os.listdir(folder) == []


@pytest.mark.parametrize("content", [b"<html>Log in</html>", b"version https://git-lfs", b""])
def test_what_is_no_model_is_thrown_away(
    run: Run, hub: Hub, folder: Path, tmp_path: Path, content: bytes
) -> None:
    hub.content, hub.sha256 = content, hashlib.sha256(content).hexdigest()
    (tmp_path / "mine.gguf").write_bytes(content)
    for wanted in (REPO, "mine.gguf"):
        result = run("pull", wanted)
        assert result.code == 2
        assert "what came is no GGUF file" in result.stderr
        assert os.listdir(folder) == []
    assert (tmp_path / "mine.gguf").exists()


def test_all_files_of_a_model_in_several(run: Run, hub: Hub, folder: Path) -> None:
    hub.names = [f"big-{number:05}-of-00003.gguf" for number in (1, 2, 3)]
    assert run("pull", REPO).code == 0
    assert sorted(os.listdir(folder)) == hub.names


def test_the_token_goes_to_the_hub_only(run: Run, hub: Hub) -> None:
    assert run("pull", REPO, HF_TOKEN="hf_secret").code == 0
    keys = {path.split("/")[1]: key for _, path, _, key in hub.requests}
    assert keys == {"api": "Bearer hf_secret", "someone": "Bearer hf_secret", "blob": None}


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (f"{REPO}:q5", "which one? Some-Model-Q4_K_M.gguf, Some-Model-Q8_0.gguf"),
        (f"{REPO}:none.gguf", "the hub does not have it"),
        ("nothing", "there is no such file"),
        ("http://127.0.0.1:1/x.gguf", "what came is kept"),
    ],
)
def test_what_cannot_be_pulled(run: Run, hub: Hub, wanted: str, reason: str) -> None:
    result = run("pull", wanted)
    assert result.code == 2
    assert reason in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_needs_no_hub(run: Run, tmp_path: Path, folder: Path, hub: Hub) -> None:
    (tmp_path / "mine.gguf").write_bytes(BYTES)
    for _ in range(2):
        assert run("pull", "mine.gguf").code == 0
    assert os.listdir(folder) == ["mine.gguf"]
    assert (folder / "mine.gguf").read_bytes() == BYTES
    assert hub.requests == []


# -- list ----------------------------------------------------------------------------------------


def test_the_list_says_who_has_which_file(run: Run, folder: Path, tmp_path: Path) -> None:
    folder.mkdir(parents=True)
    write_model(folder / "a.gguf")
    write_model(folder / "b.gguf")
    (folder / ".c.gguf.part").write_bytes(b"GGUF")
    toml = '[[backends]]\nname = "here"\nkind = "local"\npath = "a"\nmodels = ["mine"]\n'
    (tmp_path / "antiphon.toml").write_text(toml + '[embeddings]\npath = "b.gguf"\n')
    result = run("list")
    assert result.stdout.splitlines() == [
        "mine\there",
        "simulator\tantiphon-simulator",
        "a.gguf\t508.9 KiB\there",
        "b.gguf\t508.9 KiB\t[embeddings]",
    ]
    assert run().stdout.splitlines() == ["mine\there", "simulator\tantiphon-simulator"]


# -- serve ---------------------------------------------------------------------------------------


def test_a_server_with_one_model(tmp_path: Path) -> None:
    """Nothing else is read; any name is its name."""
    write_model(tmp_path / "tiny.gguf")
    command = ["antiphon.cli", "models", "serve", "tiny.gguf", "--context-window", "1024"]
    started = launch(tmp_path, command, toml="this is no TOML")
    try:
        base_url = started.wait_for_url()
        started.wait_for(re.compile('^  curl .*"model": "tiny"'))
        server = LiveServer(started.process, tmp_path, base_url, base_url.removesuffix("/v1"))
        with client_of(server, KEY, timeout=60) as client:
            for name in ("tiny", "gpt-5"):
                made = create(client, name, max_output_tokens=20)
                assert made["usage"]["output_tokens"] == 20
            (row, _) = client.get("/v1/models").json()["data"]
            assert (row["id"], row["context_window"]) == ("tiny", 1024)
    finally:
        started.stop()
    assert started.process.returncode in (0, -signal.SIGTERM)


def test_nothing_loads_the_library_here() -> None:
    """The server's own memory stays as it is (R-133)."""
    code = "import sys, antiphon.cli; print('xllamacpp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
