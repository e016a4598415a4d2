"""What the ids of a response have in common."""

from antiphon.engine.mint import SystemMint
from antiphon.protocol.ids import partition_of


def test_ids_sort_in_the_order_of_their_items() -> None:
    """As OpenAI's do: Haystack puts the calls of a stream in the order of their ids."""
    mint = SystemMint()
    ids = [mint.item_id("fc") for _ in range(300)]
    assert ids == sorted(set(ids))
    assert {partition_of(id_) for id_ in ids} == {mint.partition}


def test_nothing_can_be_guessed_of_an_id_from_another_one() -> None:
    """R-32: the place is the same, the rest of them is chance."""
    ids = [SystemMint().item_id("resp") for _ in range(300)]
    assert ids != sorted(ids)
    assert len({id_[-26:] for id_ in ids}) == 300
