"""Items → messages of the Messages API: a table of histories, and what no message can carry."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.backends.anthropic.messages import Conversation, View, conversation
from antiphon.backends.anthropic.thoughts import Memory
from antiphon.backends.origins import Origin
from antiphon.backends.transcript import short_id
from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import ReasoningState
from antiphon.protocol.items.base import Seen
from antiphon.protocol.items.content import Filled
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.untrusted import quoted

Item = dict[str, Any]
PNG = "data:image/png;base64,AAAA"
HERE = Origin.of("anthropic", "https://here/v1")
MODEL = "claude-x"


def text(words: str) -> Item:
    return {"type": "text", "text": words}


def said(role: str, *parts: Item | str) -> Item:
    """A message; strings are text parts."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": p} if isinstance(p, str) else p for p in parts]
    return {"type": "message", "role": role, "content": content}


def call(id_: str, name: str = "f", arguments: str = "{}") -> Item:
    return {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments}


def result(id_: str, output: Any = "ok") -> Item:
    return {"type": "function_call_output", "call_id": id_, "output": output}


def user(*blocks: Item | str) -> Item:
    return {"role": "user", "content": [text(b) if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Item | str) -> Item:
    return {**user(*blocks), "role": "assistant"}


def use(id_: str, name: str = "f", **arguments: Any) -> Item:
    return {"type": "tool_use", "id": id_, "name": name, "input": arguments}


def returned(id_: str, *blocks: Item | str, **more: Any) -> Item:
    content = [text(b) if isinstance(b, str) else b for b in blocks]
    told = {"content": content} if content else {}
    return {"type": "tool_result", "tool_use_id": id_, **told, **more}


def search(id_: str, **more: Any) -> Item:
    """A call that an MCP server has answered: call and result in one."""
    named = {"server_label": "s", "name": "search", "arguments": "{}", "output": "ok"}
    return {"type": "mcp_call", "id": id_, "status": "completed", **named, **more}


OK = quoted("mcp server s", "ok")


def told(
    items: Sequence[Item],
    instructions: str = "",
    *,
    images: bool = True,
    memory: Memory | None = None,
    head: Any = None,
) -> Conversation:
    recall = memory.recall if memory else None
    return conversation(instructions, items, View(images, recall, head))


@dataclass(frozen=True)
class Case:
    """Items and the messages that they become."""

    name: str
    items: list[Item]
    messages: list[Item]
    system: str = ""
    instructions: str = ""


ROLES = [
    Case("one text", [said("user", "Hi")], [user("Hi")]),
    Case("instructions", [said("user", "Hi")], [user("Hi")], "Be kind.", "Be kind."),
    Case(
        "system messages before all others",
        [said("developer", "b"), said("system", "c", "d"), said("user", "Hi")],
        [user("Hi")],
        "a\n\nb\n\nc\nd",
        "a",
    ),
    Case(
        "later ones stand where they are",
        [said("user", "Hi"), said("assistant", "Yes?"), said("developer", "b"), said("user", "c")],
        [
            user("Hi"),
            assistant("Yes?"),
            user("<developer_message>\nb\n</developer_message>", "c"),
        ],
    ),
    Case(
        "roles alternate",
        [
            *(said("user", "a"), said("user", "b")),
            *(said("assistant", "c"), said("assistant", "d")),
            said("user", "e"),
        ],
        [user("a", "b"), assistant("c", "d"), user("e")],
    ),
    Case(
        "the assistant is not the first",
        [said("assistant", "a"), said("user", "b")],
        [user("(What was said before this is not shown.)"), assistant("a"), user("b")],
    ),
    Case(
        "nor the last: its text would be the beginning of the answer",
        [said("user", "a"), said("assistant", "b ")],
        [user("a"), assistant("b "), user("Continue.")],
    ),
    Case("nobody but the system", [said("system", "a")], [user("Continue.")], "a"),
    Case(
        "blank texts are left out",
        [said("user", "", "a", " \n"), said("assistant", ""), said("system", " "), said("user")],
        [user("a")],
    ),
    Case(
        "refusals are the assistant's words",
        [
            said("user", "a"),
            said("assistant", {"type": "refusal", "refusal": "No."}),
            said("user", "b"),
        ],
        [user("a"), assistant("No."), user("b")],
    ),
]

CALLS = [
    Case(
        "parallel calls, results in their order",
        [said("user", "a"), call("1"), call("2"), result("2", "y"), result("1", "x")],
        [user("a"), assistant(use("1"), use("2")), user(returned("1", "x"), returned("2", "y"))],
    ),
    Case(
        "results come before what the user says",
        [said("user", "a"), call("1"), said("user", "b"), result("1"), said("user", "c")],
        [user("a"), assistant(use("1")), user(returned("1", "ok"), "b", "c")],
    ),
    Case(
        "one call after the other",
        [said("user", "a"), call("1"), result("1"), call("2"), result("2")],
        [
            user("a"),
            assistant(use("1")),
            user(returned("1", "ok")),
            assistant(use("2")),
            user(returned("2", "ok")),
        ],
    ),
    Case(
        "text after a call comes before it",
        [said("user", "a"), call("1"), said("assistant", "Wait."), result("1")],
        [user("a"), assistant("Wait.", use("1")), user(returned("1", "ok"))],
    ),
    Case(
        "hosted calls have their results in themselves",
        [said("user", "a"), search("mcp_1"), said("assistant", "b"), said("user", "c")],
        [
            user("a"),
            assistant(use("mcp_1", "search")),
            user(returned("mcp_1", OK)),
            assistant("b"),
            user("c"),
        ],
    ),
    Case(
        "hosted calls of one turn are parallel",
        [said("user", "a"), Seen(search("mcp_1"), 1), Seen(search("mcp_2"), 1)],
        [
            user("a"),
            assistant(use("mcp_1", "search"), use("mcp_2", "search")),
            user(returned("mcp_1", OK), returned("mcp_2", OK)),
        ],
    ),
    Case(
        "a call that has failed",
        [said("user", "a"), search("mcp_1", status="failed", output=None, error="gone")],
        [
            user("a"),
            assistant(use("mcp_1", "search")),
            user(returned("mcp_1", quoted("mcp server s", "gone"), is_error=True)),
        ],
    ),
    Case(
        "a call without a result gets one",
        [said("user", "a"), call("1"), call("2"), result("2")],
        [
            user("a"),
            assistant(use("1"), use("2")),
            user(returned("1", "(There is no result.)"), returned("2", "ok")),
        ],
    ),
    Case(
        "a result without a call is a text",
        [said("user", "a"), result("9")],
        [user("a", "(A tool has returned:)", "ok")],
    ),
    Case(
        "an empty result",
        [said("user", "a"), call("1"), result("1", "")],
        [user("a"), assistant(use("1")), user(returned("1"))],
    ),
    Case(
        "arguments are an object, whatever the model wrote",
        [said("user", "a"), call("1", arguments='{"x":1}'), call("2", arguments="no json")],
        [
            user("a"),
            assistant(use("1", x=1), use("2", input="no json")),
            user(returned("1", "(There is no result.)"), returned("2", "(There is no result.)")),
        ],
    ),
    Case(
        "ids have few characters",
        [said("user", "a"), *(call("é"), call("è")), *(result("è", "y"), result("é", "x"))],
        [
            user("a"),
            assistant(use(short_id("é")), use(short_id("è"))),
            user(returned(short_id("é"), "x"), returned(short_id("è"), "y")),
        ],
    ),
    Case(
        "an id that comes twice: the API takes each once",
        [said("user", "a"), *(call("1"), call("1")), *(result("1", "x"), result("1", "y"))],
        [
            user("a"),
            assistant(use("1"), use(short_id("1 1"))),
            user(returned("1", "x"), returned(short_id("1 1"), "y")),
        ],
    ),
    Case(
        "a custom tool",
        [
            said("user", "a"),
            {"type": "custom_tool_call", "call_id": "1", "name": "sh", "input": "ls"},
            {"type": "custom_tool_call_output", "call_id": "1", "output": "x"},
        ],
        [user("a"), assistant(use("1", "sh", input="ls")), user(returned("1", "x"))],
    ),
]

PDF = base64.b64encode(b"%PDF-1").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
DOCUMENT = {
    "type": "document",
    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
    "title": "a.pdf",
}
SENT_PDF = {
    "type": "input_file",
    "filename": "a.pdf",
    "file_data": f"data:application/pdf;base64,{PDF}",
}

PARTS = [
    Case(
        "images",
        [
            said(
                "user",
                "What?",
                {"type": "input_image", "image_url": PNG, "detail": "low"},
                {"type": "input_image", "image_url": "https://x/a.png"},
            )
        ],
        [user("What?", IMAGE, LINK)],
    ),
    Case(
        "other names of a media type",
        [said("user", {"type": "input_image", "image_url": "DATA:image/JPG;x=y;base64,AA"})],
        [
            user(
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA"},
                }
            )
        ],
    ),
    Case("a PDF", [said("user", SENT_PDF)], [user(DOCUMENT)]),
    Case(
        "a file that was filled",
        [
            said(
                "user",
                Filled(
                    {"type": "input_file", "file_id": "file-1"},
                    {"type": "input_text", "text": "File a.txt:\nHi"},
                ),
            )
        ],
        [user("File a.txt:\nHi")],
    ),
    Case(
        "images in results stand in place",
        [
            said("user", "a"),
            call("1"),
            result(
                "1",
                [
                    {"type": "input_text", "text": "here"},
                    {"type": "input_image", "image_url": PNG},
                ],
            ),
        ],
        [user("a"), assistant(use("1")), user(returned("1", "here", IMAGE))],
    ),
]

CASES = [*ROLES, *CALLS, *PARTS]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_messages(case: Case) -> None:
    talk = told(case.items, case.instructions)
    assert talk.messages == case.messages
    assert talk.system == case.system


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "input_video", "video_url": "https://x/a.mp4"},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "input_image", "image_url": "data:image/svg+xml;base64,AA"},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        {"type": "input_file", "file_data": "data:text/plain;base64,AA"},
    ],
    ids="-".join,
)
def test_what_no_message_can_carry(part: Item) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        told([said("user", part)])
    assert caught.value.code == "unsupported_value"
    assert caught.value.param == "input"


def test_no_media_in_what_the_system_says() -> None:
    with pytest.raises(InvalidRequestError):
        told([said("system", {"type": "input_image", "image_url": PNG})])


def test_images_that_were_made_here_are_for_models_that_see() -> None:
    image = {"type": "image_generation_call", "id": "ig_1", "result": "AAAA", "status": "completed"}
    items = [said("user", "a"), image]
    (seen,) = told(items).messages[-1]["content"]
    assert seen["content"] == [text("The image was made (png)."), IMAGE]
    (read,) = told(items, images=False).messages[-1]["content"]
    assert read["content"] == [text("The image was made (png).")]


# -- thinking ------------------------------------------------------------------------------------

ONE = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
TWO = {"type": "redacted_thinking", "data": "eA=="}


def thought(state: ReasoningState | None, words: str = "hm") -> Item:
    item = {"type": "reasoning", "summary": [], "content": []}
    payload: Item = {"content": words}
    if state is not None:
        payload["state"] = state.state
    return restored(item, payload)


@dataclass
class Thinker:
    """A model that has thought after some items."""

    memory: Memory = field(default_factory=lambda: Memory(HERE, MODEL))

    def after(self, items: list[Item], *blocks: Item, instructions: str = "") -> Item:
        self.memory.prefix = told(items, instructions, memory=self.memory).prefix
        return thought(self.memory.state(blocks))


def test_thinking_goes_back_as_it_came_and_first() -> None:
    thinker = Thinker()
    asked = [said("user", "a")]
    items = [*asked, thinker.after(asked, ONE, TWO), call("1"), result("1")]
    talk = told(items, memory=thinker.memory)
    assert talk.messages[1] == assistant(ONE, TWO, use("1"))
    assert not talk.lacks_thoughts
    later = [*items, thinker.after(items, TWO), call("2"), result("2")]
    assert told(later, memory=thinker.memory).messages[3] == assistant(TWO, use("2"))


def test_thinking_between_texts_keeps_its_place() -> None:
    thinker = Thinker()
    asked = [said("user", "a")]
    first, both = thinker.after(asked, ONE), thinker.after(asked, ONE, TWO)
    items = [*asked, first, said("assistant", "b"), both, call("1"), result("1")]
    assert told(items, memory=thinker.memory).messages[1] == assistant(ONE, "b", TWO, use("1"))


@pytest.mark.parametrize(
    ("memory", "items", "instructions"),
    [
        (Memory(Origin.of("anthropic", "https://there/v1"), MODEL), [said("user", "a")], ""),
        (Memory(HERE, "claude-y"), [said("user", "a")], ""),
        (Memory(HERE, MODEL), [said("user", "b")], ""),
        (Memory(HERE, MODEL), [said("user", "a")], "Be kind."),
    ],
    ids=["another deployment", "another model", "other words before", "other instructions"],
)
def test_thinking_is_for_where_it_came_from(
    memory: Memory, items: list[Item], instructions: str
) -> None:
    item = Thinker().after([said("user", "a")], ONE)
    talk = told([*items, item, call("1"), result("1")], instructions, memory=memory)
    assert talk.messages[1] == assistant(use("1"))
    assert talk.lacks_thoughts


def test_other_tools_are_another_prefix() -> None:
    items = [said("user", "a")]
    assert told(items, head=["f"]).prefix != told(items, head=["g"]).prefix
    assert told(items, head=["f"]).prefix == told(items, head=["f"]).prefix


def test_foreign_reasoning_is_not_shown() -> None:
    items = [said("user", "a"), thought(None), said("assistant", "b"), said("user", "c")]
    talk = told(items, memory=Memory(HERE, MODEL))
    assert talk.messages == [user("a"), assistant("b"), user("c")]
    assert not talk.lacks_thoughts


def test_a_turn_of_thinking_alone_is_not_sent() -> None:
    thinker = Thinker()
    asked = [said("user", "a")]
    talk = told([*asked, thinker.after(asked, ONE)], memory=thinker.memory)
    assert talk.messages == [user("a")]


# -- whatever the history is ---------------------------------------------------------------------

_TEXTS = st.sampled_from(["a", "", " ", "b\n"])
_IDS = st.sampled_from(["1", "2", "3"])
_ITEMS = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(["user", "assistant", "system", "developer"]), _TEXTS),
        st.builds(call, _IDS),
        st.builds(result, _IDS, _TEXTS),
        st.builds(search, _IDS),
        st.just(thought(None)),
    ),
    max_size=12,
)


@given(_ITEMS)
def test_the_api_takes_any_history(items: list[Item]) -> None:
    messages = told(items).messages
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    waiting: list[str] = []
    for message in messages:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        results = [b["tool_use_id"] for b in message["content"] if b["type"] == "tool_result"]
        assert results == waiting, "each call has its result in the next message"
        assert kinds[: len(results)] == ["tool_result"] * len(results)
        waiting = [b["id"] for b in message["content"] if b["type"] == "tool_use"]
        assert all(b["text"].strip() for b in message["content"] if b["type"] == "text")
    assert waiting == []
