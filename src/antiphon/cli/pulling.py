"""What ``antiphon models pull`` does: from a hub, an address or a file to the folder of models.

Rules
1. What is not whole has another name (``.NAME.….part``) until its size and, where the hub says it,
   its SHA-256 are right: no half of a file is ever loaded. What is no GGUF file (a web
   page, a pointer of Git LFS) goes.
2. What is there already is not fetched again; what was begun goes on, if the file is still the
   same (`ETag`).
3. A hub is asked as Hugging Face is: ``HUB/REPO/resolve/main/FILE`` and ``HUB/api/models/REPO``.
   The token of ``HF_TOKEN`` goes to the hub and to nobody it sends us on to.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import aiohttp

from antiphon import __version__
from antiphon.backends.local.header import NotGGUF, read_header

SUFFIX: Final = ".gguf"
_HUB: Final = "https://huggingface.co"
_REPO: Final = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
#: Of a model in several files, as llama.cpp names them; it finds the others by the first.
_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
#: What is taken of several files: small, and nearly as good as the whole.
_USUAL: Final = "q4_k_m"
#: Seconds until connected, and between two pieces.
_PATIENCE: Final = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
_AT_ONCE: Final = 1 << 20

#: Told how many bytes of how many are there; None: nobody knows how many there will be.
Progress = Callable[[str, int, int | None], None]


class CannotPull(Exception):
    """The message says why, in one line."""


class _Remote(NamedTuple):
    """A file elsewhere; `etag` without quotes."""

    name: str
    size: int | None
    etag: str | None

    @property
    def sha256(self) -> str | None:
        """Hubs have it as the ETag of large files."""
        return self.etag if self.etag and _SHA256.fullmatch(self.etag) else None


@dataclass(frozen=True, slots=True)
class Puller:
    """Fetches into `folder`."""

    folder: Path
    progress: Progress
    hub: str = field(default_factory=lambda: os.environ.get("HF_ENDPOINT") or _HUB)
    token: str | None = field(default_factory=lambda: os.environ.get("HF_TOKEN"), repr=False)

    def pull(self, wanted: str) -> list[Path]:
        """The files that are there now. Raises `CannotPull` or OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (path := Path(wanted).expanduser()).is_file():
            return [self._copied(path)]
        return asyncio.run(self._pulled(wanted))

    async def _pulled(self, wanted: str) -> list[Path]:
        headers = {"User-Agent": f"antiphon/{__version__}", "Accept-Encoding": "identity"}
        try:
            async with aiohttp.ClientSession(
                timeout=_PATIENCE, headers=headers, trust_env=True
            ) as session:
                urls = await self._urls(session, wanted)
                return [await self._fetched(session, url) for url in urls]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CannotPull(f"{wanted}: {_why(error)}; what came is kept") from error

    # -- where it is --------------------------------------------------------------------------

    async def _urls(self, session: aiohttp.ClientSession, wanted: str) -> list[str]:
        if wanted.startswith(("http://", "https://")):
            return [wanted]
        repo, _, named = wanted.partition(":")
        if not _REPO.fullmatch(repo):
            raise CannotPull(f"{wanted}: there is no such file, and it is no OWNER/NAME of a hub")
        base = f"{self.hub.rstrip('/')}/{repo}/resolve/main/"
        if named.lower().endswith(SUFFIX):
            return [base + quote(name) for name in _parts(named)]
        return [base + quote(name) for name in _parts(await self._chosen(session, repo, named))]

    async def _chosen(self, session: aiohttp.ClientSession, repo: str, tag: str) -> str:
        """The one file of a repository that is meant."""
        url = f"{self.hub.rstrip('/')}/api/models/{repo}"
        async with session.get(url, headers=self._key(url)) as response:
            _check(response, repo)
            listed = await response.json(content_type=None)
        names = [
            str(row["rfilename"])
            for row in listed.get("siblings", ())
            if str(row["rfilename"]).lower().endswith(SUFFIX)
        ]
        models = [name for name in names if "mmproj" not in name.lower() and _is_first(name)]
        for mark in (tag.lower(),) if tag else ("", _USUAL):
            found = [name for name in models if mark in name.lower()]
            if len(found) == 1:
                return found[0]
        raise CannotPull(f"{repo}: which one? {', '.join(names) or 'it has no GGUF file'}")

    def _key(self, url: str) -> dict[str, str]:
        is_hub = urlsplit(url)[:2] == urlsplit(self.hub)[:2]
        return {"Authorization": f"Bearer {self.token}"} if self.token and is_hub else {}

    # -- getting it ---------------------------------------------------------------------------

    def _copied(self, path: Path) -> Path:
        """A link where that can be, else a copy."""
        target = self.folder / path.name
        if target.exists() and target.samefile(path):
            return target
        part = self.folder / f".{path.name}.copy.part"
        part.unlink(missing_ok=True)
        try:
            part.hardlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, part)
        return _named(part, target)

    async def _fetched(self, session: aiohttp.ClientSession, url: str) -> Path:
        remote = await self._asked(session, url)
        target = self.folder / remote.name
        is_like_it = target.exists() and remote.size == target.stat().st_size
        if is_like_it and remote.sha256 in (None, _digest(target)):
            return target
        mark = hashlib.sha256(f"{url} {remote.etag}".encode()).hexdigest()[:12]
        part = self.folder / f".{remote.name}.{mark}.part"
        if remote.etag is None:
            part.unlink(missing_ok=True)
        await self._download(session, url, remote, part)
        size = part.stat().st_size
        if remote.size is not None and size != remote.size:
            raise CannotPull(f"{url}: {size} bytes came of {remote.size}; what came is kept")
        if remote.sha256 is not None and _digest(part) != remote.sha256:
            part.unlink()
            raise CannotPull(f"{url}: what came is not what the hub has (SHA-256)")
        return _named(part, target)

    async def _asked(self, session: aiohttp.ClientSession, url: str) -> _Remote:
        """What the hub says of a file: of a large one it only says where it is, and what."""
        async with session.head(url, headers=self._key(url), allow_redirects=False) as response:
            _check(response, url)
            said = response.headers
        etag, size = said.get("X-Linked-Etag"), said.get("X-Linked-Size")
        if response.status == 200:  # else: what it says is of the redirection
            etag, size = etag or said.get("ETag"), size or said.get("Content-Length")
        name = Path(unquote(urlsplit(url).path)).name
        if not name.lower().endswith(SUFFIX):
            raise CannotPull(f"{url}: its name does not end with {SUFFIX}")
        return _Remote(name, int(size) if size else None, etag and etag.strip('W/"'))

    async def _download(
        self, session: aiohttp.ClientSession, url: str, remote: _Remote, part: Path
    ) -> None:
        """The rest of the file."""
        have = _length(part)
        if have and have == remote.size:
            return
        headers = {**self._key(url), **({"Range": f"bytes={have}-"} if have else {})}
        async with session.get(url, headers=headers) as response:
            _check(response, url)
            if response.status != 206:
                have = 0  # all of it comes
            self.progress(remote.name, have, remote.size)
            with part.open("ab" if have else "wb") as file:
                async for piece in response.content.iter_chunked(_AT_ONCE):
                    file.write(piece)
                    have += len(piece)
                    self.progress(remote.name, have, remote.size)
                file.flush()
                os.fsync(file.fileno())


def _parts(name: str) -> list[str]:
    """All files of a model in several files."""
    if (found := _PART.search(name)) is None:
        return [name]
    stem, count = name[: found.start()], int(found[2])
    return [f"{stem}-{number:05}-of-{found[2]}.gguf" for number in range(1, count + 1)]


def _is_first(name: str) -> bool:
    return (part := _PART.search(name)) is None or int(part[1]) == 1


def _named(part: Path, target: Path) -> Path:
    """What is whole, under its name."""
    try:
        read_header(part)
    except NotGGUF:
        part.unlink()
        raise CannotPull(f"{target.name}: what came is no GGUF file") from None
    part.replace(target)
    return target


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(response: aiohttp.ClientResponse, what: str) -> None:
    """Raises `CannotPull`."""
    if response.status in (401, 403):
        raise CannotPull(f"{what}: the hub wants a token that may read it: HF_TOKEN")
    if response.status == 404:
        raise CannotPull(f"{what}: the hub does not have it")
    if response.status >= 400:
        raise CannotPull(f"{what}: HTTP {response.status}")


def _why(error: Exception) -> str:
    text = str(error)
    with suppress(IndexError):
        return text.splitlines()[0]
    return type(error).__name__
