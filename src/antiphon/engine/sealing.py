"""Sealed contents: what a client carries for us and can neither read nor change (spec §9).

Rules
1. A seal is ``antiphon.1.<key id>.<base64url>``: nonce and ciphertext of AES-256-GCM. It is bound
   to its kind, its project and its key (the associated data): no other project can open it.
2. The newest key seals, all open. They come from the settings, else from the store, where the first
   process that needs one makes it.
3. What has not our prefix is foreign, which is no error. What has it is opened or refused: one seal
   has one spelling, and no bit of it can be changed.
4. cryptography is loaded by the first seal, in some 10 ms: it takes 7 MB.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import orjson

from antiphon.errors import Overloaded
from antiphon.protocol.fields import MAX_FILE_DATA
from antiphon.store.base import EncryptionKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: ``secret``: what a tool of a background request needs, while the request waits (R-91).
Kind: TypeAlias = Literal["reasoning", "compaction", "secret"]
#: The id of its key, and its body.
_Seal: TypeAlias = tuple[str, str]

#: Everything that any version of this server has sealed.
OURS: Final = "antiphon."
_VERSION: Final = "antiphon.1"
#: NIST SP 800-38D: 96 bits.
_NONCE: Final = 12
_KEY: Final = 32
#: Characters of a key's id.
_ID: Final = 8
#: Characters of a secret that is no 32 bytes in base64.
_LEAST_SECRET: Final = 32
#: Characters of the longest seal that is opened: as many as the request's field may have.
_LONGEST: Final = MAX_FILE_DATA
#: Characters that are opened in a thread (some 2 ms of work), and how many each seal costs more.
_LONG: Final = 256 * 1024
_EACH: Final = 1024
#: Seconds: so old may the keys be when a run begins (`refresh`), and so far apart are the questions
#: that unknown keys make us ask the store.
_STALE: Final = 60.0
_APART: Final = 1.0
#: Ids of keys that are remembered as lost.
_MOST_LOST: Final = 1_000


class Unverifiable(Exception):
    """Encrypted content could not be decrypted or parsed."""


def new_encryption_key(now: int) -> EncryptionKey:
    """A new random key, made at `now` (Unix seconds)."""
    return _key_of(os.urandom(_KEY), now)


def parse_encryption_keys(setting: str) -> list[EncryptionKey]:
    """``ANTIPHON_ENCRYPTION_KEYS``: secrets separated by commas, the one that seals first.

    A secret is 32 bytes in base64, or any text of at least 32 characters. Raises ValueError, which
    names the place of the bad entry but never the secret.
    """
    keys: dict[str, EncryptionKey] = {}
    entries = [entry.strip() for entry in setting.split(",")]
    for place, entry in enumerate(entries, 1):
        if not entry:
            continue
        if len(entry) < _LEAST_SECRET:
            raise ValueError(
                f"ANTIPHON_ENCRYPTION_KEYS, entry {place}: a key is 32 bytes in base64, or a text "
                f"of at least {_LEAST_SECRET} characters"
            )
        key = _key_of(_secret(entry), 0)
        keys.setdefault(key.id, key)
    return list(keys.values())


def _secret(entry: str) -> bytes:
    try:
        raw = base64.b64decode(entry.replace("-", "+").replace("_", "/"), validate=True)
    except ValueError:
        raw = b""
    return raw if len(raw) == _KEY else hashlib.sha256(entry.encode()).digest()


def _key_of(secret: bytes, now: int) -> EncryptionKey:
    return EncryptionKey(hashlib.sha256(secret).hexdigest()[:_ID], secret, now)


class KeySource(Protocol):
    """Where keys are kept: the part of a `Store` that is needed here."""

    async def encryption_keys(self) -> list[EncryptionKey]:
        """All keys of sealed contents, newest first."""
        ...

    async def add_encryption_key(self, key: EncryptionKey, *, first: bool) -> bool:
        """Store a new key; `first`: only if there is none yet. Whether it was stored."""
        ...


class Sealer:
    """Seals and opens; one for the whole process."""

    def __init__(
        self,
        store: KeySource,
        keys: Sequence[EncryptionKey] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keys` of the settings, the one that seals first; without any, those of the store."""
        self._store = store
        self._clock = clock
        self._fixed = bool(keys)
        self._asking = asyncio.Lock()
        #: When the store was asked last, and whether it answered.
        self._asked_at = clock()
        self._answered = True
        #: Ids that were looked for and not there. A key is made before it seals: who comes with
        #: another id may have a newer key than the last answer knew; who comes with one of these
        #: has not.
        self.lost: set[str] = set()
        self._keys: dict[str, bytes] = {}
        #: What codes are made with, by id: not the key itself, which seals.
        self._code_keys: dict[str, bytes] = {}
        self._newest = ""
        self._take(keys)

    async def open(self) -> None:
        """Load the keys; make the first one. Raises `Overloaded`."""
        if not self._fixed:
            await self._load()

    async def refresh(self) -> None:
        """Follow what other processes did to the keys, within a minute. Cheap: call it before each
        run. Without a store the keys stay as they are."""
        if not self._fixed and self._clock() - self._asked_at >= _STALE:
            with contextlib.suppress(Overloaded):
                async with self._asking:
                    if self._clock() - self._asked_at >= _STALE:
                        await self._load()

    def seal(self, kind: Kind, project: str, payload: Any) -> str:
        """`payload`, any JSON value, as nobody but this project can have it opened."""
        key_id = self._newest
        nonce = os.urandom(_NONCE)
        bound = _bound(kind, project, key_id)
        sealed = nonce + _cipher(self._keys[key_id]).encrypt(nonce, orjson.dumps(payload), bound)
        return f"{_VERSION}.{key_id}.{_encoded(sealed)}"

    def code(self, project: str, text: bytes) -> str:
        """Hex digits that only this server can make for this text, with its newest key."""
        return _code(self._code_keys[self._newest], project, text)

    def is_code(self, project: str, text: bytes, code: str) -> bool:
        """Whether `code` is, or begins, the code of the text, with any key."""
        return any(
            hmac.compare_digest(_code(key, project, text)[: len(code)], code)
            for key in self._code_keys.values()
        )

    async def unseal(self, kind: Kind, project: str, text: str) -> Any:
        """What was sealed; None for what is not ours.

        Raises `Unverifiable`, and `Overloaded` when its key may be in a store that does not answer.
        """
        (outcome,) = await self.unseal_all(kind, project, [text])
        if isinstance(outcome, Unverifiable):
            raise outcome
        return outcome

    async def unseal_all(self, kind: Kind, project: str, texts: Sequence[str]) -> list[Any]:
        """Of each what `unseal` says; an `Unverifiable` is returned, not raised. Many are opened
        together, beside the event loop (R-118). Raises `Overloaded`."""
        await self.refresh()
        seals = [_parted(text) for text in texts]
        unknown = {key_id for key_id, _ in filter(None, seals) if len(key_id) == _ID}
        unknown -= self._keys.keys()
        if unknown and not self._fixed:
            await self._look_for(unknown)
        bounds = {key_id: _bound(kind, project, key_id) for key_id in self._keys}
        if sum(len(body) + _EACH for _, body in filter(None, seals)) > _LONG:
            return await asyncio.to_thread(_outcomes, seals, self._keys, bounds)
        return _outcomes(seals, self._keys, bounds)

    async def _look_for(self, key_ids: Set[str]) -> None:
        """Another process may have made these keys. However many are looked for, the store is asked
        once in `_APART` seconds, nobody is refused who was not asked for, and nobody waits for
        what is known to be lost."""
        since = self._clock()
        if self._are_lost(key_ids):
            return
        async with self._asking:
            unknown = key_ids - self._keys.keys()
            if not unknown or self._are_lost(unknown):
                return
            if self._asked_at < since:
                await asyncio.sleep(self._asked_at + _APART - self._clock())
                await self._load()
            elif not self._answered:
                raise Overloaded
            if len(self.lost) + len(unknown) > _MOST_LOST:
                self.lost.clear()
            self.lost |= set(list(unknown - self._keys.keys())[:_MOST_LOST])

    def _are_lost(self, key_ids: Set[str]) -> bool:
        """Whether the last answer says so, and is no older than `_APART`."""
        fresh = self._answered and self._clock() - self._asked_at < _APART
        return fresh and key_ids <= self.lost

    async def _load(self) -> None:
        self._asked_at = self._clock()
        self._answered = False
        keys = await self._store.encryption_keys()
        if not keys:
            await self._store.add_encryption_key(new_encryption_key(int(time.time())), first=True)
            keys = await self._store.encryption_keys()
        self._take(keys)
        self._answered = True

    def _take(self, keys: Iterable[EncryptionKey]) -> None:
        keys = list(keys)
        self._keys = {key.id: key.key for key in keys}
        self._code_keys = {
            key.id: hmac.digest(key.key, b"antiphon codes", "sha256") for key in keys
        }
        self._newest = next(iter(self._keys), "")


def _bound(kind: Kind, project: str, key_id: str) -> bytes:
    """What a seal is bound to; only the project may have any characters in it."""
    return f"{_VERSION}|{kind}|{project}|{key_id}".encode()


def _code(key: bytes, project: str, text: bytes) -> str:
    return hmac.digest(key, project.encode() + b"\0" + text, "sha256").hex()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _parted(text: str) -> _Seal | None:
    """Key id and body of a seal; None: it is not ours. What cannot be a seal has neither."""
    if not text.startswith(OURS):
        return None
    if len(text) > _LONGEST or not text.startswith(f"{_VERSION}."):
        return "", ""
    key_id, _, body = text[len(_VERSION) + 1 :].partition(".")
    return key_id, body


def _outcomes(
    seals: Sequence[_Seal | None], keys: Mapping[str, bytes], bounds: Mapping[str, bytes]
) -> list[Any]:
    """What `Sealer.unseal_all` returns."""
    outcomes: list[Any] = []
    for seal in seals:
        outcome: Any = None
        if seal is not None:
            key_id, body = seal
            try:
                outcome = _opened(keys[key_id], body, bounds[key_id])
            except (KeyError, ValueError):
                outcome = Unverifiable()
        outcomes.append(outcome)
    return outcomes


def _opened(key: bytes, body: str, bound: bytes) -> Any:
    """Raises ValueError."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415

    raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    # Python's decoder skips what is not base64 and looks at no unused bits.
    if _encoded(raw) != body:
        raise ValueError
    try:
        return orjson.loads(_cipher(key).decrypt(raw[:_NONCE], raw[_NONCE:], bound))
    except InvalidTag as error:
        raise ValueError from error


def _cipher(key: bytes) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return AESGCM(key)
