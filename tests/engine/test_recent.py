"""What one connection remembers (spec §2.6)."""

from antiphon.engine.recent import Recent, Remembered, measure


def put(recent: Recent, lane: str, response_id: str, size: int = 0) -> None:
    recent.put(lane, Remembered(response_id, [{"id": response_id}], size))


def test_the_newest_of_each_lane() -> None:
    recent = Recent()
    for lane, response_id in (("", "a"), ("lane", "b"), ("", "c")):
        put(recent, lane, response_id, 7)
    assert recent.find("a") is None
    assert recent.find("b") == Remembered("b", [{"id": "b"}], 7)
    assert recent.find("c") == Remembered("c", [{"id": "c"}], 7)


def test_a_lane_forgets_its_own_only() -> None:
    recent = Recent()
    put(recent, "one", "a")
    for lane, id_ in (("two", "a"), ("one", "b"), ("", "")):
        recent.evict(lane, id_)
        assert recent.find("a")
    recent.evict("one", "a")
    assert recent.find("a") is None


def test_memory_is_bounded() -> None:
    """The lane that was quiet for longest goes first."""
    recent = Recent(limit=100)
    put(recent, "one", "a", 40)
    put(recent, "two", "b", 40)
    put(recent, "one", "c", 45)
    put(recent, "three", "d", 20)
    assert recent.find("b") is None
    assert recent.find("c")
    assert recent.find("d")


def test_what_is_too_large_by_itself_costs_nobody_else_anything() -> None:
    recent = Recent(limit=100)
    put(recent, "one", "a", 50)
    put(recent, "two", "b", 50)
    put(recent, "two", "c", 101)
    assert recent.find("a")
    assert recent.find("b") is None, "no longer the newest of its lane"
    assert recent.find("c") is None
    put(recent, "two", "d", 100)
    assert recent.find("a") is None
    assert recent.find("d")


async def test_items_have_the_size_of_their_json() -> None:
    """However many there are."""
    assert await measure([]) == 0
    assert await measure([{"a": "ä"}]) == len('{"a":"ä"}'.encode())
    assert await measure([{"a": "b"}] * 1000) == 1000 * len('{"a":"b"}')
