"""Sealed contents: what is opened, by whom, what is refused (spec §9; R-29; lessons rule 18)."""

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine import sealing
from antiphon.engine.sealing import (
    Sealer,
    Unverifiable,
    new_encryption_key,
    parse_encryption_keys,
)
from antiphon.errors import Overloaded
from antiphon.store.base import EncryptionKey

SECRETS: Final = ("a" * 32, "b" * 40)
OLD, NEW = (parse_encryption_keys(secret)[0] for secret in SECRETS)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Keys:
    """A `KeySource` that knows how often it was asked; it does not answer while it is `down`."""

    def __init__(self) -> None:
        self.kept: list[EncryptionKey] = []
        self.asked = 0
        self.down = False

    async def encryption_keys(self) -> list[EncryptionKey]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Overloaded
        return list(self.kept)

    async def add_encryption_key(self, key: EncryptionKey, *, first: bool) -> bool:
        await asyncio.sleep(0)
        if first and self.kept:
            return False
        self.kept.insert(0, key)
        return True


def sealer(*keys: EncryptionKey) -> Sealer:
    return Sealer(Keys(), keys or [NEW])


def unseal(text: str, *keys: EncryptionKey, project: str = "p", kind: Any = "reasoning") -> Any:
    return asyncio.run(sealer(*keys).unseal(kind, project, text))


@given(payload=JSON, project=st.text(min_size=1), kind=st.sampled_from(["reasoning", "compaction"]))
def test_what_was_sealed_is_opened(payload: Any, project: str, kind: Any) -> None:
    sealed = sealer().seal(kind, project, payload)
    assert unseal(sealed, project=project, kind=kind) == payload


@given(payload=JSON, data=st.data())
def test_no_bit_can_be_changed(payload: Any, data: st.DataObject) -> None:
    sealed = sealer().seal("reasoning", "p", payload).encode()
    place = data.draw(st.integers(len("antiphon."), len(sealed) - 1))
    bit = data.draw(st.integers(0, 6))
    forged = bytearray(sealed)
    forged[place] ^= 1 << bit
    with pytest.raises(Unverifiable):
        unseal(forged.decode())


def test_a_seal_has_one_spelling() -> None:
    """The last character of base64 has bits that mean nothing."""
    for length in range(8):
        sealed = sealer().seal("reasoning", "p", "x" * length)
        opened = 0
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=":
            try:
                unseal(sealed[:-1] + last)
                opened += 1
            except Unverifiable:
                continue
        assert opened == 1


@pytest.mark.parametrize(
    "forge",
    [
        lambda sealed: sealed[:-1],
        lambda sealed: sealed[: len(sealed) // 2],
        lambda sealed: sealed + "A",
        lambda sealed: sealed + "=",
        lambda sealed: sealed + "\n",
        lambda sealed: sealed.replace(".1.", ".2."),
        lambda sealed: sealed.replace("antiphon.1.", "antiphon.1.1."),
        lambda _: "antiphon.",
        lambda _: "antiphon.1",
        lambda _: "antiphon.1.",
        lambda _: f"antiphon.1.{NEW.id}",
        lambda _: f"antiphon.1.{NEW.id}.",
        lambda _: f"antiphon.1.{NEW.id}.AAAA",
        lambda _: f"antiphon.1.{NEW.id}.é",
    ],
)
def test_what_is_ours_and_broken_is_refused(forge: Callable[[str], str]) -> None:
    with pytest.raises(Unverifiable):
        unseal(forge(sealer().seal("reasoning", "p", {"content": "secret"})))


def test_what_is_too_long_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = sealer().seal("reasoning", "p", "x" * 100)
    monkeypatch.setattr(sealing, "_LONGEST", len(sealed))
    assert unseal(sealed) == "x" * 100
    monkeypatch.setattr(sealing, "_LONGEST", len(sealed) - 1)
    with pytest.raises(Unverifiable):
        unseal(sealed)


@pytest.mark.parametrize("text", ["", "gAAAAABpPDIU", "Antiphon.1.x", "antiphon", "antiphon1."])
def test_what_is_foreign_is_nothing(text: str) -> None:
    assert unseal(text) is None


def test_another_project_or_kind_opens_nothing() -> None:
    """R-29."""
    sealed = sealer().seal("reasoning", "p", {"content": "secret"})
    for project, kind in (("q", "reasoning"), ("p", "compaction"), ("", "reasoning")):
        with pytest.raises(Unverifiable):
            unseal(sealed, project=project, kind=kind)


def test_nothing_can_be_read_in_a_seal() -> None:
    """Lessons rule 18: the content was plain text in another server."""
    sealed = sealer().seal("reasoning", "p", {"content": "secret"})
    assert sealed.startswith(f"antiphon.1.{NEW.id}.")
    body = sealed.rpartition(".")[2]
    assert b"secret" not in base64.urlsafe_b64decode(body + "==")
    assert sealed != sealer().seal("reasoning", "p", {"content": "secret"})


def test_the_first_key_seals_and_all_open() -> None:
    before = sealer(OLD).seal("reasoning", "p", 1)
    both = sealer(NEW, OLD)
    after = both.seal("reasoning", "p", 2)
    assert after.split(".")[2] == NEW.id != OLD.id
    assert [unseal(text, NEW, OLD) for text in (before, after)] == [1, 2]
    with pytest.raises(Unverifiable):
        unseal(before, NEW)


async def test_a_big_payload_is_opened_beside_the_loop() -> None:
    big = {"content": "x" * (12 << 20)}
    one = sealer()
    sealed = one.seal("compaction", "p", big)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    assert await one.unseal("compaction", "p", sealed) == big
    task.cancel()
    assert turns > 1
    with pytest.raises(Unverifiable):
        await one.unseal("compaction", "p", sealed[:-1])


async def test_many_are_opened_together_each_for_itself() -> None:
    one = sealer(NEW, OLD)
    old = sealer(OLD).seal("reasoning", "p", {"content": "old"})
    texts = [
        old,
        "gAAAAAB",
        one.seal("reasoning", "q", 1),
        one.seal("reasoning", "p", 2),
        "antiphon.",
    ]
    opened = await one.unseal_all("reasoning", "p", texts)
    assert opened[0] == {"content": "old"}
    assert (opened[1], opened[3]) == (None, 2)
    assert [type(opened[place]) for place in (2, 4)] == [Unverifiable] * 2
    assert await one.unseal_all("reasoning", "p", []) == []


async def test_many_small_ones_are_opened_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-118: together they take as long as a long one; one or two are not worth a thread."""
    hops: list[int] = []
    beside = asyncio.to_thread

    async def counted(call: Callable[..., Any], *given: Any) -> Any:
        hops.append(1)
        return await beside(call, *given)

    monkeypatch.setattr(asyncio, "to_thread", counted)
    one = sealer()
    text = one.seal("reasoning", "p", {"content": "x" * 2000})
    assert await one.unseal_all("reasoning", "p", [text] * 2) == [{"content": "x" * 2000}] * 2
    assert hops == []
    assert len(await one.unseal_all("reasoning", "p", [text] * 500)) == 500
    assert hops == [1]


async def test_lost_keys_of_many_are_looked_for_together() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    clock.now = 5.0
    asked = store.asked
    texts = [f"antiphon.1.{n:08}.AAAA" for n in range(50)] + [one.seal("reasoning", "p", 1)]
    outcomes = await one.unseal_all("reasoning", "p", texts)
    assert [type(outcome) for outcome in outcomes] == [Unverifiable] * 50 + [int]
    assert store.asked == asked + 1


# -- keys of the store ---------------------------------------------------------------------------


async def opened(store: Keys, clock: Clock | None = None) -> Sealer:
    one = Sealer(store, clock=clock or Clock())
    await one.open()
    return one


async def test_the_first_process_makes_a_key_and_all_use_it() -> None:
    store = Keys()
    first, second = await asyncio.gather(opened(store), opened(store))
    assert len(store.kept) == 1
    assert await second.unseal("reasoning", "p", first.seal("reasoning", "p", 1)) == 1
    third = await opened(store)
    assert await third.unseal("reasoning", "p", first.seal("reasoning", "p", 1)) == 1


async def test_keys_of_the_settings_leave_the_store_alone() -> None:
    store = Keys()
    one = Sealer(store, [NEW], clock=(clock := Clock()))
    await one.open()
    clock.now = 1000.0
    await one.refresh()
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", sealer(OLD).seal("reasoning", "p", 1))
    assert store.asked == 0


async def test_a_key_that_another_node_made_is_looked_up_but_not_for_every_forger() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    await store.add_encryption_key(new_encryption_key(int(time.time())), first=False)
    other = await opened(store)
    sealed = other.seal("reasoning", "p", 1)
    clock.now = 6.0
    assert await one.unseal("reasoning", "p", sealed) == 1
    assert one.seal("reasoning", "p", 1).split(".")[2] == sealed.split(".")[2]
    asked = store.asked
    clock.now = 12.0
    for _ in range(20):
        with pytest.raises(Unverifiable):
            await one.unseal("reasoning", "p", "antiphon.1.00000000.AAAA")
    assert store.asked == asked + 1


async def test_a_running_process_follows_a_rotation_and_a_drop_within_a_minute() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    before = one.seal("reasoning", "p", 1)
    new = new_encryption_key(1)
    await store.add_encryption_key(new, first=False)
    store.kept.pop()
    await one.refresh()
    assert one.seal("reasoning", "p", 1).split(".")[2] != new.id
    clock.now = 61.0
    await one.refresh()
    assert one.seal("reasoning", "p", 1).split(".")[2] == new.id
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", before)


async def test_a_dropped_key_opens_nothing_also_where_no_run_has_begun() -> None:
    """Items of conversations are opened without one."""
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    before = one.seal("reasoning", "p", 1)
    await store.add_encryption_key(new_encryption_key(1), first=False)
    store.kept.pop()
    assert await one.unseal("reasoning", "p", before) == 1
    clock.now = 61.0
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", before)


async def test_a_store_in_trouble_is_no_forgery() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    sealed = one.seal("reasoning", "p", 1)
    store.down = True
    clock.now = 100.0
    await one.refresh()
    assert await one.unseal("reasoning", "p", sealed) == 1
    clock.now = 200.0
    unknown = [one.unseal("reasoning", "p", "antiphon.1.00000000.AAAA") for _ in range(3)]
    answers = await asyncio.gather(*unknown, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Overloaded] * 3


async def test_unknown_keys_wait_for_one_answer_together() -> None:
    store = Keys()
    one = Sealer(store)
    await one.open()
    asked = store.asked
    await store.add_encryption_key(new_encryption_key(1), first=False)
    sealed = (await opened(store)).seal("reasoning", "p", 1)
    unknown = [one.unseal("reasoning", "p", f"antiphon.1.{n:08}.AAAA") for n in range(20)]
    answers = await asyncio.gather(
        one.unseal("reasoning", "p", sealed), *unknown, return_exceptions=True
    )
    assert answers[0] == 1
    assert [type(answer) for answer in answers[1:]] == [Unverifiable] * 20
    assert store.asked == asked + 2


async def test_a_dropped_key_is_asked_for_once_and_costs_nobody_a_wait() -> None:
    """Whoever still has seals of it comes with all of them, again and again."""
    store = Keys()
    lost = "antiphon.1.00000000.AAAA"
    one = Sealer(store)
    await one.open()
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", lost)
    asked = store.asked
    begun = time.monotonic()
    for _ in range(20):
        with pytest.raises(Unverifiable):
            await one.unseal("reasoning", "p", lost)
    assert time.monotonic() - begun < 0.5
    assert store.asked == asked


async def test_a_key_that_was_not_there_is_asked_for_again_after_a_second() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    new = new_encryption_key(1)
    sealed = Sealer(store, [new]).seal("reasoning", "p", 1)
    clock.now = 5.0
    for now, asked in ((5.0, 1), (5.9, 0), (6.1, 1)):
        clock.now, before = now, store.asked
        with pytest.raises(Unverifiable):
            await one.unseal("reasoning", "p", sealed)
        assert store.asked - before == asked
    await store.add_encryption_key(new, first=False)
    clock.now = 7.2
    assert await one.unseal("reasoning", "p", sealed) == 1


async def test_a_new_key_is_found_beside_one_that_is_lost() -> None:
    store = Keys()
    one = Sealer(store)
    await one.open()
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", "antiphon.1.00000000.AAAA")
    new = new_encryption_key(1)
    await store.add_encryption_key(new, first=False)
    sealed = Sealer(store, [new]).seal("reasoning", "p", 1)
    begun = time.monotonic()
    assert await one.unseal("reasoning", "p", sealed) == 1
    assert time.monotonic() - begun < 1.5


async def test_what_is_known_to_be_lost_waits_for_no_other_question() -> None:
    store = Keys()
    one = Sealer(store)
    await one.open()
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", "antiphon.1.00000000.AAAA")
    waits = asyncio.create_task(one.unseal("reasoning", "p", "antiphon.1.11111111.AAAA"))
    await asyncio.sleep(0.01)
    with pytest.raises(Unverifiable):
        await asyncio.wait_for(one.unseal("reasoning", "p", "antiphon.1.00000000.AAAA"), 0.2)
    assert not waits.done()
    waits.cancel()


async def test_lost_keys_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forger fills no memory; what can be no id of a key is not even looked for."""
    monkeypatch.setattr(sealing, "_MOST_LOST", 4)
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    for n in range(20):
        clock.now += 2
        with pytest.raises(Unverifiable):
            await one.unseal("reasoning", "p", f"antiphon.1.{n:08}.AAAA")
        assert len(one.lost) <= 4
    asked = store.asked
    for key_id in ("", "1234567", "1" * 1000):
        clock.now += 2
        with pytest.raises(Unverifiable):
            await one.unseal("reasoning", "p", f"antiphon.1.{key_id}.AAAA")
    assert store.asked == asked


async def test_an_unknown_key_is_no_forgery_while_the_store_is_in_trouble_again() -> None:
    store, clock = Keys(), Clock()
    one = await opened(store, clock)
    lost = "antiphon.1.00000000.AAAA"
    clock.now = 5.0
    with pytest.raises(Unverifiable):
        await one.unseal("reasoning", "p", lost)
    store.down = True
    clock.now = 7.0
    for _ in range(2):
        with pytest.raises(Overloaded):
            await one.unseal("reasoning", "p", lost)


# -- keys of the settings ------------------------------------------------------------------------


def test_a_secret_is_32_bytes_in_base64_or_a_long_text() -> None:
    raw = bytes(range(200, 232))
    spellings = [
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    ]
    assert [parse_encryption_keys(text)[0].key for text in spellings] == [raw, raw]
    (text,) = parse_encryption_keys("correct horse battery staple and four of them")
    assert (len(text.key), len(text.id)) == (32, 8)


def test_several_secrets_are_kept_in_order_once_each() -> None:
    keys = parse_encryption_keys(f" {SECRETS[1]} , {SECRETS[0]},, {SECRETS[1]}")
    assert [key.id for key in keys] == [NEW.id, OLD.id]
    assert parse_encryption_keys("") == []


def test_a_short_secret_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="ENCRYPTION_KEYS, entry 2") as caught:
        parse_encryption_keys(f"{SECRETS[0]},hunter2")
    assert "hunter2" not in str(caught.value)
