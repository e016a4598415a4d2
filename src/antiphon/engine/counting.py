"""How many tokens a prompt is, by whoever knows best.

Rules
1. The backend's own tokenizer counts; else, for OpenAI's models, the tokenizer of the extra
   `tokens`, if it is installed; else nobody does, and it is estimated.
2. An estimate is pure, linear and cheap: some 2 µs for 100 characters. It is the sum of what the
   request and each item cost, so that who drops an item knows what that gains.
3. Nothing is ever fetched. What takes long is done in a thread, in slices: no thread interrupts one
   of them (reliability R-118).
"""

import asyncio
import math
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.base import Backend, Prompt, TokenCount
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.content import seen_of
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.untrusted import MOST_ADDED

#: A text, or a number of tokens that needs no text.
Piece: TypeAlias = str | int

#: Tokens around a message, and before the answer: openai-cookbook, "How to count tokens with
#: tiktoken".
_ITEM: Final = 4
_ANSWER: Final = 3
#: Tokens of an image at 1024 × 1024, and with ``detail: low``: OpenAI's, of gpt-4o.
_IMAGE: Final = 765
_SMALL_IMAGE: Final = 85
#: Tokens of a video or a file that only its server has seen.
_UNSEEN: Final = 1_000
#: Characters of base64 for one token: of a text file (4 bytes of text), of a document such as a
#: PDF, and of a sound (10 tokens a second, mp3 with 128 kbit/s).
_TEXT_FILE: Final = 5
_DOCUMENT: Final = 32
_SOUND: Final = 2_000
#: Characters that are counted at a time, in a few milliseconds; the tokenizer refuses what comes to
#: more than 200,000 tokens, and a character has at most four.
_SLICE: Final = 32 * 1024
#: Characters of a prompt that is counted in a thread.
_LARGE: Final = 64 * 1024


# -- what is counted -----------------------------------------------------------------------------


def _of_request(request: CreateResponse) -> Iterator[Piece]:
    yield _ANSWER
    if request.instructions:
        yield _ITEM
        yield request.instructions
    for tool in request.tools or ():
        yield _json(tool)
    schema = ((request.text or {}).get("format") or {}).get("schema")
    if schema is not None:
        yield _json(schema)


def _of_item(item: Item, *, quoted: bool = True) -> Iterator[Piece]:
    """What a chat model sees of an item: nothing of some (`protocol.items.base`). Not `quoted`: in
    no time, and a little more."""
    item_type = ITEM_TYPES[item["type"]]
    match item["type"]:
        case "message":
            yield _ITEM
            yield from _of_parts(item["content"])
        case "reasoning":
            yield from _of_parts(item.get("content") or ())
    if item_type.as_call is not None:
        call = item_type.as_call(item)
        yield _ITEM
        yield call.name
        yield call.arguments
    if item_type.as_result is not None:
        yield _ITEM
        if quoted or item_type.unquoted is None:
            output = item_type.as_result(item).output
        else:
            output = item_type.unquoted(item)
            yield MOST_ADDED * (1 if isinstance(output, str) else len(output))
        yield from [output] if isinstance(output, str) else _of_parts(output)


def _of_parts(parts: Iterable[dict[str, Any]]) -> Iterator[Piece]:
    for part in map(seen_of, parts):
        match part["type"]:
            case "input_image":
                yield _SMALL_IMAGE if part.get("detail") == "low" else _IMAGE
            case "input_audio":
                yield math.ceil(len(part["input_audio"]["data"]) / _SOUND)
            case "input_file" if part.get("file_data"):
                is_text = part["file_data"].startswith(("data:text/", "data:application/json"))
                yield math.ceil(len(part["file_data"]) / (_TEXT_FILE if is_text else _DOCUMENT))
            case "input_file" | "input_video":
                yield _UNSEEN
            case _:
                yield part.get("text") or part.get("refusal") or ""


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _slices(text: str) -> Iterator[str]:
    for start in range(0, len(text), _SLICE):
        yield text[start : start + _SLICE]


# -- the estimate --------------------------------------------------------------------------------


def _classes() -> bytes:
    """Byte of UTF-8 → the mark of its class. Of a character that is not ASCII only the first byte
    has one."""
    table = bytearray(b"-" * 256)
    for mark, first, last in (
        (b".", 0x00, 0x7F),  # punctuation: what none of the next five is
        (b"n", 0x09, 0x0D),
        (b" ", 0x20, 0x20),
        (b"0", 0x30, 0x39),
        (b"A", 0x41, 0x5A),
        (b"a", 0x61, 0x7A),
        (b"l", 0xC2, 0xE0),  # Latin with accents, Greek, Hebrew, Arabic, Indic scripts, Thai
        (b"r", 0xD0, 0xD3),  # Cyrillic
        (b"q", 0xE1, 0xE2),  # Vietnamese, typographic signs, arrows
        (b"c", 0xE3, 0xED),  # Kana, Han, Hangul
        (b"q", 0xEE, 0xEF),  # full-width signs
        (b"e", 0xF0, 0xF4),  # emoji
    ):
        table[first : last + 1] = mark * (last + 1 - first)
    return bytes(table)


_CLASSES: Final = _classes()
#: Classes and neighbours → tokens for each, fitted to o200k_base on prose in 20 languages, code,
#: JSON, logs, tables, hexadecimal and base64: least squares of the relative error (docs/backends.md
#: has what came out).
_WEIGHTS: Final = (
    *((b"a", 0.2), (b"A", 0.41), (b"0", 0.37), (b".", 0.34), (b"n", 1.84)),
    *((b" a", 0.26), (b"aA", 1.59), (b"0a", 1.2), (b".0", 1.12)),
)
_FOREIGN_WEIGHTS: Final = (*((b"l", 0.42), (b"r", 0.34), (b"q", 0.43), (b"c", 0.79), (b"e", 1.98)),)


def estimate(prompt: Prompt) -> int:
    """Tokens of the prompt, roughly: usually within 15 % of o200k_base, for text."""
    items = sum(estimate_item(item) for item in prompt.items)
    return _estimated(_of_request(prompt.request)) + items


def estimate_item(item: Item) -> int:
    """What the item adds to the estimate of a prompt."""
    return _estimated(_of_item(item))


def _estimated(pieces: Iterable[Piece]) -> int:
    return sum(piece if isinstance(piece, int) else estimate_text(piece) for piece in pieces)


def estimate_text(text: str) -> int:
    """Tokens of a text, rounded up."""
    return math.ceil(sum(_weight(part) for part in _slices(text)))


def _weight(text: str) -> float:
    marks = text.encode(errors="replace").translate(_CLASSES)
    weight = sum(tokens * marks.count(mark) for mark, tokens in _WEIGHTS)
    if len(marks) > len(text):
        weight += sum(tokens * marks.count(mark) for mark, tokens in _FOREIGN_WEIGHTS)
    return weight


# -- the tokenizer -------------------------------------------------------------------------------

#: Which encoding a model of OpenAI has, by its name without an organisation: the first that fits.
_ENCODINGS: Final = (
    (re.compile(r"(ft:)?(gpt-(4o|4\.[15]|[5-9]|oss)|o[1-9]\b|chatgpt-|codex-)"), "o200k_base"),
    (re.compile(r"(ft:)?gpt-(4|3\.?5)"), "cl100k_base"),
)
_LOADING: Final = threading.Lock()
Encode: TypeAlias = Callable[[str], list[int]]


def encoding_of(model: str) -> str | None:
    """The name of the encoding of a model; None when nobody knows it."""
    name = model.rpartition("/")[2]
    return next((encoding for known, encoding in _ENCODINGS if known.match(name)), None)


@cache
def _load(encoding: str) -> Encode | None:
    """From the package's own files: about 130 MB and half a second, once. None: not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # how it opens its files (0.1.4)
            import bpe_openai  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        return None
    # What looks like a special token in a text is text.
    loaded: Encode = bpe_openai.get_encoding(encoding).encode_ordinary
    return loaded


def tokenized(prompt: Prompt, encoding: str) -> int | None:
    """Tokens of the prompt by one of OpenAI's encodings; None when the extra is not installed. May
    take long: for a thread."""
    with _LOADING:
        encode = _load(encoding)
    if encode is None:
        return None
    tokens = 0
    for piece in _pieces(prompt):
        if isinstance(piece, int):
            tokens += piece
        else:
            tokens += sum(len(encode(part)) for part in _slices(piece))
    return tokens


def _pieces(prompt: Prompt, *, quoted: bool = True) -> Iterator[Piece]:
    yield from _of_request(prompt.request)
    for item in prompt.items:
        yield from _of_item(item, quoted=quoted)


# -- by whoever knows best -----------------------------------------------------------------------


async def count(backend: Backend, prompt: Prompt) -> TokenCount:
    """Tokens of the prompt. Never fails, and waits for the backend for a few seconds at most."""
    counted = await backend.count(prompt)
    if counted is not None:
        return TokenCount(counted, "backend")
    encoding = encoding_of(prompt.model)
    if encoding is not None:
        counted = await asyncio.to_thread(tokenized, prompt, encoding)
        if counted is not None:
            return TokenCount(counted, "tokenizer")
    return TokenCount(await estimated(prompt), "estimate")


async def estimated(prompt: Prompt) -> int:
    """`estimate`, in a thread where that takes long."""
    if reaches(prompt, _LARGE):
        return await asyncio.to_thread(estimate, prompt)
    return estimate(prompt)


def reaches(prompt: Prompt, size: int) -> bool:
    """Whether the prompt may have `size` tokens: no more than it has bytes of UTF-8. Cheap."""
    most = 0
    for piece in _pieces(prompt, quoted=False):
        if isinstance(piece, int):
            most += piece
        else:
            most += len(piece) if piece.isascii() else 4 * len(piece)
        if most >= size:
            return True
    return False
