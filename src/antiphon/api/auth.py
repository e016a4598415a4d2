"""Who is calling: a bearer key in, the project it belongs to out (reliability R-27 to R-37).

Rules
1. A key is known by its SHA-256 only: in the settings, in the store, in memory (R-28).
2. Whatever is odd about the credentials is a 401 with OpenAI's words, never a 5xx, and the key is
   not repeated: at most its public prefix and its last four characters (R-27).
3. An answer of the store is believed for `ttl` seconds, so a revoked key works that long at most
   (R-37). Unknown keys are remembered apart: they cannot push out the good ones.
4. No answer of the store is no permission: `Overloaded`, 503 (R-35).
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Protocol

from starlette.types import Scope

from antiphon.backends.base import CLIENT_KEY
from antiphon.errors import AuthenticationError, InvalidRequestError, MissingAPIKey, Overloaded
from antiphon.store.base import KeyRow

KEY_PREFIX = "sk-antiphon-"
DEFAULT_PROJECT = "default"

PROJECT_RULE = "a project is 1 to 64 letters, digits, '_', '-' or '.'"
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
#: What may be shown of a key: the vendor and kind in front ("sk-proj-").
_PUBLIC_PREFIX = re.compile(r"sk-(?:[a-z]{2,12}-)?")
#: A shorter secret part is starred as a whole.
_LONG_ENOUGH = 16
#: Longer than any key; not worth a hash.
_MAX_KEY = 512
_CLIENT_KEY = CLIENT_KEY.encode()


def new_key() -> str:
    """A key with 256 random bits. It is shown once and never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> str:
    """The SHA-256 of a key, hex: what is stored and compared."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def key_hint(key: str) -> str:
    """The last four characters: what lists show to tell keys apart."""
    return key[-4:]


def is_project(name: str) -> bool:
    """Whether a project may have this name: `PROJECT_RULE`."""
    return _PROJECT.match(name) is not None


def parse_keys(setting: str) -> dict[str, str]:
    """``ANTIPHON_API_KEYS``, ``key`` or ``key:project`` separated by commas, as hash → project.

    The project is what follows the last colon: a key with a colon in it needs one behind it. Raises
    ValueError, which names the place of the bad entry but never the key.
    """
    keys: dict[str, str] = {}
    entries = [entry.strip() for entry in setting.split(",")]
    for place, entry in enumerate(entries, 1):
        if not entry:
            continue
        key, colon, project = entry.rpartition(":")
        if not colon:
            key, project = entry, DEFAULT_PROJECT
        where = f"ANTIPHON_API_KEYS, entry {place}"
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            raise ValueError(f"{where}: a key is printable ASCII without spaces")
        if not is_project(project):
            raise ValueError(f"{where}: {PROJECT_RULE}")
        if keys.setdefault(hash_key(key), project) != project:
            raise ValueError(f"{where}: this key already belongs to a project")
    return keys


def starred(key: str) -> str:
    """The key as OpenAI shows it in errors: ``sk-proj-****MxYA``."""
    match = _PUBLIC_PREFIX.match(key)
    prefix = match[0] if match else ""
    secret = key[len(prefix) :]
    tail = key[-4:]
    if len(secret) < _LONG_ENOUGH or not tail.isascii() or not tail.isprintable():
        tail = ""
    return f"{prefix}****{tail}"


class KeySource(Protocol):
    """Where keys are looked up: the part of a `Store` that is needed here."""

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        """The key with this SHA-256 (hex), revoked or not."""
        ...


class _Remembered:
    """What the store said lately: hash → project, at most `size`, the oldest goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[str, tuple[str, float]] = {}

    def get(self, digest: str, now: float) -> str | None:
        entry = self._entries.get(digest)
        if entry is None or entry[1] <= now:
            return None
        return entry[0]

    def put(self, digest: str, project: str, until: float) -> None:
        self._entries.pop(digest, None)
        if len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[digest] = (project, until)


class Authenticator:
    """Finds the project of a request: static keys first, then the store."""

    def __init__(
        self,
        static_keys: Mapping[str, str],
        store: KeySource | None = None,
        *,
        ttl: float = 5.0,
        lookup_timeout: float = 2.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`static_keys` maps the SHA-256 (hex) of a key to its project; times in seconds."""
        self._static = dict(static_keys)
        self._store = store
        self._ttl = ttl
        self._lookup_timeout = lookup_timeout
        self._clock = clock
        self._known = _Remembered(10_000)
        self._unknown = _Remembered(1_000)

    async def project(self, scope: Scope) -> str:
        """The caller's project, also left in ``scope["state"]["project"]`` for the access log.

        Raises AuthenticationError (401) or Overloaded (503).
        """
        key = _bearer(scope)
        digest = hash_key(key)
        project = self._static.get(digest)
        if project is None and self._store is not None:
            project = await self._stored(digest, self._store)
        if project is None:
            raise _incorrect(key)
        scope.setdefault("state", {})["project"] = project
        return project

    async def _stored(self, digest: str, store: KeySource) -> str | None:
        now = self._clock()
        project = self._known.get(digest, now)
        if project is not None:
            return project
        if self._unknown.get(digest, now) is not None:
            return None
        try:
            async with asyncio.timeout(self._lookup_timeout):
                row = await store.key(digest)
        except TimeoutError as exc:
            raise Overloaded from exc
        until = now + self._ttl
        # The lookup was by the hash of the secret; the comparison guards against a store that
        # answers with a row that is only alike (case, padding, collation).
        if (
            row is None
            or row.revoked_at is not None
            or not hmac.compare_digest(row.hash.encode(), digest.encode())
        ):
            self._unknown.put(digest, "", until)
            return None
        self._known.put(digest, row.project, until)
        return row.project


def client_key(scope: Scope) -> str | None:
    """The client's own key for the backend (`CLIENT_KEY`). Raises `InvalidRequestError`."""
    found = [value for name, value in scope["headers"] if name == _CLIENT_KEY]
    if not found:
        return None
    key: str = found[0].decode("latin-1")
    if len(found) > 1 or not (key and key.isascii() and key.isprintable() and " " not in key):
        raise InvalidRequestError(
            f"Invalid '{CLIENT_KEY}': expected one header of printable ASCII characters.",
            param=CLIENT_KEY,
            code="invalid_value",
        )
    return key


def _incorrect(key: str) -> AuthenticationError:
    return AuthenticationError(
        f"Incorrect API key provided: {starred(key)}. You can find your API key at "
        "https://platform.openai.com/account/api-keys."
    )


def _bearer(scope: Scope) -> str:
    """The key in the Authorization field."""
    found: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            if found is not None:
                raise _incorrect("")
            found = value
    if found is None:
        raise MissingAPIKey
    scheme, _, credentials = found.strip().partition(b" ")
    credentials = credentials.strip()
    if scheme.lower() != b"bearer" or not credentials:
        raise MissingAPIKey
    if len(credentials) > _MAX_KEY:
        raise _incorrect("")
    # Latin-1 takes any byte; a key that we made is ASCII, so anything else is simply unknown.
    return credentials.decode("latin-1")
