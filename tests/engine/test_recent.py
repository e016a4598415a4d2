"""What one connection remembers (spec §2.6)."""

from antiphon.engine.recent import Recent


def test_the_newest_of_each_lane() -> None:
    recent = Recent()
    recent.put("", "a", [{"id": "1"}])
    recent.put("lane", "b", [{"id": "2"}])
    recent.put("", "c", [{"id": "3"}])
    assert recent.find("a") is None
    assert recent.find("b") == [{"id": "2"}]
    assert recent.find("c") == [{"id": "3"}]


def test_a_lane_forgets_its_own_only() -> None:
    recent = Recent()
    recent.put("one", "a", [])
    for lane, id_ in (("two", "a"), ("one", "b"), ("", "")):
        recent.evict(lane, id_)
        assert recent.find("a") == []
    recent.evict("one", "a")
    assert recent.find("a") is None


def test_memory_is_bounded() -> None:
    """The lane that was quiet for longest goes first."""
    recent = Recent(limit=100)
    recent.put("one", "a", [], size=40)
    recent.put("two", "b", [], size=40)
    recent.put("one", "c", [], size=5, after="a")
    recent.put("three", "d", [], size=20)
    assert recent.find("b") is None
    assert recent.find("c") == recent.find("d") == []


def test_a_chain_has_the_size_of_all_that_is_in_it() -> None:
    recent = Recent(limit=100)
    before = ""
    for number in range(10):
        recent.put("", str(number), [], size=10, after=before)
        before = str(number)
        assert recent.find(before) == []
    recent.put("", "too much", [], size=10, after=before)
    assert recent.find("too much") is None
