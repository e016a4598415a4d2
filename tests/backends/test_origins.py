"""Who made a piece of reasoning."""

from antiphon.backends.origins import Origin
from antiphon.protocol.items.reasoning import restored

HERE = Origin.of("anthropic", "https://a.example")


def test_only_who_left_something_finds_it() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    back = restored(item, {"content": "", "state": HERE.state([{"signature": "x"}])})
    assert HERE.kept(back) == [{"signature": "x"}]
    assert Origin.of("anthropic", "https://b.example").kept(back) is None
    assert Origin.of("gemini", "https://a.example").kept(back) is None
    assert HERE.kept(item) is None
    assert HERE.kept(restored(item, {"content": "", "state": "of old"})) is None
