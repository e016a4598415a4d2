"""Bearer keys (reliability R-27, R-28, R-35, R-37; texts of spec §6)."""

import asyncio
import re

import pytest

from antiphon.api.auth import (
    KEY_PREFIX,
    Authenticator,
    hash_key,
    key_hint,
    new_key,
    parse_keys,
    starred,
)
from antiphon.errors import APIError, AuthenticationError, Overloaded
from antiphon.store.base import KeyRow
from tests.api.talk import UNKNOWN, client_of, error_of
from tests.live import LiveServer

KEY = "sk-antiphon-0123456789abcdefghijKLMN"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Keys:
    """A key table that counts the questions; `fault` is raised instead of an answer."""

    def __init__(self, *keys: str) -> None:
        self.rows = {hash_key(key): row(key) for key in keys}
        self.asked = 0
        self.fault: Exception | None = None
        self.slow = False

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        self.asked += 1
        if self.slow:
            await asyncio.sleep(60)
        if self.fault is not None:
            raise self.fault
        return self.rows.get(hash)


def row(key: str, revoked_at: int | None = None) -> KeyRow:
    return KeyRow("key_1", "team", "ci", hash_key(key), key_hint(key), 1, revoked_at)


def request(*authorization: bytes) -> dict[str, object]:
    """A scope with these Authorization fields."""
    return {
        "type": "http",
        "headers": [(b"host", b"a"), *((b"authorization", value) for value in authorization)],
    }


async def refusal(auth: Authenticator, *authorization: bytes) -> APIError:
    with pytest.raises(APIError) as caught:
        await auth.project(request(*authorization))
    return caught.value


@pytest.mark.parametrize(
    "field",
    [b"Bearer %s", b"bearer %s", b"BEARER  %s ", b"Bearer\t%s".replace(b"\t", b" ")],
)
async def test_a_known_key_names_its_project(field: bytes) -> None:
    scope = request(field % KEY.encode())
    assert await Authenticator({hash_key(KEY): "team"}).project(scope) == "team"
    assert scope["state"] == {"project": "team"}


@pytest.mark.parametrize("fields", [(), (b"",), (b"Bearer",), (b"Bearer ",), (b"Basic Zm9v",)])
async def test_no_key(fields: tuple[bytes, ...]) -> None:
    """R-27, spec §6: OpenAI's words, code null."""
    error = await refusal(Authenticator({hash_key(KEY): "team"}), *fields)
    assert (error.status, error.type, error.code) == (401, "invalid_request_error", None)
    assert error.message.startswith("You didn't provide an API key.")
    assert error.headers()["www-authenticate"] == "Bearer"
    assert error.headers()["connection"] == "close"


@pytest.mark.parametrize(
    "fields",
    [
        (b"Bearer wrong",),
        (b"Bearer " + KEY.encode()[:-1],),
        (b"Bearer " + KEY.encode().upper(),),
        (b"Bearer %s %s" % (KEY.encode(), KEY.encode()),),
        (b"Bearer " + KEY.encode(), b"Bearer " + KEY.encode()),
        (b"Bearer \xff\xfe\x00",),
        ("Bearer schlüssel".encode(),),
        (b"Bearer " + b"x" * 1_000_000,),
        (b"Bearer ' OR 1=1 --",),
        (b"Bearer " + hash_key(KEY).encode(),),
    ],
)
async def test_a_wrong_key(fields: tuple[bytes, ...]) -> None:
    """R-27: whatever is odd is a 401, short, and does not repeat the key."""
    error = await refusal(Authenticator({hash_key(KEY): "team"}, Keys(KEY)), *fields)
    assert isinstance(error, AuthenticationError)
    assert (error.status, error.code) == (401, "invalid_api_key")
    assert error.message.startswith("Incorrect API key provided: ")
    assert len(error.message) < 200
    assert KEY not in error.message
    assert error.headers()["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-proj-abcdefghijklmnopMxYA", "sk-proj-****MxYA"),
        (KEY, "sk-antiphon-****KLMN"),
        ("sk-0123456789abcdefghij", "sk-****ghij"),
        ("abcdefghijklmnop", "****mnop"),
        ("abcdefghijklmno", "****"),
        ("sk-proj-short", "sk-proj-****"),
        ("", "****"),
        ("x" * 20 + "\x1b[0m", "****"),
        ("x" * 20 + "üüüü", "****"),
    ],
)
def test_starred(key: str, shown: str) -> None:
    assert starred(key) == shown


async def test_a_stored_key_is_looked_up_by_its_hash_and_remembered() -> None:
    """R-28, R-37."""
    keys, clock = Keys(KEY), Clock()
    auth = Authenticator({}, keys, ttl=5, clock=clock)
    for _ in range(3):
        assert await auth.project(request(b"Bearer " + KEY.encode())) == "team"
    assert keys.asked == 1


async def test_a_revoked_key_ends_within_five_seconds() -> None:
    """R-37."""
    keys, clock = Keys(KEY), Clock()
    auth = Authenticator({}, keys, clock=clock)
    await auth.project(request(b"Bearer " + KEY.encode()))
    keys.rows[hash_key(KEY)] = row(KEY, revoked_at=2)
    clock.now += 5
    assert (await refusal(auth, b"Bearer " + KEY.encode())).status == 401


async def test_a_new_key_is_valid_within_five_seconds() -> None:
    keys, clock = Keys(), Clock()
    auth = Authenticator({}, keys, clock=clock)
    for _ in range(3):
        await refusal(auth, b"Bearer " + KEY.encode())
    assert keys.asked == 1
    keys.rows[hash_key(KEY)] = row(KEY)
    clock.now += 5
    assert await auth.project(request(b"Bearer " + KEY.encode())) == "team"


async def test_guessing_does_not_push_out_good_keys() -> None:
    keys = Keys(KEY)
    auth = Authenticator({}, keys, clock=Clock())
    await auth.project(request(b"Bearer " + KEY.encode()))
    for guess in range(20_000):
        await refusal(auth, b"Bearer guess-%d" % guess)
    asked = keys.asked
    await auth.project(request(b"Bearer " + KEY.encode()))
    assert keys.asked == asked


async def test_a_row_that_is_only_alike_is_no_key() -> None:
    """R-28: a store with a careless comparison does not let anybody in."""
    keys = Keys()
    keys.rows[hash_key("other")] = row(KEY)
    assert (await refusal(Authenticator({}, keys), b"Bearer other")).status == 401


async def test_a_failing_store_lets_nobody_in() -> None:
    """R-35: 503, and the failure is not remembered."""
    keys = Keys(KEY)
    keys.fault = Overloaded()
    auth = Authenticator({}, keys, clock=Clock())
    assert (await refusal(auth, b"Bearer " + KEY.encode())).status == 503
    keys.fault = None
    assert await auth.project(request(b"Bearer " + KEY.encode())) == "team"


async def test_a_hanging_store_is_not_waited_for() -> None:
    """R-35."""
    keys = Keys(KEY)
    keys.slow = True
    auth = Authenticator({}, keys, lookup_timeout=0.01)
    assert (await refusal(auth, b"Bearer " + KEY.encode())).status == 503


async def test_static_keys_do_not_need_the_store() -> None:
    keys = Keys()
    keys.fault = Overloaded()
    auth = Authenticator({hash_key(KEY): "team"}, keys)
    assert await auth.project(request(b"Bearer " + KEY.encode())) == "team"


def test_new_keys() -> None:
    """R-32: 256 bits after the prefix, no two alike."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        assert re.fullmatch(KEY_PREFIX + r"[A-Za-z0-9_-]{43}", key)
        assert parse_keys(key) == {hash_key(key): "default"}
        assert starred(key) == f"sk-antiphon-****{key_hint(key)}"


def test_parse_keys() -> None:
    assert parse_keys("") == {}
    assert parse_keys(" a1 , b2:team-b,c:3:x_1 ,, a1:default") == {
        hash_key("a1"): "default",
        hash_key("b2"): "team-b",
        hash_key("c:3"): "x_1",
    }


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("good,secret key", 2),
        ("secretä", 1),
        (":team", 1),
        ("secret:", 1),
        ("secret:a b", 1),
        ("secret:" + "x" * 65, 1),
        ("secret:a,secret:b", 2),
        ("secret\x1b", 1),
    ],
)
def test_bad_key_settings_are_named_by_their_place_only(setting: str, place: int) -> None:
    """R-130, R-132."""
    with pytest.raises(ValueError, match=f"entry {place}:") as caught:
        parse_keys(setting)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["?stream=perhaps", "/input_items?limit=many", "?include[]=all"])
def test_the_key_is_checked_before_the_query(server: LiveServer, path: str) -> None:
    """R-27: a stranger learns nothing of what an endpoint takes."""
    with client_of(server, key=None) as stranger:
        reply = stranger.get(f"/v1/responses/{UNKNOWN}{path}")
    assert reply.status_code == 401, error_of(reply)
