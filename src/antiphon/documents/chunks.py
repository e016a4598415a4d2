"""Text → chunks of so many tokens of o200k, that overlap.

Rules
1. `semantic_text_splitter` cuts where a text has its own borders: headings, paragraphs, sentences,
   words. All text is in a chunk; what is left out is white space at the ends of chunks, which also
   counts neither for their size nor for the overlap.
2. Counting tokens takes quadratic time over one long word, and breaks over much white space. So a
   text is first cut into stretches: in the middle of what has no border for a long time, and of
   lines that are very long. There is no overlap across such a cut.
"""

import functools
import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from antiphon.documents.base import Chunking

#: o200k, which the splitter brings along.
_MODEL: Final = "gpt-4o"
#: Characters that are looked at together. A word of fewer costs nothing to speak of.
_BLOCK: Final = 2_048
#: Characters of a line from which on it is cut.
_MOST_LINE: Final = 64 * 1024
#: Characters for a token of a text that may fit into one chunk.
_SHORT: Final = 8
#: What o200k takes for one word until it merges bytes: letters and marks; signs and marks; white
#: space.
_UNIFORM: Final = re.compile(
    r"[^\s!-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff20]++|(?:[^\w\s]|_)++|\s++"
)
_Splitter: TypeAlias = TextSplitter | MarkdownSplitter


def chunks(text: str, chunking: Chunking, *, is_markdown: bool = False) -> list[str]:
    """All chunks, in order, none of them blank."""
    return [chunk for _, chunk in placed_chunks(text, chunking, is_markdown=is_markdown)]


def placed_chunks(
    text: str, chunking: Chunking, *, is_markdown: bool = False
) -> Iterator[tuple[int, str]]:
    """The same, with the characters before each."""
    for start, end in stretches(text):
        # Of many blank lines nothing comes, and that takes long.
        if text[start:end].isspace():
            continue
        for offset, chunk in _cut(text[start:end], chunking, is_markdown=is_markdown):
            if chunk.strip():
                yield start + offset, chunk


def _cut(text: str, chunking: Chunking, *, is_markdown: bool) -> list[tuple[int, str]]:
    """Looking for an overlap takes by far most of the time: not where there is but one chunk."""
    if len(text) <= _SHORT * chunking.size:
        whole = _splitter(Chunking(chunking.size, 0), is_markdown=is_markdown).chunk_indices(text)
        if len(whole) <= 1:
            return whole
    return _splitter(chunking, is_markdown=is_markdown).chunk_indices(text)


def stretches(text: str) -> Iterator[tuple[int, int]]:
    """First and last of what is cut one by one (rule 2)."""
    start = line = 0
    for block in range(0, len(text), _BLOCK):
        end = block + _BLOCK
        line = max(line, text.rfind("\n", block, end))
        if end >= len(text):
            break
        if _UNIFORM.fullmatch(text, block, end):
            yield start, end
            start = end
        elif end - max(start, line) >= _MOST_LINE:
            cut = text.rfind(" ", block, end) + 1 or end
            yield start, cut
            start = cut
    yield start, len(text)


@functools.lru_cache(maxsize=16)
def _splitter(chunking: Chunking, *, is_markdown: bool) -> _Splitter:
    kind = MarkdownSplitter if is_markdown else TextSplitter
    return kind.from_tiktoken_model(_MODEL, chunking.size, overlap=chunking.overlap)
