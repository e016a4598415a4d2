"""What stands for a long context: what stays, what the summary is made of, what it costs (0006)."""

from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.backends.base import Prompt
from antiphon.engine.carry import Carrier
from antiphon.engine.compaction import Compacted, compact, divide
from antiphon.engine.counting import estimate_item
from antiphon.engine.sealing import Sealer, new_encryption_key
from antiphon.engine.window import Window
from antiphon.errors import ContextLengthExceeded, UpstreamError
from antiphon.protocol.deltas import (
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.items.base import Item
from antiphon.protocol.response import Usage
from antiphon.store.memory import MemoryStore
from antiphon.testing import ScriptedBackend, Step
from antiphon.tools.image_generation.context import images_in
from tests.engine.said import call, message, names, output, prompt, reasoning
from tests.tools.image_world import drawn, image, user

#: Some 100 tokens.
LONG = "lorem ipsum dolor " * 30
EACH = estimate_item(message("x", text=LONG))
SUMMARY: Sequence[Step] = [
    [],
    [ReasoningDelta("Hm."), TextDelta(" They ")],
    [TextDelta("talked. "), UsageReport(Usage(70, 0, 5, 0)), Finish()],
]


def told(of: Prompt, fixed: int = 0, limit: int | None = None) -> list[str]:
    return names(divide(of, fixed, limit).told)


def kept(of: Prompt, limit: int | None = None) -> list[str]:
    """What stays word for word."""
    parts = divide(of, 0, limit)
    return names([*parts.rules, *parts.messages, *parts.turn])


def talk(*words: str) -> list[Item]:
    """A turn for each of these words, with a long question and a long answer."""
    pairs = [(message(word, text=LONG), message(f"{word}a", "assistant", LONG)) for word in words]
    return [item for pair in pairs for item in pair]


# -- what stays ----------------------------------------------------------------------------------


def test_rules_questions_and_the_current_turn_stay() -> None:
    rule = message("d", "developer")
    loop = [message("3"), reasoning("r"), call("c"), output("c")]
    asked = prompt(message("s", "system"), *talk("1"), rule, *talk("2"), *loop)
    assert kept(asked) == ["s", "d", "1", "2", "3", "r", "c", "c"]
    assert told(asked) == ["s", "d", "1", "1a", "2", "2a"]
    assert divide(asked, 0, None).gains


def test_as_many_questions_stay_as_there_is_room_for() -> None:
    """A quarter of what may be used; the newest ones."""
    asked = prompt(*talk("1", "2", "3"), message("4"))
    assert kept(asked, limit=4 * 2 * EACH) == ["2", "3", "4"]
    assert kept(asked, limit=4 * 2 * EACH - 4) == ["3", "4"]
    assert kept(asked, limit=4) == ["4"]


def test_of_a_current_turn_that_is_too_long_the_newest_calls_stay() -> None:
    steps = [item for n in "abcd" for item in (call(n), output(n, LONG))]
    asked = prompt(message("0"), *talk("1"), message("2"), *steps)
    limit = 4 * (2 * estimate_item(output("a", LONG)) + 3 * estimate_item(call("a")))
    assert kept(asked, limit)[-5:] == ["2", "c", "c", "d", "d"]
    assert told(asked, limit=limit) == names(asked.items)
    narrow = limit - 4 * 2 * estimate_item(call("a"))
    assert kept(asked, narrow)[-3:] == ["2", "d", "d"], "no output without its call"


def test_parallel_calls_stay_with_their_outputs_or_go() -> None:
    steps = [call("a"), call("b"), output("a", LONG), output("b", LONG)]
    asked = prompt(message("1"), *steps)
    limit = 4 * (2 * estimate_item(output("a", LONG)) + estimate_item(call("a")))
    assert kept(asked, limit) == ["1", "b", "b"]


def test_an_output_goes_with_its_call_from_an_earlier_turn() -> None:
    """It would have no call any more, and no request could go on from that."""
    asked = prompt(message("1"), call("p"), call("q"), message("2"), output("q"), output("p"))
    assert kept(asked) == ["1", "2"]
    assert told(asked) == ["1", "p", "q", "q", "p"]


def test_a_call_id_that_comes_again_is_another_call() -> None:
    asked = prompt(message("1"), call("0"), message("2"), output("0"), call("0"), output("0"))
    parts = divide(asked, 0, None)
    assert [item["type"] for item in parts.turn] == [
        *("message", "function_call", "function_call_output")
    ]
    assert told(asked) == ["1", "0", "0"]


def test_without_a_user_all_but_the_rules_is_told() -> None:
    asked = prompt(message("s", "system"), message("a", "assistant"), call("1"), output("1"))
    assert kept(asked) == ["s"]
    assert told(asked) == ["s", "a", "1", "1"]


def test_one_turn_alone_is_told_and_stays() -> None:
    asked = prompt(message("1"), message("1a", "assistant"))
    assert kept(asked) == told(asked) == ["1", "1a"]


def test_the_template_is_told_and_never_kept() -> None:
    """It comes with each request anew."""
    template = [message("t", "developer"), message("ta", "assistant")]
    asked = prompt(*template, *talk("1"), message("2"))
    assert told(asked, fixed=2) == ["t", "ta", "1", "1a"]
    parts = divide(asked, 2, None)
    assert names([*parts.rules, *parts.messages, *parts.turn]) == ["1", "2"]


# -- whether it is worth it ----------------------------------------------------------------------


def test_a_long_question_alone_is_no_reason() -> None:
    """Its summary would come on top of it."""
    for items in ([message("1", text=LONG * 20)], [*talk("1")[:1], message("2", text=LONG * 20)]):
        assert not divide(prompt(*items), 0, 1_000).gains


def test_what_a_compaction_left_is_no_reason_for_another() -> None:
    """A long system prompt alone must not make one in each turn."""
    summary = {key: value for key, value in message("x", "assistant", LONG).items() if key != "id"}
    rules = message("s", "system", LONG * 20)
    left = [rules, message("1"), summary, message("2"), call("c"), output("c")]
    assert not divide(prompt(*left), 0, 1_000).gains
    assert divide(prompt(*left, *talk("3", "4"), message("5")), 0, 1_000).gains


def test_little_is_no_reason() -> None:
    asked = prompt(message("1"), message("1a", "assistant", LONG), message("2"))
    assert divide(asked, 0, 8 * EACH).gains
    assert not divide(asked, 0, 8 * EACH + 1).gains


# -- the summary ---------------------------------------------------------------------------------


def scripted(*turns: Sequence[Step], size: int | None = None, tokens: Any = None) -> Window:
    return Window(ScriptedBackend(*turns, tokens=tokens), size, auto=False)


def backend_of(window: Window) -> ScriptedBackend:
    assert isinstance(window.backend, ScriptedBackend)
    return window.backend


async def test_the_summary_stands_before_the_current_turn() -> None:
    window = scripted(SUMMARY)
    made = await compact(prompt(message("s", "system"), *talk("1"), message("2")), window, None)
    texts = [item["content"][0]["text"] for item in made.items]
    assert texts == ["s", LONG, "Summary of the conversation so far:\n\nThey talked.", "2"]
    assert [item["role"] for item in made.items] == ["system", "user", "assistant", "user"]
    assert made.usage == Usage(70, 0, 5, 0)
    assert names(made.user_messages()) == ["1", "2"]


async def test_the_model_is_asked_for_plain_text_with_the_same_tools() -> None:
    """What the answer shall be is no rule for its summary; the tools stay for the cache."""
    window = scripted(SUMMARY)
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    asked = prompt(
        *talk("1"),
        message("2"),
        instructions="Be terse.",
        tools=tools,
        tool_choice="required",
        max_output_tokens=16,
        text={"format": {"type": "json_object"}},
        include=["message.output_text.logprobs"],
        top_logprobs=3,
    )
    await compact(asked, window, None)
    (got,) = backend_of(window).prompts
    assert names(got.items[:-1]) == ["1", "1a"]
    assert "handover" in got.items[-1]["content"][0]["text"]
    assert got.items[-1]["role"] == "user"
    request = got.request
    assert (request.tool_choice, request.text, request.max_output_tokens) == ("none", None, None)
    assert (request.top_logprobs, request.include) == (None, None)
    assert (request.instructions, request.tools) == ("Be terse.", asked.request.tools)
    assert asked.request.tool_choice == "required", "the request itself is as it was"


async def test_what_the_backend_finds_too_long_for_a_summary_is_halved() -> None:
    long = [ContextLengthExceeded()]
    window = scripted(long, long, SUMMARY)
    made = await compact(prompt(*talk("1", "2", "3", "4"), message("5")), window, None)
    seen = [names(got.items[:-1]) for got in backend_of(window).prompts]
    assert seen == [names(talk("1", "2", "3", "4")), names(talk("3", "4")), ["4", "4a"]]
    assert names(made.user_messages()) == ["1", "2", "3", "4", "5"]


async def test_a_known_window_holds_for_the_summary_too() -> None:
    window = scripted(SUMMARY, size=1_000, tokens=lambda got: 200 * len(got.items))
    await compact(prompt(*talk("1", "2", "3"), message("4")), window, None)
    (got,) = backend_of(window).prompts
    assert names(got.items[:-1]) == ["3", "3a"]


@pytest.mark.parametrize(
    "turn",
    [
        [[Finish()]],
        [[TextDelta(" \n"), Finish()]],
        [[RefusalDelta("No."), Finish()]],
        [[ToolCallDelta(0, "{}", "f", "c"), Finish()]],
    ],
    ids=["nothing", "blank", "refusal", "call"],
)
async def test_no_summary_is_a_failure(turn: Sequence[Step]) -> None:
    with pytest.raises(UpstreamError) as caught:
        await compact(prompt(*talk("1"), message("2")), scripted(turn), None)
    assert caught.value.message == "The model made no summary of the context."


@pytest.mark.parametrize(("turns", "tries"), [(1, 2), (400, 10)])
async def test_too_long_to_the_end_is_a_failure(turns: int, tries: int) -> None:
    """All turns are gone at last, half of them each time."""
    window = scripted(*[[ContextLengthExceeded()]] * 20)
    with pytest.raises(ContextLengthExceeded):
        await compact(prompt(*talk(*map(str, range(turns))), message("x")), window, None)
    assert len(backend_of(window).prompts) == tries


async def test_an_upstreams_failure_is_one_and_closes_the_call() -> None:
    window = scripted([[TextDelta("They")], UpstreamError()])
    with pytest.raises(UpstreamError):
        await compact(prompt(*talk("1"), message("2")), window, None)
    assert backend_of(window).closed == 1


async def test_what_was_sealed_is_what_a_model_sees() -> None:
    """Thoughts of the current turn come back with what the backend wants of them."""
    store = MemoryStore()
    await store.open()
    sealer = Sealer(store, [new_encryption_key(0)])
    thought = reasoning("r", sealer.seal("reasoning", "p", {"content": "raw", "state": {"s": 1}}))
    carrier = Carrier(sealer, "p")
    shown = await carrier.carry([*talk("1"), message("2"), thought, call("c"), output("c")])
    made = await compact(prompt(*shown), scripted(SUMMARY), None)
    item = {"id": "cmp_1", "type": "compaction"}
    item["encrypted_content"] = sealer.seal("compaction", "p", made.payload())
    after = await carrier.carry([*shown, item, message("3", "developer")])
    assert [entry.get("id") for entry in after] == [
        *("msg_1", None, "msg_2", "rs_r", "fc_c", "fco_c", "msg_3")
    ]
    assert after[3] == shown[3], "with its state"


async def test_the_container_of_what_goes_is_named() -> None:
    """The newest; by the next compaction as well, and not to the model."""
    code = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1"}
    calls = [{**code, "container_id": name} for name in ("cntr_1", "cntr_2", None)]
    made = await compact(prompt(*talk("1"), *calls, message("2")), scripted(SUMMARY), None)
    assert [item.get("container_id") for item in made.items] == [None, "cntr_2", None]
    again = await compact(prompt(*made.items, *talk("3"), message("4")), scripted(SUMMARY), None)
    assert [item["container_id"] for item in again.items if "container_id" in item] == ["cntr_2"]
    plain = await compact(prompt(*talk("1"), message("2")), scripted(SUMMARY), None)
    assert not any("container_id" in item for item in plain.items)


async def test_the_images_of_what_goes_are_named() -> None:
    """The newest, by the next compaction as well; none that is older than one without a name."""
    all_ = [f"antiphon-image:{number:032x}" for number in range(20)]
    images = [drawn(name) for name in all_]
    made = await compact(prompt(*talk("1"), *images, message("2")), scripted(SUMMARY), None)
    assert [item.get("images_before") for item in made.items] == [None, all_[4:], None]
    again = await compact(
        prompt(*made.items, drawn(all_[0]), message("3")), scripted(SUMMARY), None
    )
    (named,) = [item["images_before"] for item in again.items if "images_before" in item]
    assert named == [*all_[5:], all_[0]]
    assert [one["result"] for one in images_in(again.items)] == [*reversed(named)]
    for newer in (user(image("https://x.example/a.png")), drawn("QUJD")):
        lost = await compact(prompt(images[0], newer, message("2")), scripted(SUMMARY), None)
        assert not any("images_before" in item for item in lost.items)


def test_what_a_client_says_of_images_names_none() -> None:
    odd: Any
    for odd in ("antiphon-image:" + "0" * 32, [1, None, "QUJD"], {}, 5):
        assert list(images_in([{**message("1"), "images_before": odd}])) == []


def test_user_messages_are_those_of_the_user() -> None:
    made = Compacted([message("s", "system"), message("1"), call("c"), output("c")], Usage())
    assert names(made.user_messages()) == ["1"]


async def test_images_are_few_tokens_and_many_bytes() -> None:
    """What is sealed must not become longer than what may be sent back; the newest images stay."""
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 6_000_000}
    text = {"type": "input_text", "text": "look"}
    turns = [{**message(str(number)), "content": [text, image]} for number in range(5)]
    compacted = await compact(prompt(*turns), scripted(SUMMARY), None)
    shown = [item for item in compacted.items if item["role"] == "user"]
    kinds = [[part["type"] for part in item["content"]] for item in shown]
    assert kinds == [["input_text", "input_text"]] * 3 + [["input_text", "input_image"]] * 2
    assert shown[0]["content"][0] == text
    assert turns[0]["content"][1] is image, "what was given is as it was"
