"""What fits into the window, and what goes when it does not (spec §1, `truncation`; 0006)."""

import asyncio
import time
from typing import Any

import pytest

from antiphon.backends.base import Prompt
from antiphon.engine.counting import estimate, estimate_item
from antiphon.engine.window import Turns, Window
from antiphon.errors import ContextLengthExceeded
from antiphon.protocol.items.base import Item
from antiphon.testing import ScriptedBackend
from tests.engine.said import call, message, names, output, prompt, reasoning

#: Long enough to be counted.
LONG = "lorem ipsum " * 50


class Counter:
    """A tokenizer: so many tokens for each item, and none for the request; it keeps what it got."""

    def __init__(self, each: int = 100) -> None:
        self.each = each
        self.asked: list[list[str]] = []

    def __call__(self, asked: Prompt) -> int:
        self.asked.append(names(asked.items))
        return self.each * len(asked.items)


def window(size: int | None, tokens: Any = None, *, auto: bool = True, fixed: int = 0) -> Window:
    return Window(ScriptedBackend(tokens=tokens), size, auto, fixed)


def talk(turns: int) -> list[Item]:
    """Turns of a question and an answer: 1, 1a, 2, 2a …"""
    items: list[Item] = []
    for number in range(1, turns + 1):
        items.append(message(str(number), text=LONG))
        items.append(message(f"{number}a", "assistant", LONG))
    return items


# -- turns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [[], [message("1")], [message("s", "system"), message("1"), message("1a", "assistant")]],
    ids=["nothing", "one", "one-with-system"],
)
def test_the_last_turn_stays(items: list[Item]) -> None:
    assert Turns(items, 0).count == 0


def test_without_a_user_there_is_no_turn_that_may_go() -> None:
    items = [message("d", "developer"), message("a", "assistant"), call("1"), output("1")]
    assert Turns(items, 0).count == 0


def test_what_stands_before_the_first_user_is_a_turn() -> None:
    turns = Turns([message("a", "assistant"), message("1"), message("2")], 0)
    assert turns.count == 2
    assert names(turns.without(1)) == ["1", "2"]
    assert names(turns.without(2)) == ["2"]


def test_rules_before_the_first_user_are_none() -> None:
    turns = Turns([message("s", "system"), message("d", "developer"), message("1")], 0)
    assert turns.count == 0


def test_rules_stay_wherever_they_stand_and_in_order() -> None:
    items = [
        message("s", "system"),
        message("1"),
        message("d", "developer"),
        message("1a", "assistant"),
        message("2"),
        message("e", "developer"),
        message("3"),
    ]
    turns = Turns(items, 0)
    assert names(turns.without(1)) == ["s", "d", "2", "e", "3"]
    assert names(turns.without(2)) == ["s", "d", "e", "3"]


def test_the_template_stays_whatever_it_says() -> None:
    items = [message("t"), message("ta", "assistant"), message("1"), message("2")]
    turns = Turns(items, 2)
    assert turns.count == 1
    assert names(turns.without(1)) == ["t", "ta", "2"]


def test_a_turn_goes_with_its_calls_outputs_and_thoughts() -> None:
    loop = [reasoning("r"), call("p"), call("q"), output("q"), output("p")]
    turns = Turns([message("1"), *loop, message("2"), *loop], 0)
    assert names(turns.without(1)) == names([message("2"), *loop])


def test_an_output_goes_with_its_call_from_a_later_turn() -> None:
    items = [message("1"), call("p"), call("q"), message("2"), output("p"), output("q")]
    assert names(Turns([*items, message("3")], 0).without(1)) == ["2", "3"]
    assert names(Turns(items, 0).without(1)) == ["2"]


def test_a_call_id_that_comes_again_is_another_call() -> None:
    """Some models count their calls anew in each answer."""
    items = [message("1"), call("0"), output("0"), message("2"), call("0"), output("0")]
    assert names(Turns(items, 0).without(1)) == ["2", "0", "0"]
    late = [message("1"), call("0"), message("2"), output("0"), call("0"), output("0")]
    assert names(Turns(late, 0).without(1)) == ["2", "0", "0"]
    assert [item["type"] for item in Turns(late, 0).without(1)[1:]] == [
        "function_call",
        "function_call_output",
    ]


def test_an_item_without_a_call_id_is_nobodys_half() -> None:
    """Calls that the server runs have none: null is not a name that they share."""
    search: Item = {"id": "tsc_x", "type": "tool_search_call", "arguments": {}, "call_id": None}
    found: Item = {"id": "tso_x", "type": "tool_search_output", "tools": [], "call_id": None}
    items = [message("1"), search, found, message("2"), search, found]
    assert len(Turns(items, 0).without(1)) == 3


def test_worth_is_the_least_number_that_is_so_long() -> None:
    items = talk(5)
    each = estimate_item(items[0]) + estimate_item(items[1])
    turns = Turns(items, 0)
    assert [turns.worth(tokens) for tokens in (1, each, each + 1, 2 * each, 3 * each + 1)] == [
        *(1, 1, 2, 2, 4)
    ]
    assert turns.worth(99 * each) == turns.count == 4


# -- fit -----------------------------------------------------------------------------------------


async def test_an_unknown_window_and_a_far_one_count_nothing() -> None:
    asked = prompt(*talk(5))
    for size in (None, 100_000):
        counter = Counter()
        assert await window(size, counter).fit(asked) is asked
        assert counter.asked == []
    short, counter = prompt(message("1")), Counter(10**9)
    assert await window(1_000, counter).fit(short) is short
    assert counter.asked == []


async def test_disabled_refuses_what_is_known_to_be_too_long() -> None:
    asked = prompt(*talk(5))
    with pytest.raises(ContextLengthExceeded):
        await window(1_000, Counter(100), auto=False).fit(asked)
    assert await window(1_001, Counter(100), auto=False).fit(asked) is asked


async def test_disabled_leaves_what_is_only_estimated_to_the_backend() -> None:
    asked = prompt(*talk(50))
    assert await window(100, auto=False).fit(asked) is asked


async def test_auto_drops_the_least_that_the_backend_counts_to_fit() -> None:
    counter = Counter(150)
    fitted = await window(1_010, counter).fit(prompt(*talk(5), max_output_tokens=100))
    assert names(fitted.items) == ["3", "3a", "4", "4a", "5", "5a"]
    assert len(counter.asked) == 2


async def test_there_is_room_for_the_answer() -> None:
    """As many tokens as the request allows; else 1,024, or an eighth of a small window."""
    asked = talk(5)
    for wanted, kept in ((400, 6), (None, 8)):
        parameters = {} if wanted is None else {"max_output_tokens": wanted}
        fitted = await window(1_010, Counter(100)).fit(prompt(*asked, **parameters))
        assert len(fitted.items) == kept


async def test_what_was_dropped_is_counted_until_it_fits() -> None:
    """The estimate says one turn: 1, then 1, 2 and 4 more, and no more than there are."""

    def heavy_end(asked: Prompt) -> int:
        counter.asked.append(names(asked.items))
        return 2_000 if "7" in names(asked.items) else 10

    counter = Counter()
    fitted = await window(1_990, heavy_end).fit(prompt(*talk(9), max_output_tokens=16))
    assert names(fitted.items) == ["9", "9a"]
    dropped = [9 - len(asked) // 2 for asked in counter.asked]
    assert dropped == [0, 1, 2, 4, 8]


async def test_all_that_may_go_is_tried_before_it_is_refused() -> None:
    """Whatever the estimate says, and whatever the steps jump over."""

    def only_the_last(asked: Prompt) -> int:
        return 500 if len(asked.items) <= 3 else 5_000

    for turns in range(2, 12):
        asked = prompt(message("s", "system"), *talk(turns))
        fitted = await window(1_000, only_the_last).fit(asked)
        assert names(fitted.items) == ["s", str(turns), f"{turns}a"]


async def test_what_is_too_long_without_all_that_may_go_is_refused() -> None:
    for items in (talk(1), talk(5)):
        with pytest.raises(ContextLengthExceeded):
            await window(200, Counter(100)).fit(prompt(*items))


async def test_what_may_not_go_is_the_backends_to_refuse_when_nobody_counted() -> None:
    """As without truncation: an estimate refuses nothing."""
    fitted = await window(100).fit(prompt(*talk(5)))
    assert names(fitted.items) == ["5", "5a"]
    alone = prompt(*talk(1))
    assert await window(100).fit(alone) is alone


async def test_a_long_answer_refuses_nothing_that_fits_without_it() -> None:
    """At most half of the window is kept free for the answer."""
    fitted = await window(1_000, Counter(100)).fit(prompt(*talk(5), max_output_tokens=4_000))
    assert names(fitted.items) == ["4", "4a", "5", "5a"]
    whole = prompt(*talk(5), max_output_tokens=4_000)
    assert await window(1_000, lambda _: 0).fit(whole) is whole


async def test_a_count_that_only_an_estimate_replaces_still_shortens() -> None:
    asked = prompt(*talk(20))
    size = estimate(asked) // 2
    fitted = await window(size).fit(asked)
    assert 0 < len(fitted.items) < 40
    assert estimate(fitted) <= size - size // 8
    assert names(fitted.items)[-2:] == ["20", "20a"]


# -- what the backend refused --------------------------------------------------------------------


def test_shrinking_halves_the_turns_until_only_the_last_is_left() -> None:
    asked, left = prompt(*talk(9)), []
    found = window(None)
    while (shorter := found.shrink(asked)) is not None:
        asked = shorter
        left.append(len(asked.items) // 2)
    assert left == [5, 3, 2, 1]


def test_disabled_shrinks_nothing() -> None:
    assert window(None, auto=False).shrink(prompt(*talk(9))) is None


# -- R-118 ---------------------------------------------------------------------------------------


async def test_ten_mebibytes_do_not_hold_the_event_loop() -> None:
    """R-118: what the loop's own thread computes between two turns of others, at most 100 ms."""
    text = "The quick brown fox jumps over the lazy dog. " * 230
    items = [
        message(f"{number}", "assistant" if number % 2 else "user", text) for number in range(1_000)
    ]
    assert sum(len(item["content"][0]["text"]) for item in items) > 10_000_000
    worst, done = 0.0, False

    async def watch() -> None:
        nonlocal worst
        last = time.thread_time()
        while not done:
            await asyncio.sleep(0)
            now = time.thread_time()
            worst, last = max(worst, now - last), now

    watching = asyncio.create_task(watch())
    fitted = await window(8_000).fit(prompt(*items))
    done = True
    await watching
    assert 0 < len(fitted.items) < 20
    assert worst < 0.1


async def test_nobody_is_refused_for_our_own_tokenizers_count() -> None:
    """It knows the text, not the images: the backend decides (decision 0006)."""
    pytest.importorskip("bpe_openai")
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    asked = prompt({**message("1"), "content": [picture] * 2})
    asked.model = "gpt-4o"
    assert await window(100, auto=False).fit(asked) is asked
