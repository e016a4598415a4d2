"""Items → chat messages: a table of histories, and what no chat message can carry."""

import base64
from dataclasses import dataclass, replace
from typing import Any

import pytest

from antiphon.backends.chat_completions.messages import chat_messages
from antiphon.backends.profiles import GENERIC, PROFILES, Profile
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Seen
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.untrusted import quoted

Item = dict[str, Any]
OPENAI = PROFILES["openai"]
THINKS = replace(GENERIC, reasoning_back="reasoning_content")
TOOL_IMAGES = replace(GENERIC, tool_images=True)
OPENROUTER = PROFILES["openrouter"]
SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "c2ln", "index": 0}
SECRET = {"type": "reasoning.encrypted", "data": "eA==", "index": 0}
PNG = "data:image/png;base64,AAAA"


def text(words: str) -> Item:
    return {"type": "input_text", "text": words}


def said(role: str, *parts: Item | str) -> Item:
    """A message; strings are text parts."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": p} if isinstance(p, str) else p for p in parts]
    return {"type": "message", "role": role, "content": content}


def call(id_: str, name: str = "f", arguments: str = "{}") -> Item:
    return {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments}


def result(id_: str, output: Any = "ok") -> Item:
    return {"type": "function_call_output", "call_id": id_, "output": output}


def thought(words: str | None, *summaries: str) -> Item:
    summary = [{"type": "summary_text", "text": text} for text in summaries]
    content = [] if words is None else [{"type": "reasoning_text", "text": words}]
    return {"type": "reasoning", "summary": summary, "content": content}


def state(turn: str, *details: Item) -> Item:
    """What a seal of OpenRouter's reasoning holds."""
    return {"content": "", "state": {"turn": turn, "reasoning_details": list(details)}}


def file(mime: str, raw: bytes) -> Item:
    data = f"data:{mime};base64,{base64.b64encode(raw).decode()}"
    return {"type": "input_file", "filename": "a.txt", "file_data": data}


def user(content: Any) -> Item:
    return {"role": "user", "content": content}


def assistant(content: str | None, *ids: str, calls: list[Item] | None = None, **more: Any) -> Item:
    """An assistant message with `calls`, or with a call of `f` for each id."""
    message: Item = {"role": "assistant", "content": content, **more}
    if calls or ids:
        message["tool_calls"] = calls or [calling(id_) for id_ in ids]
    return message


def search(id_: str) -> Item:
    """A call that an MCP server has answered: call and result in one."""
    named = {"server_label": "s", "name": "search", "arguments": "{}", "output": "ok"}
    return {"type": "mcp_call", "id": id_, "status": "completed", **named}


#: What such a server said, as a model reads it.
OK = quoted("mcp server s", "ok")


def searching(id_: str) -> Item:
    return calling(id_, "search")


def calling(id_: str, name: str = "f", arguments: str = "{}") -> Item:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(id_: str, content: Any = "ok") -> Item:
    return {"role": "tool", "tool_call_id": id_, "content": content}


@dataclass(frozen=True)
class Case:
    """Items and the messages that they become."""

    name: str
    items: list[Item]
    messages: list[Item]
    instructions: str | None = None
    profile: Profile = GENERIC


MESSAGES = [
    Case(
        "an empty message of the assistant adds no blank lines",
        [said("user", "Hi"), said("assistant"), said("assistant", "a"), said("user", "b")],
        [user("Hi"), assistant("a"), user("b")],
    ),
    Case("one text", [said("user", "Hi")], [user("Hi")]),
    Case("several texts are one string", [said("user", "a", "b")], [user("a\nb")]),
    Case(
        "instructions come first",
        [said("user", "Hi")],
        [{"role": "system", "content": "Be kind."}, user("Hi")],
        instructions="Be kind.",
    ),
    Case(
        "system messages at the start become one",
        [said("developer", "b"), said("system", "c"), said("user", "Hi")],
        [{"role": "system", "content": "a\n\nb\n\nc"}, user("Hi")],
        instructions="a",
    ),
    Case(
        "OpenAI keeps developer and system apart",
        [said("developer", "b"), said("system", "c")],
        [
            {"role": "developer", "content": "a"},
            {"role": "developer", "content": "b"},
            {"role": "system", "content": "c"},
        ],
        instructions="a",
        profile=OPENAI,
    ),
    Case(
        "turns",
        [said("user", "a"), said("assistant", "b"), said("user", "c")],
        [user("a"), assistant("b"), user("c")],
    ),
    Case(
        "refusals are the assistant's words",
        [said("assistant", {"type": "refusal", "refusal": "No."})],
        [assistant("No.")],
    ),
    Case("an empty answer is no null", [said("assistant", "")], [assistant("")]),
    Case(
        "what the assistant said in a row is one message",
        [said("assistant", "a"), said("assistant", "b")],
        [assistant("a\n\nb")],
    ),
    Case(
        "text of any part type is read",
        [said("user", {"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"})],
        [user("a\nb")],
    ),
]

PARTS = [
    Case(
        "image",
        [said("user", "What?", {"type": "input_image", "image_url": PNG, "detail": "low"})],
        [
            user(
                [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                ]
            )
        ],
    ),
    Case(
        "image without detail, and with one that chat does not know",
        [
            said(
                "user",
                {"type": "input_image", "image_url": "http://x/a.png"},
                {"type": "input_image", "image_url": "http://x/b.png", "detail": "original"},
            )
        ],
        [
            user(
                [
                    {"type": "image_url", "image_url": {"url": "http://x/a.png"}},
                    {"type": "image_url", "image_url": {"url": "http://x/b.png", "detail": "high"}},
                ]
            )
        ],
    ),
    Case(
        "sound and film",
        [
            said(
                "user",
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "input_video", "video_url": "http://x/a.mp4"},
            )
        ],
        [
            user(
                [
                    {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                    {"type": "video_url", "video_url": {"url": "http://x/a.mp4"}},
                ]
            )
        ],
    ),
    Case(
        "file",
        [said("user", {"type": "input_file", "file_data": "data:application/pdf;base64,AA"})],
        [
            user(
                [
                    {
                        "type": "file",
                        "file": {"filename": "file", "file_data": "data:application/pdf;base64,AA"},
                    }
                ]
            )
        ],
    ),
]

CALLS = [
    Case(
        "parallel calls are one turn, results follow in its order",
        [said("user", "a"), call("1"), call("2"), result("2", "y"), result("1", "x")],
        [user("a"), assistant(None, "1", "2"), tool("1", "x"), tool("2", "y")],
    ),
    Case(
        "text before a call is in the same turn",
        [said("assistant", "Let me see."), call("1"), result("1")],
        [assistant("Let me see.", "1"), tool("1")],
    ),
    Case(
        "text between call and result is in the same turn",
        [call("1"), said("assistant", "Wait."), result("1")],
        [assistant("Wait.", "1"), tool("1")],
    ),
    Case(
        "one call after the other",
        [call("1"), result("1"), call("2"), result("2"), said("assistant", "Done.")],
        [assistant(None, "1"), tool("1"), assistant(None, "2"), tool("2"), assistant("Done.")],
    ),
    Case(
        "a result that comes late stands by its call",
        [call("1"), said("user", "And?"), result("1"), said("user", "So?")],
        [assistant(None, "1"), tool("1"), user("And?"), user("So?")],
    ),
    Case(
        "the turn of a chained request begins with results",
        [result("1", "x"), said("user", "a")],
        [tool("1", "x"), user("a")],
    ),
    Case(
        "arguments that are empty, or were cut, are an object",
        [call("1", arguments=""), call("2", arguments='{"a'), result("1"), result("2")],
        [
            assistant(None, calls=[calling("1"), calling("2", "f", '{"input":"{\\"a"}')]),
            *(tool("1"), tool("2")),
        ],
    ),
    Case(
        "custom tools",
        [
            {"type": "custom_tool_call", "call_id": "1", "name": "patch", "input": 'a"b'},
            {"type": "custom_tool_call_output", "call_id": "1", "output": "ok"},
        ],
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [calling("1", "patch", '{"input":"a\\"b"}')],
            },
            tool("1"),
        ],
    ),
    Case(
        "calls that carry their result, and what was said after it",
        [search("1"), search("2"), said("assistant", "Found."), search("3"), thought("hm")],
        [
            assistant(None, calls=[searching("1"), searching("2")]),
            tool("1", OK),
            tool("2", OK),
            assistant("Found.", calls=[searching("3")]),
            tool("3", OK),
        ],
    ),
    Case(
        "a call with its result beside one of the client",
        [search("1"), call("2"), result("2", "x")],
        [assistant(None, calls=[searching("1"), calling("2")]), tool("1", OK), tool("2", "x")],
    ),
    Case(
        "calls that this server answered one after the other",
        [Seen(search("1"), 1), Seen(search("2"), 2), Seen(search("3"), 2)],
        [
            assistant(None, calls=[searching("1")]),
            tool("1", OK),
            assistant(None, calls=[searching("2"), searching("3")]),
            tool("2", OK),
            tool("3", OK),
        ],
    ),
    Case(
        "texts in a result",
        [call("1"), result("1", [text("a"), text("b")])],
        [assistant(None, "1"), tool("1", "a\nb")],
    ),
    Case(
        "images in results follow after all results",
        [
            call("1"),
            call("2"),
            result("1", [text("a"), {"type": "input_image", "image_url": PNG}]),
            result("2"),
        ],
        [
            assistant(None, "1", "2"),
            tool("1", "a"),
            tool("2"),
            user([{"type": "image_url", "image_url": {"url": PNG}}]),
        ],
    ),
    Case(
        "a result of an image alone",
        [call("1"), result("1", [{"type": "input_image", "image_url": PNG}])],
        [
            assistant(None, "1"),
            tool("1", "(see the attached content that follows)"),
            user([{"type": "image_url", "image_url": {"url": PNG}}]),
        ],
    ),
    Case(
        "images in results where the server takes them",
        [call("1"), result("1", [text("a"), {"type": "input_image", "image_url": PNG}])],
        [
            assistant(None, "1"),
            tool(
                "1",
                [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}],
            ),
        ],
        profile=TOOL_IMAGES,
    ),
]

_DRAWN: Item = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "size": "1x1"}
_MADE = "The image was made (1x1, png)."
_DRAWING = assistant(None, calls=[calling("ig_1", "image_generation", '{"prompt":""}')])
DRAWN = [
    Case("an image that was made here, in words", [_DRAWN], [_DRAWING, tool("ig_1", _MADE)]),
    Case(
        "the same for models that see",
        [_DRAWN],
        [
            _DRAWING,
            tool("ig_1", _MADE),
            user([{"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}}]),
        ],
        profile=replace(GENERIC, vision=True),
    ),
    Case(
        "an image that could not be made",
        [{"type": "image_generation_call", "id": "ig_1", "status": "failed", "result": None}],
        [_DRAWING, tool("ig_1", "failed")],
    ),
]

REASONING = [
    Case("reasoning is dropped", [thought("hm"), said("assistant", "a")], [assistant("a")]),
    Case(
        "reasoning goes back where the server wants it",
        [thought("hm"), said("assistant", "a"), call("1"), result("1"), thought("so"), call("2")],
        [
            assistant("a", "1", reasoning_content="hm"),
            tool("1"),
            assistant(None, "2", reasoning_content="so"),
        ],
        profile=THINKS,
    ),
    Case(
        "reasoning without text",
        [{"type": "reasoning", "summary": [], "encrypted_content": "x"}, said("assistant", "a")],
        [assistant("a")],
        profile=THINKS,
    ),
    Case("reasoning and nothing else", [thought("hm"), said("user", "a")], [user("a")]),
    Case(
        "a summary is better than nothing",
        [thought(None, "one", "two"), said("assistant", "a")],
        [assistant("a", reasoning_content="one\n\ntwo")],
        profile=THINKS,
    ),
    Case(
        "a summary beside the text",
        [thought("hm", "one"), said("assistant", "a")],
        [assistant("a", reasoning_content="hm")],
        profile=THINKS,
    ),
    Case(
        "a state goes back instead of the text",
        [restored(thought("hm"), state("t", SIGNED)), said("assistant", "a"), said("user", "b")],
        [assistant("a", reasoning_details=[SIGNED]), user("b")],
        profile=OPENROUTER,
    ),
    Case(
        "states of one turn: the last has all, wherever they stand",
        [
            restored(thought("hm"), state("t", {**SIGNED, "signature": None})),
            said("assistant", "a"),
            restored(thought(None), state("t", SIGNED, SECRET)),
            call("1"),
            result("1"),
            restored(thought(None), state("u", SECRET)),
            call("2"),
        ],
        [
            assistant("a", "1", reasoning_details=[SIGNED, SECRET]),
            tool("1"),
            assistant(None, "2", reasoning_details=[SECRET]),
        ],
        profile=OPENROUTER,
    ),
    Case(
        "states of two turns that became one message",
        [restored(thought(None), state(turn, SIGNED)) for turn in "tu"] + [said("assistant", "a")],
        [assistant("a", reasoning_details=[SIGNED, SIGNED])],
        profile=OPENROUTER,
    ),
    Case(
        "a state of another server is its own business",
        [
            restored(thought("hm"), state("t", SIGNED)),
            said("assistant", "a"),
        ],
        [assistant("a", reasoning_content="hm")],
        profile=THINKS,
    ),
    Case(
        "a state of another kind of backend",
        [
            restored(thought("hm"), {"content": "", "state": ["signature"]}),
            restored(thought("so"), {"content": "", "state": {"signature": "x"}}),
            said("assistant", "a"),
        ],
        [assistant("a", reasoning="hmso")],
        profile=OPENROUTER,
    ),
]

CASES = [*MESSAGES, *PARTS, *CALLS, *DRAWN, *REASONING]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_histories(case: Case) -> None:
    """Lessons §1 rule 11: one assistant turn, its results right after it."""
    assert chat_messages(case.instructions, case.items, case.profile) == case.messages


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_no_result_is_lost_and_none_comes_twice(case: Case) -> None:
    messages = chat_messages(case.instructions, case.items, case.profile)
    kinds = ("_output", "mcp_call", "image_generation_call")
    results = sum(item["type"].endswith(kinds) for item in case.items)
    assert sum(message["role"] == "tool" for message in messages) == results


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_media_that_are_not_the_users_are_never_lost(role: str) -> None:
    """They come from the history of another backend: there is no place for them in these roles."""
    picture = {"type": "input_image", "image_url": PNG}
    with pytest.raises(InvalidRequestError) as caught:
        chat_messages(None, [said(role, "a", picture), said("user", "b")], GENERIC)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "http://x/a"},
    ],
)
def test_parts_that_no_message_can_carry(part: Item) -> None:
    with pytest.raises(InvalidRequestError):
        chat_messages(None, [said("user", part)], GENERIC)
