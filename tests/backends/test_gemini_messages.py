"""Items → Gemini's contents: a table of histories, and what no content can carry."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from antiphon.backends.gemini.messages import Target, conversation
from antiphon.backends.gemini.signatures import SIGNATURE, SignatureReader
from antiphon.backends.gemini.traits import NEWEST, traits_of
from antiphon.backends.origins import Origin
from antiphon.errors import InvalidRequestError
from antiphon.protocol.deltas import Delta, ReasoningState
from antiphon.protocol.items.base import Seen
from antiphon.protocol.items.content import Filled
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.untrusted import quoted
from tests.conformance.gemini import UNSIGNED

Item = dict[str, Any]
HERE = Origin.of("gemini", "https://a.example/m")
TARGET = Target("m", NEWEST, HERE)
OLDER = Target("gemini-2.5-flash", traits_of("gemini-2.5-flash"), HERE)
BLIND = replace(TARGET, sees=False)
PNG = "data:image/png;base64,AAAA"
BLOB = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}


def said(role: str, *parts: Item | str) -> Item:
    """A message; strings are text parts."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": p} if isinstance(p, str) else p for p in parts]
    return {"type": "message", "role": role, "content": content}


def call(id_: str, name: str = "f", arguments: str = "{}") -> Item:
    return {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments}


def result(id_: str, output: Any = "ok") -> Item:
    return {"type": "function_call_output", "call_id": id_, "output": output}


def search(id_: str) -> Item:
    """A call that an MCP server has answered: call and result in one."""
    named = {"server_label": "s", "name": "search", "arguments": "{}", "output": "ok"}
    return {"type": "mcp_call", "id": id_, "status": "completed", **named}


def thought(words: str, *signed: Item, origin: Origin = HERE, turn: str = "r1") -> Item:
    """A reasoning item as it comes back from its seal."""
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    state = origin.state({"turn": turn, "signed": list(signed)}) if signed else None
    return restored(item, {"content": words, **({"state": state} if state else {})})


def on_call(index: int, signature: str) -> Item:
    return {"part": "call", "index": index, "signature": signature}


def image(url: str = PNG) -> Item:
    return {"type": "input_image", "image_url": url}


def made(result_: str) -> Item:
    return {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": result_}


def user(*parts: Item | str) -> Item:
    return {"role": "user", "parts": [{"text": p} if isinstance(p, str) else p for p in parts]}


def model(*parts: Item | str) -> Item:
    return {"role": "model", "parts": [{"text": p} if isinstance(p, str) else p for p in parts]}


def calling(id_: str, name: str = "f", args: Item | None = None, sign: str | None = None) -> Item:
    part: Item = {"functionCall": {"id": id_, "name": name, "args": args or {}}}
    return part if sign is None else {**part, SIGNATURE: sign}


def answer(id_: str, output: str = "ok", name: str = "f", **more: Any) -> Item:
    response = {"id": id_, "name": name, "response": {"output": output}, **more}
    return {"functionResponse": response}


@dataclass(frozen=True)
class Case:
    """Items and the contents that they become."""

    name: str
    items: list[Item]
    contents: list[Item]
    rules: tuple[str, ...] = ()
    instructions: str | None = None
    target: Target = TARGET


HI = said("user", "Hi")
MESSAGES = [
    Case("one text", [HI], [user("Hi")]),
    Case("several texts", [said("user", "a", "b")], [user("a", "b")]),
    Case("an empty text is no part", [said("user", "", "a")], [user("a")]),
    Case("an empty message is no content", [HI, said("user", "")], [user("Hi")]),
    Case("instructions", [HI], [user("Hi")], ("Be kind.",), "Be kind."),
    Case(
        "messages of system and developer at the start",
        [said("developer", "b"), said("system", "c"), HI],
        [user("Hi")],
        ("a", "b", "c"),
        "a",
    ),
    Case(
        "and later ones",
        [HI, said("developer", "b"), said("system", "")],
        [user("Hi"), user("<developer_message>\nb\n</developer_message>")],
    ),
    Case("rules alone are what is said", [said("system", "b")], [user("a\n\nb")], (), "a"),
    Case("nothing at all", [], [user(" ")]),
    Case(
        "turns",
        [HI, said("assistant", "a", "b"), said("assistant", "c"), said("user", "d")],
        [user("Hi"), model("a\nb", "c"), user("d")],
    ),
    Case(
        "a refusal is the model's words",
        [HI, said("assistant", {"type": "refusal", "refusal": "No."}), HI],
        [user("Hi"), model("No."), user("Hi")],
    ),
    Case("an empty answer is no content", [HI, said("assistant", ""), HI], [user("Hi")] * 2),
    Case(
        "a call does not follow another content of the model",
        [HI, said("assistant", "a"), said("developer", ""), call("1"), result("1")],
        [user("Hi"), model("a", calling("1", sign=UNSIGNED)), user(answer("1"))],
    ),
    Case(
        "the model never begins",
        [said("assistant", "a"), HI],
        [user("(The conversation begins with what you said.)"), model("a"), user("Hi")],
    ),
    Case(
        "the model never has the last word",
        [HI, said("assistant", "a")],
        [user("Hi"), model("a"), user("Continue.")],
    ),
]

PARTS = [
    Case("image", [said("user", "What?", image())], [user("What?", BLOB)]),
    Case(
        "an image that was filled",
        [said("user", Filled(image("https://x/a.png"), image()))],
        [user(BLOB)],
    ),
    Case(
        "file, sound and film",
        [
            said(
                "user",
                {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB"},
                {"type": "input_audio", "input_audio": {"data": "CCCC", "format": "wav"}},
                {"type": "input_video", "video_url": "data:video/mp4;base64,DDDD"},
            )
        ],
        [
            user(
                {"inlineData": {"mimeType": "application/pdf", "data": "BBBB"}},
                {"inlineData": {"mimeType": "audio/wav", "data": "CCCC"}},
                {"inlineData": {"mimeType": "video/mp4", "data": "DDDD"}},
            )
        ],
    ),
]

CALLS = [
    Case(
        "a call of a stranger in the current turn",
        [HI, call("c", arguments='{"a":1}'), result("c")],
        [user("Hi"), model(calling("c", args={"a": 1}, sign=UNSIGNED)), user(answer("c"))],
    ),
    Case(
        "a call of an earlier turn",
        [HI, call("c"), result("c"), said("assistant", "a"), HI],
        [user("Hi"), model(calling("c")), user(answer("c")), model("a"), user("Hi")],
    ),
    Case(
        "models that do not insist on signatures",
        [HI, call("c"), result("c")],
        [user("Hi"), model(calling("c")), user(answer("c"))],
        target=OLDER,
    ),
    Case(
        "parallel calls: results in the order of the calls, only the first is signed",
        [HI, call("a"), call("b", "g"), result("b", "2"), result("a", "1")],
        [
            user("Hi"),
            model(calling("a", sign=UNSIGNED), calling("b", "g")),
            user(answer("a", "1"), answer("b", "2", "g")),
        ],
    ),
    Case(
        "steps of a turn are contents of their own",
        [HI, call("a"), result("a"), call("b"), result("b")],
        [
            user("Hi"),
            *(model(calling("a", sign=UNSIGNED)), user(answer("a"))),
            *(model(calling("b", sign=UNSIGNED)), user(answer("b"))),
        ],
    ),
    Case(
        "arguments that are no object",
        [HI, call("a", arguments="nonsense"), result("a")],
        [
            user("Hi"),
            model(calling("a", args={"input": "nonsense"}, sign=UNSIGNED)),
            user(answer("a")),
        ],
    ),
    Case(
        "a custom tool",
        [
            HI,
            {"type": "custom_tool_call", "call_id": "a", "name": "t", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
        ],
        [
            user("Hi"),
            model(calling("a", "t", {"input": "x"}, UNSIGNED)),
            user(answer("a", name="t")),
        ],
    ),
    Case(
        "a hosted tool",
        [HI, said("assistant", "a"), Seen(search("mcp_1"), 1), Seen(search("mcp_2"), 2)],
        [
            user("Hi"),
            model("a", calling("mcp_1", "search", sign=UNSIGNED)),
            user(answer("mcp_1", quoted("mcp server s", "ok"), "search")),
            model(calling("mcp_2", "search", sign=UNSIGNED)),
            user(answer("mcp_2", quoted("mcp server s", "ok"), "search")),
        ],
    ),
    Case(
        "a call without a result has one all the same",
        [HI, call("a"), call("b"), result("b")],
        [
            user("Hi"),
            model(calling("a", sign=UNSIGNED), calling("b")),
            user(
                {
                    "functionResponse": {
                        "id": "a",
                        "name": "f",
                        "response": {"error": "There is no result."},
                    }
                },
                answer("b"),
            ),
        ],
    ),
    Case(
        "a result without a call",
        [HI, result("a", [{"type": "input_text", "text": "x"}, image()])],
        [user("Hi"), user("The result of an earlier call:\nx", BLOB)],
    ),
    Case(
        "an image in a result",
        [HI, call("a"), result("a", [{"type": "input_text", "text": "x"}, image()])],
        [
            user("Hi"),
            model(calling("a", sign=UNSIGNED)),
            user(answer("a", "x", parts=[BLOB])),
        ],
    ),
    Case(
        "an image alone in a result, for older models",
        [HI, call("a"), result("a", [image()])],
        [
            user("Hi"),
            model(calling("a")),
            user(answer("a", "(see the content that follows)")),
            user(BLOB),
        ],
        target=OLDER,
    ),
    Case(
        "an image that was made here",
        [HI, made("AAAA")],
        [
            user("Hi"),
            model(calling("ig_1", "image_generation", {"prompt": ""}, UNSIGNED)),
            user(answer("ig_1", "The image was made (png).", "image_generation", parts=[BLOB])),
        ],
    ),
    Case(
        "and is not seen",
        [HI, made("AAAA")],
        [
            user("Hi"),
            model(calling("ig_1", "image_generation", {"prompt": ""}, UNSIGNED)),
            user(answer("ig_1", "The image was made (png).", "image_generation")),
        ],
        target=BLIND,
    ),
]

SIGNED_CALL = calling("a", sign="S")
THOUGHTS = [
    Case(
        "a signed call",
        [HI, thought("hm", on_call(0, "S")), call("a"), result("a")],
        [user("Hi"), model(SIGNED_CALL), user(answer("a"))],
    ),
    Case(
        "of parallel calls each keeps its own",
        [
            HI,
            thought("hm", on_call(0, "S")),
            call("a"),
            thought("", on_call(0, "S"), on_call(2, "T")),
            *(call("b"), call("c"), result("a"), result("b"), result("c")),
        ],
        [
            user("Hi"),
            model(SIGNED_CALL, calling("b"), calling("c", sign="T")),
            user(answer("a"), answer("b"), answer("c")),
        ],
    ),
    Case(
        "steps",
        [
            *(HI, thought("hm", on_call(0, "S")), call("a"), result("a")),
            *(thought("so", on_call(0, "T"), turn="r2"), call("b"), result("b")),
        ],
        [
            user("Hi"),
            *(model(SIGNED_CALL), user(answer("a"))),
            *(model(calling("b", sign="T")), user(answer("b"))),
        ],
    ),
    Case(
        "two turns whose results came late are one content",
        [
            *(HI, thought("hm", on_call(0, "S")), call("a")),
            *(thought("so", on_call(0, "T"), turn="r2"), call("b")),
            *(result("a"), result("b")),
        ],
        [
            user("Hi"),
            model(SIGNED_CALL, calling("b", sign="T")),
            user(answer("a"), answer("b")),
        ],
    ),
    Case(
        "a signed thought",
        [HI, thought("hm", {"part": "thought", "signature": "S"}), said("assistant", "a"), HI],
        [user("Hi"), model({"text": "hm", "thought": True, SIGNATURE: "S"}, "a"), user("Hi")],
    ),
    Case(
        "signed text",
        [HI, said("assistant", "a"), thought("", {"part": "text", "signature": "S"}), HI],
        [user("Hi"), model({"text": "a", SIGNATURE: "S"}), user("Hi")],
    ),
    Case(
        "signed text that is empty",
        [
            *(HI, thought("", {"part": "text", "signature": "S"}, on_call(0, "T"))),
            *(call("a"), result("a")),
        ],
        [
            user("Hi"),
            model({"text": "", SIGNATURE: "S"}, calling("a", sign="T")),
            user(answer("a")),
        ],
    ),
    Case(
        "reasoning alone is not sent",
        [HI, thought("hm", {"part": "thought", "signature": "S"}), HI],
        [user("Hi"), user("Hi")],
    ),
    Case(
        "thoughts without a signature have no place",
        [HI, thought("hm"), said("assistant", "a"), HI],
        [user("Hi"), model("a"), user("Hi")],
    ),
    Case(
        "the signature of another deployment",
        [HI, thought("hm", on_call(0, "S"), origin=Origin("x")), call("a"), result("a")],
        [user("Hi"), model(calling("a", sign=UNSIGNED)), user(answer("a"))],
    ),
    Case(
        "the second call is signed, the first has to be",
        [HI, thought("", on_call(1, "S")), call("a"), call("b"), result("a"), result("b")],
        [
            user("Hi"),
            model(calling("a", sign=UNSIGNED), calling("b", sign="S")),
            user(answer("a"), answer("b")),
        ],
    ),
]
CASES = [*MESSAGES, *PARTS, *CALLS, *THOUGHTS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contents(case: Case) -> None:
    made_ = conversation(case.instructions, case.items, case.target)
    assert made_.contents == case.contents
    assert tuple(made_.rules) == case.rules


def test_what_the_reader_keeps_is_what_goes_back() -> None:
    """Both ends of a state are `signatures.py`."""
    reader = SignatureReader(HERE)
    reader.turn = "r1"
    out: list[Delta] = []
    reader.tell(out)
    assert out == []
    reader.take("call", "S", 0)
    reader.tell(out)
    reader.tell(out)
    (kept,) = out
    assert isinstance(kept, ReasoningState)
    item = restored({"type": "reasoning", "summary": []}, {"content": "", "state": kept.state})
    contents = conversation(None, [HI, item, call("a"), result("a")], TARGET).contents
    assert contents[1] == model(SIGNED_CALL)


@pytest.mark.parametrize(
    "items",
    [
        [said("user", image("https://x/a.png"))],
        [said("user", image("data:image/png,AAAA"))],
        [said("user", {"type": "input_image", "file_id": "file_1"})],
        [said("user", {"type": "input_file", "file_data": "AAAA"})],
        [said("user", {"type": "input_video", "video_url": "https://x/a.mp4"})],
        [HI, said("assistant", image())],
        [said("system", image())],
        [HI, said("system", image())],
    ],
)
def test_what_no_content_can_carry(items: list[Item]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        conversation(None, items, TARGET)
    assert caught.value.code == "unsupported_value"
