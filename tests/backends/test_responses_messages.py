"""Items → the `input` for another Responses server."""

from typing import Any

import pytest

from antiphon.backends.origins import Origin
from antiphon.backends.responses.dialects import DIALECTS, Dialect
from antiphon.backends.responses.messages import input_items
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Seen
from antiphon.protocol.items.content import Filled
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.untrusted import quoted

Item = dict[str, Any]
GENERIC, OPENAI, VLLM = DIALECTS["generic"], DIALECTS["openai"], DIALECTS["vllm"]
HERE, ELSEWHERE = Origin("here"), Origin("elsewhere")
PNG = "data:image/png;base64,AAAA"
IMAGE: Item = {"type": "input_image", "image_url": PNG, "detail": "auto"}
PDF: Item = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,"}


def message(role: str, content: Any, **more: Any) -> Item:
    return {"type": "message", "role": role, "content": content, **more}


def user(*parts: Item | str) -> Item:
    content = [{"type": "input_text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"id": "msg_ours", **message("user", content), "status": "completed"}


def assistant(*texts: str, **more: Any) -> Item:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"id": "msg_ours", **message("assistant", content), "status": "completed", **more}


def call(id_: str, arguments: str = "{}") -> Item:
    named = {"call_id": id_, "name": "f", "arguments": arguments}
    return {"type": "function_call", "id": "fc_ours", "status": "completed", **named}


def result(id_: str, output: Any = "ok") -> Item:
    return {"type": "function_call_output", "id": "fc_o", "call_id": id_, "output": output}


def custom(id_: str) -> Item:
    return {"type": "custom_tool_call", "call_id": id_, "name": "t", "input": "x"}


def custom_result(id_: str) -> Item:
    return {"type": "custom_tool_call_output", "call_id": id_, "output": "y"}


def blob(id_: str) -> Item:
    """A reasoning item as the other server gave it."""
    summary = [{"type": "summary_text", "text": "So."}]
    return {"type": "reasoning", "id": id_, "summary": summary, "encrypted_content": f"e-{id_}"}


def thought(*ids: str, origin: Origin = HERE, text: str = "hm") -> Item:
    """A reasoning item of ours, opened: text, and what of the other server is kept in it."""
    item = {"type": "reasoning", "id": "rs_ours", "summary": [], "encrypted_content": "sealed"}
    state = origin.state([blob(id_) for id_ in ids]) if ids else None
    return restored(item, {"content": text, "state": state})


def sent_call(id_: str, arguments: str = "{}") -> Item:
    return {"type": "function_call", "call_id": id_, "name": "f", "arguments": arguments}


def sent_result(id_: str, output: Any = "ok") -> Item:
    return {"type": "function_call_output", "call_id": id_, "output": output}


SEARCHED = {
    "type": "mcp_call",
    "id": "mcp_1",
    "status": "completed",
    "server_label": "s",
    "name": "search",
    "arguments": '{"q":1}',
    "output": "ok",
}
SENT_SEARCH = [
    {"type": "function_call", "call_id": "mcp_1", "name": "search", "arguments": '{"q":1}'},
    sent_result("mcp_1", quoted("mcp server s", "ok")),
]
MADE = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": "AAAA",
    "output_format": "png",
}
TEXT_BACK = {
    "type": "reasoning",
    "id": "rs_0",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}

HISTORIES: dict[str, tuple[list[Item], Dialect, list[Item]]] = {
    "one text": ([user("Hi")], GENERIC, [message("user", "Hi")]),
    "roles stay": (
        [{**user("a"), "role": "developer"}, {**user("b"), "role": "system"}],
        OPENAI,
        [message("developer", "a"), message("system", "b")],
    ),
    "who knows no developers": (
        [{**user("a"), "role": "developer"}],
        GENERIC,
        [message("system", "a")],
    ),
    "parts": (
        [user("Hi", IMAGE, PDF)],
        OPENAI,
        [message("user", [{"type": "input_text", "text": "Hi"}, IMAGE, PDF])],
    ),
    "a filled part": (
        [user("Hi", Filled({"type": "input_file", "file_id": "file-1"}, PDF))],
        OPENAI,
        [message("user", [{"type": "input_text", "text": "Hi"}, PDF])],
    ),
    "original images": (
        [user({**IMAGE, "detail": "original"})],
        OPENAI,
        [message("user", [{**IMAGE, "detail": "original"}])],
    ),
    "no original images": (
        [user({**IMAGE, "detail": "original"})],
        GENERIC,
        [message("user", [{**IMAGE, "detail": "high"}])],
    ),
    "several texts": ([user("a", "b")], GENERIC, [message("user", "a\nb")]),
    "what is said in parts": (
        [assistant("a", "b")],
        DIALECTS["llama.cpp"],
        [message("assistant", [{"type": "output_text", "text": "a\nb"}])],
    ),
    "output text of a user": (
        [user({"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"})],
        GENERIC,
        [message("user", "a\nb")],
    ),
    "what the assistant said": (
        [assistant("a", "b", phase="commentary")],
        GENERIC,
        [message("assistant", "a\nb")],
    ),
    "its phase": (
        [assistant("a", phase="commentary")],
        OPENAI,
        [message("assistant", "a", phase="commentary")],
    ),
    "it refused": (
        [message("assistant", [{"type": "refusal", "refusal": "No."}])],
        GENERIC,
        [message("assistant", "No.")],
    ),
    "it said nothing": ([user("a"), assistant("")], GENERIC, [message("user", "a")]),
    "calls and results": (
        [call("c1", ""), call("c2"), result("c2", "2"), result("c1", "1")],
        GENERIC,
        [sent_call("c1"), sent_call("c2"), sent_result("c1", "1"), sent_result("c2", "2")],
    ),
    "a result without a call": ([result("c9")], GENERIC, [sent_result("c9")]),
    "a custom tool": (
        [custom("c1"), custom_result("c1")],
        OPENAI,
        [custom("c1"), custom_result("c1")],
    ),
    "a custom tool as a function": (
        [custom("c1"), custom_result("c1")],
        GENERIC,
        [{**sent_call("c1", '{"input":"x"}'), "name": "t"}, sent_result("c1", "y")],
    ),
    "a hosted tool": ([SEARCHED], OPENAI, SENT_SEARCH),
    "images in results": (
        [call("c1"), result("c1", [{"type": "input_text", "text": "a"}, IMAGE])],
        OPENAI,
        [sent_call("c1"), sent_result("c1", [{"type": "input_text", "text": "a"}, IMAGE])],
    ),
    "images after results": (
        [call("c1"), result("c1", [IMAGE]), user("And?")],
        GENERIC,
        [
            sent_call("c1"),
            sent_result("c1", "(see the attached content that follows)"),
            message("user", [IMAGE]),
            message("user", "And?"),
        ],
    ),
    "results of nothing": (
        [call("c1"), result("c1", [])],
        GENERIC,
        [sent_call("c1"), sent_result("c1", "")],
    ),
    "arguments that were cut": (
        [call("c1", '{"a'), result("c1", "1")],
        GENERIC,
        [sent_call("c1", '{"input":"{\\"a"}'), sent_result("c1", "1")],
    ),
    "text parts of results": (
        [call("c1"), result("c1", [{"type": "input_text", "text": t} for t in "ab"])],
        OPENAI,
        [sent_call("c1"), sent_result("c1", "a\nb")],
    ),
    "an image that was made": (
        [MADE],
        OPENAI,
        [
            {
                "type": "function_call",
                "call_id": "ig_1",
                "name": "image_generation",
                "arguments": '{"prompt":""}',
            },
            sent_result(
                "ig_1", [{"type": "input_text", "text": "The image was made (png)."}, IMAGE]
            ),
        ],
    ),
    "an image that nobody sees": (
        [MADE],
        GENERIC,
        [
            {
                "type": "function_call",
                "call_id": "ig_1",
                "name": "image_generation",
                "arguments": '{"prompt":""}',
            },
            sent_result("ig_1", "The image was made (png)."),
        ],
    ),
    "reasoning goes home": (
        [thought("rs_1"), call("c1"), result("c1")],
        GENERIC,
        [blob("rs_1"), sent_call("c1"), sent_result("c1")],
    ),
    "reasoning goes home once": (
        [thought("rs_1"), assistant("a"), thought("rs_1", "rs_2"), call("c1"), result("c1")],
        OPENAI,
        [
            blob("rs_1"),
            message("assistant", "a"),
            blob("rs_2"),
            sent_call("c1"),
            sent_result("c1"),
        ],
    ),
    "foreign reasoning": (
        [thought("rs_1", origin=ELSEWHERE), assistant("a")],
        OPENAI,
        [message("assistant", "a")],
    ),
    "reasoning as text": (
        [thought("rs_1", origin=ELSEWHERE), assistant("a")],
        VLLM,
        [TEXT_BACK, message("assistant", "a")],
    ),
    "no text either": ([thought(text=""), assistant("a")], VLLM, [message("assistant", "a")]),
    "reasoning that nothing follows": (
        [thought("rs_1"), user("a"), thought("rs_2"), assistant("")],
        OPENAI,
        [message("user", "a")],
    ),
}


@pytest.mark.parametrize(("items", "dialect", "expected"), HISTORIES.values(), ids=list(HISTORIES))
def test_histories(items: list[Item], dialect: Dialect, expected: list[Item]) -> None:
    assert input_items(items, dialect, HERE) == expected


def test_what_only_the_model_is_told() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    called, output = input_items([Seen(item, 0, "Found it.")], OPENAI, HERE)
    assert (called["name"], called["call_id"]) == ("web_search", output["call_id"])
    assert "Found it." in output["output"]


@pytest.mark.parametrize(
    "item",
    [
        user({"type": "input_image", "file_id": "file-1"}),
        user({"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}),
        message("assistant", [IMAGE]),
    ],
    ids=["not filled", "a sound", "by the assistant"],
)
def test_what_has_no_place(item: Item) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        input_items([item], OPENAI, HERE)
    assert caught.value.code == "unsupported_value"
