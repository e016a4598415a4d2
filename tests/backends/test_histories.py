"""What servers refuse in a history that this API takes: ids, names, roles, what is missing."""

import time
from typing import Any

import pytest

from antiphon.backends.chat_completions.messages import chat_messages
from antiphon.backends.profiles import GENERIC, PROFILES
from antiphon.backends.transcript import short_id
from antiphon.protocol.names import valid_name
from tests.backends.test_chat_messages import (
    OK,
    Case,
    assistant,
    call,
    calling,
    result,
    said,
    search,
    searching,
    text,
    thought,
    tool,
    user,
)

LONG = "mcp_" + "0" * 48
AGAIN = short_id("1 1")
KIMI = f"functions.{'f' * 40}:"
ODD = valid_name("functions.f")


def rule(words: str) -> dict[str, Any]:
    """What the system says late, as the user's words."""
    return user(f"<system_message>\n{words}\n</system_message>")


CASES = [
    Case(
        "an upstream that uses the same id in each turn",
        [call("1"), result("1", "x"), call("1"), result("1", "y")],
        [assistant(None, "1"), tool("1", "x"), assistant(None, AGAIN), tool(AGAIN, "y")],
    ),
    Case(
        "two calls of a turn that have one id",
        [call("1"), call("1"), result("1", "x"), result("1", "y")],
        [assistant(None, "1", AGAIN), tool("1", "x"), tool(AGAIN, "y")],
    ),
    Case(
        "OpenAI takes no ids of more than 40 characters",
        [search(LONG), call("c" * 40), result("c" * 40)],
        [
            assistant(None, calls=[searching(short_id(LONG)), calling("c" * 40)]),
            *(tool(short_id(LONG), OK), tool("c" * 40)),
        ],
    ),
    Case(
        "what Kimi calls its calls: its template shows the id, and the name nowhere else",
        [call(f"{KIMI}0"), result(f"{KIMI}0"), call(f"{KIMI}3"), call(f"{KIMI}0")],
        [
            *(assistant(None, f"{KIMI}0"), tool(f"{KIMI}0")),
            assistant(None, f"{KIMI}3", f"{KIMI}4"),
        ],
    ),
    Case(
        "names that no function can have",
        [call("1", "functions.f"), call("2", "f" * 128), result("1"), result("2")],
        [
            assistant(None, calls=[calling("1", ODD), calling("2", "f" * 128)]),
            *(tool("1"), tool("2")),
        ],
    ),
    Case(
        "functions of an MCP server that is not there any more: OpenAI takes names of 64",
        [{**search("1"), "name": "f" * 65}],
        [assistant(None, calls=[calling("1", valid_name("f" * 65))]), tool("1", OK)],
    ),
    Case(
        "system messages that come later are the user's: chat templates refuse them",
        [said("user", "Hi"), said("developer", "b"), said("system", "c"), said("user", "d")],
        [{"role": "system", "content": "a"}, user("Hi"), rule("b"), rule("c"), user("d")],
        instructions="a",
    ),
    Case(
        "OpenAI has them where they are",
        [said("user", "Hi"), said("developer", "b"), said("system", "c")],
        [user("Hi"), {"role": "developer", "content": "b"}, {"role": "system", "content": "c"}],
        profile=PROFILES["openai"],
    ),
    Case(
        "results of nothing",
        [call("1"), call("2"), result("1", []), result("2", [text("")])],
        [assistant(None, "1", "2"), tool("1", ""), tool("2", "")],
    ),
    Case(
        "what was asked and is sent again with the results: these are what the model answers",
        [said("user", "Q"), call("1"), said("user", "Q"), result("1")],
        [user("Q"), user("Q"), assistant(None, "1"), tool("1")],
    ),
    Case(
        "what is new between a call and its result is said after it",
        [said("user", "Q"), call("1"), said("user", "Stop"), result("1")],
        [user("Q"), assistant(None, "1"), tool("1"), user("Stop")],
    ),
    Case(
        "a question that is asked again after its answer",
        [said("user", "Q"), search("1"), said("user", "Q"), call("2"), result("2")],
        [
            *(user("Q"), assistant(None, calls=[searching("1")]), tool("1", OK)),
            *(user("Q"), assistant(None, "2"), tool("2")),
        ],
    ),
    Case(
        "DeepSeek wants reasoning with each message, also where none is known",
        [said("assistant", "a"), call("1"), result("1"), thought("so"), call("2")],
        [
            assistant("a", "1", reasoning_content=" "),
            tool("1"),
            assistant(None, "2", reasoning_content="so"),
        ],
        profile=PROFILES["deepseek"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_history_that_the_server_takes(case: Case) -> None:
    assert chat_messages(case.instructions, case.items, case.profile) == case.messages


def test_ids_and_names_stay_what_they_were_when_a_history_grows() -> None:
    """The prompt cache of a server is of use only then."""
    items = [call("1"), result("1"), call("1", "a.b"), result("1")]
    before = chat_messages(None, items, GENERIC)
    assert chat_messages(None, [*items, call("1"), result("1")], GENERIC)[: len(before)] == before


@pytest.mark.parametrize("ids", [["x"], ["functions.f:0"], [f"functions.f:{n}" for n in range(99)]])
def test_many_calls_of_one_id_take_no_time(ids: list[str]) -> None:
    """R-118: each looks for an id where the last one has found one."""
    items = [call(ids[number % len(ids)]) for number in range(20_000)]
    before = time.process_time()
    (message,) = chat_messages(None, items, GENERIC)
    assert time.process_time() - before < 5
    assert len({one["id"] for one in message["tool_calls"]}) == len(items)


def test_many_messages_between_a_call_and_its_result_take_no_time() -> None:
    """R-118: whether each was said before is asked of all of them."""
    many = [said("user", str(number)) for number in range(8_000)]
    items = [*many, call("1"), *[many[-1]] * 8_000, result("1")]
    before = time.process_time()
    assert len(chat_messages(None, items, GENERIC)) == len(items)
    assert time.process_time() - before < 5


def test_what_was_said_before_is_no_answer_to_what_is_asked_again() -> None:
    items = [said("user", "Go on."), call("1"), said("user", "Go on."), said("assistant", "Wait.")]
    assert chat_messages(None, [*items, result("1")], GENERIC) == [
        *(user("Go on."), user("Go on."), assistant(None, "1"), tool("1")),
        assistant("Wait."),
    ]


def test_many_hosted_calls_before_many_messages_take_no_time() -> None:
    """R-118."""
    hosted = [search(str(number)) for number in range(4_000)]
    items = [said("user", "x"), *hosted, call("c"), *[said("user", "x")] * 4_000, result("c")]
    before = time.process_time()
    chat_messages(None, items, GENERIC)
    assert time.process_time() - before < 5
