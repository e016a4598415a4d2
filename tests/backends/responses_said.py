"""What Responses servers say, and the deltas that it comes to."""

from typing import Any

from antiphon.backends.origins import Origin
from antiphon.protocol.deltas import (
    Delta,
    MessageStart,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    SummaryDelta,
    TextDelta,
    ToolCallDelta,
)
from tests.conformance.responses import response

Json = dict[str, Any]
HERE = Origin("here")


def event(type_: str, **fields: Any) -> Json:
    return {"type": f"response.{type_}", "output_index": 0, **fields}


def text(words: str, index: int = 0, **more: Any) -> Json:
    return event("output_text.delta", output_index=index, content_index=0, delta=words, **more)


def added(item: Json, index: int = 0) -> Json:
    return event("output_item.added", output_index=index, item=item)


def done(item: Json, index: int = 0) -> Json:
    return event("output_item.done", output_index=index, item=item)


def end(*output: Json, status: str = "completed", **more: Any) -> Json:
    return {"type": f"response.{status}", "response": response(status, output, **more)}


def message(*texts: str) -> Json:
    content = [{"type": "output_text", "text": words, "annotations": []} for words in texts]
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}


def called(arguments: str = "", call_id: str = "call_1", name: str = "f", **more: Any) -> Json:
    named = {"call_id": call_id, "name": name, "arguments": arguments}
    return {"type": "function_call", "id": "fc_1", **named, **more}


def custom(text: str = "") -> Json:
    named = {"call_id": "call_1", "name": "t", "input": text}
    return {"type": "custom_tool_call", "id": "ctc_1", **named}


def thought(id_: str, blob: str | None = None, summary: str = "", content: str = "") -> Json:
    item: Json = {"type": "reasoning", "id": id_, "encrypted_content": blob}
    item["summary"] = [{"type": "summary_text", "text": summary}] if summary else []
    if content:
        item["content"] = [{"type": "reasoning_text", "text": content}]
    return item


def kept(id_: str, blob: str, **more: Any) -> Json:
    return {"summary": [], "type": "reasoning", "id": id_, "encrypted_content": blob, **more}


def state(*items: Json) -> ReasoningState:
    return ReasoningState(HERE.state(list(items)))


def summary(words: str, part: int, index: int = 0) -> Json:
    place = {"output_index": index, "summary_index": part}
    return event("reasoning_summary_text.delta", **place, delta=words)


_ARGUMENTS = "response.function_call_arguments.delta"
HELLO = message("Hello")
CALL = ToolCallDelta(0, '{"a":1}', "f", "call_1")
LOGPROB = {"token": "Hel", "logprob": -0.5, "top_logprobs": [{"token": "Hé", "logprob": -1}]}

#: Name → (events, deltas before the last).
STREAMS: dict[str, tuple[list[Json], list[Delta]]] = {
    "text": ([text("Hel"), text("lo"), end(HELLO)], [TextDelta("Hel"), TextDelta("lo")]),
    "text with all its ends": (
        [
            added({**HELLO, "content": []}),
            event("content_part.added", content_index=0, part={"type": "output_text", "text": ""}),
            text("Hello"),
            event("output_text.done", content_index=0, text="Hello"),
            event("content_part.done", content_index=0, part=HELLO["content"][0]),
            done(HELLO),
            end(HELLO),
        ],
        [TextDelta("Hello")],
    ),
    "text of the done event": (
        [event("output_text.done", content_index=0, text="Hello"), done(HELLO), end(HELLO)],
        [TextDelta("Hello")],
    ),
    "the rest of it": (
        [text("Hel"), event("output_text.done", content_index=0, text="Hello"), end()],
        [TextDelta("Hel"), TextDelta("lo")],
    ),
    "text of the item": ([done(HELLO), end(HELLO)], [TextDelta("Hello")]),
    "text of the last event": ([end(HELLO)], [TextDelta("Hello")]),
    "another text at the end": ([text("Hi"), done(HELLO), end(HELLO)], [TextDelta("Hi")]),
    "parts that are counted in two ways": (
        [
            event("output_text.delta", content_index=7, delta="Hello"),
            event("output_text.done", content_index=8, text="Hello"),
            done(HELLO),
            end(HELLO),
        ],
        [TextDelta("Hello")],
    ),
    "parts that are counted in two ways, and not all told": (
        [
            event("output_text.delta", content_index=7, delta="Hel"),
            event("output_text.done", content_index=8, text="Hello"),
            done(HELLO),
            end(HELLO),
        ],
        [TextDelta("Hel"), TextDelta("lo")],
    ),
    "blanks that are gone at the end": (
        [event("output_text.delta", content_index=7, delta="Hello \n"), done(HELLO), end(HELLO)],
        [TextDelta("Hello \n")],
    ),
    "no indices at all": (
        [
            {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hello"},
            {"type": "response.output_item.done", "item": HELLO},
            end(HELLO),
        ],
        [TextDelta("Hello")],
    ),
    "another id in every event": (
        [text("Hel", item_id="a"), text("lo", item_id="b"), done({**HELLO, "id": "c"}), end(HELLO)],
        [TextDelta("Hel"), TextDelta("lo")],
    ),
    "two messages": (
        [text("One"), done(message("One")), text("Two", 1), done(message("Two"), 1), end()],
        [TextDelta("One"), MessageStart(), TextDelta("Two")],
    ),
    "two messages at one index": (
        [
            added(message()),
            text("One"),
            done(message("One")),
            added(message()),
            event("output_text.done", content_index=0, text="Two"),
            done(message("Two")),
            end(),
        ],
        [TextDelta("One"), MessageStart(), TextDelta("Two")],
    ),
    "two messages at one index that nobody announces": (
        [text("One"), done(message("One")), text("Two"), done(message("Two")), end()],
        [TextDelta("One"), MessageStart(), TextDelta("Two")],
    ),
    "whole messages at one index": (
        [done(message("One")), done({**message("Two"), "id": "msg_2"}), end()],
        [TextDelta("One"), MessageStart(), TextDelta("Two")],
    ),
    "a message that ends twice": (
        [text("One"), done(message("One")), done(message("One")), end()],
        [TextDelta("One")],
    ),
    "two parts": ([end(message("a", "b"))], [TextDelta("a"), TextDelta("b")]),
    "log probabilities": (
        [text("Hel", logprobs=[LOGPROB]), end(HELLO)],
        [
            TextDelta(
                "Hel",
                [
                    {
                        "token": "Hel",
                        "bytes": [72, 101, 108],
                        "logprob": -0.5,
                        "top_logprobs": [{"token": "Hé", "bytes": [72, 195, 169], "logprob": -1}],
                    }
                ],
            )
        ],
    ),
    "a refusal": (
        [
            event("refusal.delta", content_index=0, delta="No"),
            event("refusal.done", content_index=0, refusal="No."),
            end(),
        ],
        [RefusalDelta("No"), RefusalDelta(".")],
    ),
    "a call": (
        [
            added(called()),
            event("function_call_arguments.delta", delta='{"a"'),
            event("function_call_arguments.delta", delta=":1}"),
            event("function_call_arguments.done", arguments='{"a":1}'),
            done(called('{"a":1}')),
            end(called('{"a":1}')),
        ],
        [ToolCallDelta(0, '{"a"', "f", "call_1"), ToolCallDelta(0, ":1}")],
    ),
    "a call of the done event": (
        [added(called()), event("function_call_arguments.done", arguments='{"a":1}'), end()],
        [CALL],
    ),
    "a call of the item": ([done(called('{"a":1}')), end()], [CALL]),
    "a call that is whole when it is announced": (
        [added(called('{"a":1}')), done(called('{"a":1}')), end()],
        [CALL],
    ),
    "a call of vLLM, whose first arguments come twice": (
        [
            added(called('{"a"')),
            event("function_call_arguments.delta", delta='{"a"'),
            event("function_call_arguments.delta", delta=":1}"),
            done(called('{"a":1}')),
            end(),
        ],
        [ToolCallDelta(0, '{"a"', "f", "call_1"), ToolCallDelta(0, ":1}")],
    ),
    "a call that is whole when it is announced, and never again": (
        [added(called('{"a":1}')), end()],
        [CALL],
    ),
    "calls of llama.cpp, without indices": (
        [
            {"type": "response.output_item.added", "item": {**called(call_id="fc_1"), "id": None}},
            {"type": _ARGUMENTS, "item_id": "fc_1", "delta": '{"a":1}'},
            {"type": "response.output_item.added", "item": called(call_id="fc_2", id="fc_2")},
            {"type": _ARGUMENTS, "item_id": "fc_2", "delta": '{"b":2}'},
            {"type": "response.output_item.done", "item": called('{"a":1}', "fc_1", id="fc_1")},
            {"type": "response.output_item.done", "item": called('{"b":2}', "fc_2", id="fc_2")},
            end(called('{"a":1}', "fc_1"), called('{"b":2}', "fc_2")),
        ],
        [ToolCallDelta(0, '{"a":1}', "f", "fc_1"), ToolCallDelta(1, '{"b":2}', "f", "fc_2")],
    ),
    "two calls at one index": (
        [
            added(called(id="fc_1")),
            event("function_call_arguments.done", item_id="fc_1", arguments='{"a":1}'),
            done(called('{"a":1}', id="fc_1")),
            added(called(call_id="call_2", name="g", id="fc_2")),
            event("function_call_arguments.done", item_id="fc_2", arguments='{"b":2}'),
            done(called('{"b":2}', "call_2", "g", id="fc_2")),
            end(),
        ],
        [CALL, ToolCallDelta(1, '{"b":2}', "g", "call_2")],
    ),
    "two calls at one index, both at once": (
        [
            added(called(id="fc_1")),
            added(called(call_id="call_2", name="g", id="fc_2")),
            event("function_call_arguments.delta", item_id="fc_1", delta='{"a":1}'),
            event("function_call_arguments.delta", item_id="fc_2", delta='{"b":2}'),
            done(called('{"a":1}', id="fc_1")),
            done(called('{"b":2}', "call_2", "g", id="fc_2")),
            end(),
        ],
        [
            ToolCallDelta(0, "", "f", "call_1"),
            ToolCallDelta(0, '{"a":1}'),
            ToolCallDelta(1, '{"b":2}', "g", "call_2"),
        ],
    ),
    "whole calls at one index": (
        [done(called('{"a":1}')), done(called('{"b":2}', "call_2", "g")), end()],
        [CALL, ToolCallDelta(1, '{"b":2}', "g", "call_2")],
    ),
    "calls at one index without ids": (
        [
            done({**called('{"a":1}'), "id": None, "call_id": None}),
            added({**called(name="g"), "id": None, "call_id": None}),
            event("function_call_arguments.delta", delta='{"b":2}'),
            end(),
        ],
        [ToolCallDelta(0, '{"a":1}', "f"), ToolCallDelta(1, '{"b":2}', "g")],
    ),
    "indices in some events": (
        [
            added(called(id="fc_9"), 3),
            {"type": _ARGUMENTS, "item_id": "fc_9", "delta": '{"a":1}'},
            done(called('{"a":1}', id="fc_9"), 3),
            end(),
        ],
        [CALL],
    ),
    "a call of the last event": ([end(called('{"a":1}'))], [CALL]),
    "a call with an object": ([done({**called(), "arguments": {"a": 1}}), end()], [CALL]),
    "a call without arguments": (
        [added(called()), done(called()), end(called())],
        [ToolCallDelta(0, "", "f", "call_1"), ToolCallDelta(0, "{}")],
    ),
    "a call whose name comes late": (
        [
            added({**called(), "name": None}),
            event("function_call_arguments.delta", delta='{"a":1}'),
            done(called('{"a":1}')),
            end(),
        ],
        [CALL],
    ),
    "a call that was not announced": (
        [
            event("function_call_arguments.delta", delta='{"a":1}'),
            done(called('{"a":1}')),
            end(),
        ],
        [CALL],
    ),
    "two calls": (
        [
            done(called('{"a":1}')),
            done(called('{"b":2}', "call_2", "g"), 1),
            end(called('{"a":1}'), called('{"b":2}', "call_2", "g")),
        ],
        [CALL, ToolCallDelta(1, '{"b":2}', "g", "call_2")],
    ),
    "a call of a custom tool": (
        [
            added(custom()),
            event("custom_tool_call_input.delta", delta="SELECT"),
            event("custom_tool_call_input.done", input="SELECT 1"),
            done(custom("SELECT 1")),
            end(),
        ],
        [
            ToolCallDelta(0, "SELECT", "t", "call_1", "custom"),
            ToolCallDelta(0, " 1", kind="custom"),
        ],
    ),
    "summaries": (
        [
            summary("a", 0),
            summary("b", 1),
            event("reasoning_summary_text.done", summary_index=1, text="bc"),
            done(thought("rs_1")),
            summary("d", 0, 1),
            text("Hello", 2),
            end(),
        ],
        [
            SummaryDelta("a", 0),
            SummaryDelta("b", 1),
            SummaryDelta("c", 1),
            SummaryDelta("d", 2),
            TextDelta("Hello"),
        ],
    ),
    "reasoning in the clear": (
        [
            event("reasoning_text.delta", content_index=0, delta="h"),
            event("reasoning_text.done", content_index=0, text="hm"),
            done(thought("rs_1", content="hm")),
            text("Hello", 1),
            end(),
        ],
        [ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("Hello")],
    ),
    "reasoning of the item, encrypted": (
        [
            added(thought("rs_1", "early")),
            done(thought("rs_1", "x", "So.")),
            done(thought("rs_2", "y"), 1),
            text("Hello", 2),
            end(thought("rs_1", "x", "So."), thought("rs_2", "y"), HELLO),
        ],
        [
            SummaryDelta("So.", 0),
            state(kept("rs_1", "x", summary=[{"type": "summary_text", "text": "So."}])),
            state(
                kept("rs_1", "x", summary=[{"type": "summary_text", "text": "So."}]),
                kept("rs_2", "y"),
            ),
            TextDelta("Hello"),
        ],
    ),
    "reasoning of the last event": (
        [end(thought("rs_1", "x", content="hm"), HELLO)],
        [
            ReasoningDelta("hm"),
            state(kept("rs_1", "x", content=[{"type": "reasoning_text", "text": "hm"}])),
            TextDelta("Hello"),
        ],
    ),
    "reasoning after what it was for": (
        [text("Hello"), end(thought("rs_1", "x"), HELLO)],
        [TextDelta("Hello")],
    ),
    "what is not for us": (
        [
            {"type": "response.created", "response": response("in_progress")},
            {"type": "response.queued", "response": response("queued")},
            {"type": "keepalive", "sequence_number": 1},
            added({"type": "web_search_call", "id": "ws_1", "status": "in_progress"}),
            event("web_search_call.searching", item_id="ws_1"),
            done({"type": "web_search_call", "id": "ws_1", "status": "completed"}),
            text("Hello", 1),
            event("output_text.annotation.added", annotation={"type": "url_citation"}),
            {"type": "response.telepathy", "delta": 5},
            end({"type": "web_search_call", "id": "ws_1"}, HELLO),
        ],
        [TextDelta("Hello")],
    ),
    "nothing": ([end()], []),
}
