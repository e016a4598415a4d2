"""Odd streams that chat-completions servers really send, each with the deltas that it says.

Calls are in `chat_corpus_calls`, what ends badly is in `chat_corpus_faults`. Every body is played
whole, byte by byte and cut at random places.
"""

from dataclasses import dataclass, field, replace

import orjson

from antiphon.backends.profiles import GENERIC, PROFILES, Profile
from antiphon.protocol.deltas import (
    AnnotationDelta,
    Delta,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.response import Usage
from tests.backends.upstream import DONE, chunk, sse

STOP = sse(chunk(finish="stop"))
CALLS = sse(chunk(finish="tool_calls"))
HELLO = sse(chunk(content="Hello"))
CITED = {"url": "https://x/a", "title": "A", "start_index": 0, "end_index": 5}
PAGE = {"type": "url_citation", "url_citation": CITED}
NOWHERE = {"type": "url_citation", "url_citation": {"url": "https://x/a", "title": "A"}}


@dataclass(frozen=True)
class Stream:
    """A body and the deltas that it says; `Finish()` follows when `end` is kept."""

    name: str
    body: bytes
    said: list[Delta]
    end: Finish = field(default_factory=Finish)
    profile: Profile = GENERIC
    custom: frozenset[str] = frozenset()

    @property
    def deltas(self) -> list[Delta]:
        """All deltas, in order."""
        return [*self.said, self.end]


def usage(**counts: object) -> bytes:
    """The event with usage alone."""
    return sse({"choices": [], "usage": counts})


def completion(**message: object) -> bytes:
    """A whole chat.completion, as servers answer that ignore `stream`."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return orjson.dumps({"object": "chat.completion", "choices": [choice]})


def token(text: str, logprob: float, **more: object) -> dict[str, object]:
    """A token of `logprobs.content`."""
    return {"token": text, "logprob": logprob, **more}


def shown(text: str, logprob: float) -> dict[str, object]:
    """The same as we show it."""
    spelled = list(text.encode())
    return {"token": text, "bytes": spelled, "logprob": logprob, "top_logprobs": []}


_OPENED = replace(GENERIC, think="opened")

TEXT = [
    Stream(
        "plain",
        sse(chunk(role="assistant", content="")) + HELLO + sse(chunk(content=" you")) + STOP + DONE,
        [TextDelta("Hello"), TextDelta(" you")],
    ),
    Stream("no [DONE]", HELLO + STOP, [TextDelta("Hello")]),
    Stream("no end of the last event", HELLO + STOP.rstrip(), [TextDelta("Hello")]),
    Stream(
        "crlf and comments",
        (b": ping\n\n" + HELLO + STOP + DONE).replace(b"\n", b"\r\n"),
        [TextDelta("Hello")],
    ),
    Stream(
        "blank lines and byte order mark", b"\xef\xbb\xbf\n\n" + HELLO + STOP, [TextDelta("Hello")]
    ),
    Stream("no text at all", STOP + DONE, []),
    Stream("utf-8", sse(chunk(content="é😀")) + STOP, [TextDelta("é😀")]),
    Stream(
        "finish in the chunk of the text",
        sse(chunk(content="Hello", finish="stop")) + DONE,
        [TextDelta("Hello")],
    ),
    Stream(
        "nulls everywhere",
        sse(chunk(content=None, tool_calls=None, refusal=None, reasoning_content=None))
        + HELLO
        + sse({**chunk(finish="stop"), "usage": None, "error": None})
        + DONE,
        [TextDelta("Hello")],
    ),
    Stream("text after [DONE] is not read", HELLO + STOP + DONE + HELLO, [TextDelta("Hello")]),
    Stream(
        "several choices in a chunk are one answer",
        sse({"choices": [*chunk(content="a")["choices"], *chunk(content="b")["choices"]]}) + STOP,
        [TextDelta("a"), TextDelta("b")],
    ),
    Stream("refusal", sse(chunk(refusal="No.")) + STOP, [RefusalDelta("No.")]),
    Stream(
        "a page that is cited, and what is no page",
        HELLO
        + sse(chunk(content="", annotations=[PAGE]))
        + sse(chunk(annotations=[{"type": "file", "file": {}}, {"url_citation": {"url": 1}}]))
        + sse(chunk(annotations=[None, "https://example.com/", {"url_citation": CITED}]))
        + sse(chunk(annotations={"url_citation": CITED}))
        + STOP,
        [TextDelta("Hello"), AnnotationDelta({"type": "url_citation", **CITED})],
    ),
    Stream(
        "pages before the text and with each chunk of it, and a call after it",
        sse(chunk(content="", annotations=[PAGE, NOWHERE]))
        + sse(chunk(content="Hello", annotations=[PAGE]))
        + sse(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f"}}]))
        + STOP,
        [
            TextDelta("Hello"),
            AnnotationDelta({"type": "url_citation", **CITED}),
            AnnotationDelta({"type": "url_citation", **CITED, "start_index": 0, "end_index": 0}),
            *(ToolCallDelta(0, "", "f", "c"), ToolCallDelta(0, "{}")),
        ],
    ),
    Stream("json body", completion(content="Hello"), [TextDelta("Hello")]),
    Stream("json body after blanks", b"\n " + completion(content="Hello"), [TextDelta("Hello")]),
    Stream(
        "content parts",
        sse(chunk(content=[{"type": "text", "text": "Hello"}])) + STOP,
        [TextDelta("Hello")],
    ),
]

FINISHES = [
    Stream(f"finish_reason {reason}", HELLO + sse(chunk(finish=reason)), [TextDelta("Hello")], end)
    for reason, end in (
        ("length", Finish("length")),
        ("MAX_TOKENS", Finish("length")),
        ("model_length", Finish("length")),
        ("content_filter", Finish("content_filter")),
        ("model_context_window_exceeded", Finish("length")),
        ("SAFETY", Finish("content_filter")),
        ("content_filter: PROHIBITED_CONTENT", Finish("content_filter")),
        ("sensitive", Finish("content_filter")),
        ("refusal", Finish("content_filter")),
        ("end_turn", Finish()),
        ("eos", Finish()),
        ("something new", Finish()),
    )
]

REASONING = [
    *(
        Stream(
            key,
            sse(chunk(**{key: "why"})) + HELLO + STOP,
            [ReasoningDelta("why"), TextDelta("Hello")],
        )
        for key in ("reasoning_content", "reasoning", "thinking")
    ),
    Stream(
        "the same thought in two fields",
        sse(chunk(reasoning="why", reasoning_content="why", content=None)) + STOP,
        [ReasoningDelta("why")],
    ),
    Stream(
        "reasoning_details",
        sse(
            chunk(
                reasoning_details=[
                    {"type": "reasoning.text", "text": "a"},
                    {"type": "reasoning.summary", "summary": "b"},
                    {"type": "reasoning.encrypted", "data": "x"},
                ]
            )
        )
        + STOP,
        [ReasoningDelta("a"), ReasoningDelta("b")],
    ),
    Stream(
        "reasoning beside its details",
        sse(chunk(reasoning="why", reasoning_details=[{"text": "why"}])) + STOP,
        [ReasoningDelta("why")],
    ),
    Stream(
        "thinking parts",
        sse(
            chunk(
                content=[
                    {"type": "thinking", "thinking": [{"type": "text", "text": "why"}]},
                    {"type": "text", "text": "Hello"},
                ]
            )
        )
        + STOP,
        [ReasoningDelta("why"), TextDelta("Hello")],
    ),
    Stream(
        "think tags",
        b"".join(sse(chunk(content=c)) for c in ("<th", "ink>\nwhy", "\n</think>", "\n\nHi", "!"))
        + STOP,
        [ReasoningDelta("why"), TextDelta("Hi"), TextDelta("!")],
    ),
    Stream(
        "think tag never closed",
        sse(chunk(content="<think>why</thi")) + sse(chunk(finish="length")),
        [ReasoningDelta("why"), ReasoningDelta("</thi")],
        Finish("length"),
    ),
    Stream("text that ends like a tag", sse(chunk(content="<thi")) + STOP, [TextDelta("<thi")]),
    Stream(
        "bare closing tag",
        sse(chunk(content="why</think>Hi")) + STOP,
        [ReasoningDelta("why"), TextDelta("Hi")],
        profile=_OPENED,
    ),
    Stream(
        "tags where the profile knows none",
        sse(chunk(content="<think>why</think>")) + STOP,
        [TextDelta("<think>why</think>")],
        profile=PROFILES["openai"],
    ),
]

_LOGGED = {"content": [token("Hel", -0.1), token("lo", -0.2, bytes=[108, 111])]}

NUMBERS = [
    Stream(
        "usage in the last chunk",
        HELLO + STOP + usage(prompt_tokens=3, completion_tokens=2, total_tokens=5) + DONE,
        [TextDelta("Hello"), UsageReport(Usage(3, 0, 2, 0))],
    ),
    Stream(
        "usage in every chunk: the latest counts",
        sse({**chunk(content="Hello"), "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
        + sse({**chunk(finish="stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
        [TextDelta("Hello"), UsageReport(Usage(3, 0, 2, 0))],
    ),
    Stream(
        "details",
        STOP
        + usage(
            prompt_tokens=9,
            completion_tokens=8,
            prompt_tokens_details={"cached_tokens": 4},
            completion_tokens_details={"reasoning_tokens": 5},
        ),
        [UsageReport(Usage(9, 4, 8, 5))],
    ),
    Stream(
        "DeepSeek's cache",
        STOP + usage(prompt_tokens=9, completion_tokens=8, prompt_cache_hit_tokens=6),
        [UsageReport(Usage(9, 6, 8, 0))],
    ),
    Stream(
        "Kimi's cache, and where it has its usage",
        sse(
            {
                "choices": [
                    {
                        **chunk(finish="stop")["choices"][0],
                        "usage": {"prompt_tokens": 9, "completion_tokens": 8, "cached_tokens": 6},
                    }
                ]
            }
        )
        + DONE,
        [UsageReport(Usage(9, 6, 8, 0))],
    ),
    Stream(
        "usage of the chunk and not of its choice",
        sse(
            {
                "choices": [{**chunk(finish="stop")["choices"][0], "usage": {}}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 8},
            }
        ),
        [UsageReport(Usage(9, 0, 8, 0))],
    ),
    Stream(
        "reasoning beside the completion",
        STOP
        + usage(
            prompt_tokens=9,
            completion_tokens=8,
            total_tokens=22,
            completion_tokens_details={"reasoning_tokens": 5},
        ),
        [UsageReport(Usage(9, 0, 13, 5))],
    ),
    Stream(
        "usage of another shape",
        HELLO + STOP + sse({"choices": [], "usage": [1]}) + DONE,
        [TextDelta("Hello")],
    ),
    Stream(
        "usage beyond JSON's integers",
        STOP + usage(prompt_tokens=2**64 - 1, completion_tokens=1),
        [UsageReport(Usage(2**53 - 1, 0, 1, 0))],
    ),
    Stream(
        "senseless usage",
        STOP + usage(prompt_tokens=None, completion_tokens="8", prompt_tokens_details=[]),
        [UsageReport(Usage())],
    ),
    Stream(
        "logprobs",
        sse(chunk(content="Hello", logprobs=_LOGGED)) + STOP,
        [TextDelta("Hello", [shown("Hel", -0.1), shown("lo", -0.2)])],
    ),
    Stream(
        "top_logprobs",
        sse(
            chunk(
                content="a",
                logprobs={"content": [token("a", -0.1, top_logprobs=[token("b", -2.0)])]},
            )
        )
        + STOP,
        [
            TextDelta(
                "a",
                [
                    {
                        **shown("a", -0.1),
                        "top_logprobs": [{"token": "b", "bytes": [98], "logprob": -2.0}],
                    }
                ],
            )
        ],
    ),
    Stream(
        "logprobs of text that was held back",
        sse(chunk(content="<", logprobs={"content": [token("<", -1)]}))
        + sse(chunk(content="b", logprobs={"content": [token("b", -2)]}))
        + STOP,
        [TextDelta("<b", [shown("<", -1), shown("b", -2)])],
    ),
    Stream(
        "logprobs of reasoning are not the text's",
        sse(chunk(content="<think>why", logprobs={"content": [token("<think>why", -1)]}))
        + sse(
            chunk(
                content="</think>Hi",
                logprobs={"content": [token("</think>", -2), token("Hi", -3)]},
            )
        )
        + sse(chunk(reasoning="hm", logprobs={"content": [token("hm", -4)]}))
        + sse(chunk(content="!", logprobs={"content": [token("!", -5)]}))
        + STOP,
        [
            ReasoningDelta("why"),
            TextDelta("Hi", [shown("Hi", -3)]),
            ReasoningDelta("hm"),
            TextDelta("!", [shown("!", -5)]),
        ],
    ),
    Stream(
        "null logprobs",
        sse(chunk(content="Hello", logprobs={"content": None})) + STOP,
        TEXT[1].said,
    ),
]

STREAMS = [*TEXT, *FINISHES, *REASONING, *NUMBERS]
