"""Text from outside, as a model reads it: marked as data, never as instructions (R-123).

Rules
1. What a tool brought stands between two marks that say where it is from. What could be read as one
   of the marks inside of it becomes ``[removed mark]``, so nothing ends the quotation early: its
   name in any case, with white space or backslashes in it, in compatibility letters (full width,
   mathematical, circled …) or numeric entities; behind ``<`` in any of these forms also with
   other signs, or none, in place of the underscores. What would have to be decoded twice stays, and
   so do look-alikes from other alphabets: they are not the mark.
2. Left out is what a human does not see but a model reads, because people cannot judge what they
   cannot see: controls but tab and line breaks, zero-width spaces and operators, soft hyphens,
   marks and overrides of direction, tag characters (the flags of England, Scotland and Wales become
   a black flag), Hangul fillers, annotation controls, byte order marks, halves of characters.
3. Joiners and variation selectors are invisible too, but emoji, Indic scripts, Persian and
   Mongolian need them: kept are one selector and one joiner behind a character that is not ASCII,
   and a selector behind the digit of a keycap. Elsewhere, and in longer rows, they only hide
   something.
4. Nothing else is changed.
5. The work is linear, and done in slices: no thread interrupts a regular expression, so each is to
   be over in a few milliseconds (R-118). First the word is found that all marks have, which is
   cheap; then what stands around it is looked at. 9 MiB of English or of ``<`` take 0.15 s.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

_NAME: Final = "untrusted_tool_output"
_REMOVED: Final = "[removed mark]"
#: Characters of a source's name.
_MOST_NAME: Final = 200
#: Bytes that a quotation has beside its text. The text itself never gets longer.
MOST_ADDED: Final = len(f'<{_NAME} source="">\n\n</{_NAME}>') + 4 * _MOST_NAME

# -- what nobody sees (rules 2 and 3) ------------------------------------------------------------

_HIDDEN: Final = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]+"
)
_JOINERS: Final = "\u200c\u200d"
_SELECTORS: Final = "\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
_UNSEEN: Final = _JOINERS + _SELECTORS
#: Those behind ASCII or nothing, a selector behind a selector, anything behind a joiner. The first
#: character stands alone so that the engine can leap to it.
_STRAY: Final = re.compile(
    f"[{_UNSEEN}](?:(?<![^\0-\x7f][{_UNSEEN}])(?<![0-9#*]\ufe0f)[{_UNSEEN}]*+"
    f"|(?<=[{_SELECTORS}]{{2}})[{_SELECTORS}]*+"
    f"|(?<=[{_JOINERS}][{_UNSEEN}])[{_UNSEEN}]*+)"
)
_CUT: Final = re.compile(f"[^{_UNSEEN}]")
#: Characters that are read at a time.
_SLICE: Final = 64 * 1024

# -- what looks like a mark (rule 1) -------------------------------------------------------------

#: Where Unicode has other forms of ASCII characters.
_FORMS: Final = (
    (0xAA, 0x17F),
    (0x2B0, 0x2E4),
    (0x1D2C, 0x1D6A),
    (0x2071, 0x209C),
    (0x2100, 0x2188),
    (0x24B6, 0x24E9),
    (0xFE10, 0xFE6F),
    (0xFF01, 0xFF5E),
    (0x1D400, 0x1D7FF),
    (0x1F110, 0x1F149),
)


def _forms() -> dict[str, str]:
    """ASCII character → what NFKC and case make one with it."""
    forms: dict[str, str] = {}
    for first, last in _FORMS:
        for form in map(chr, range(first, last + 1)):
            plain = unicodedata.normalize("NFKC", form).casefold()
            forms[plain] = forms.get(plain, "") + form
    return forms


_OTHER_FORMS: Final = _forms()


def _in_any_form(characters: str) -> str:
    """The characters of a pattern's brackets."""
    both = characters + characters.upper()
    return re.escape(both + "".join(_OTHER_FORMS.get(one, "") for one in characters))


def _entity(characters: str, *names: str) -> str:
    """A pattern for one of these characters as an HTML entity, without ``&``."""
    codes = "|".join(
        f"{ord(one)}|[xX]0{{0,6}}(?i:{ord(one):x})" for one in characters + characters.upper()
    )
    return f"(?:{'|'.join((f'#0{{0,6}}(?:{codes})', *names))});?"


def _one(characters: str, *names: str) -> str:
    """One of these characters in any form; `names`: those of its HTML entities."""
    plain, entity = _in_any_form(characters), _entity(characters, *names)
    return f"(?:[{plain}]|&{entity})[{_UNSEEN}]*+"


def _one_begun(character: str) -> str:
    """The same where the first character of the form is read already."""
    plain, entity = _in_any_form(character), _entity(character)
    return f"(?:(?<=[{plain}])|(?<=&){entity})[{_UNSEEN}]*+"


def _spelled(word: str) -> str:
    """The word with each letter in any form."""
    return "".join(map(_one, word))


_FIRST, *_REST = _NAME.split("_")
_LINES: Final = _in_any_form("_-")
_LINE: Final = f"(?:[{_LINES}]|&{_entity('_-', 'lowbar', 'UnderBar', 'hyphen', 'dash')})"
#: What parts two words. Behind a row of 5,000 entities nobody looks for its end: it is taken for a
#: mark without further words.
_UNDERSCORE: Final = rf"[\s\\]*+(?:{_LINE}[{_LINES}{_UNSEEN}\s\\]*+){{1,5000}}+"


@cache
def _rest(*, loose: bool) -> re.Pattern[str]:
    """All of a mark behind its first word; made for the first text that has that word. `loose`: the
    mark has an opening."""
    pattern = ""
    for word in reversed(_REST):
        spelled = _spelled(word) + pattern
        pattern = f"{_UNDERSCORE}(?:{_LINE}|{spelled})"
        if loose:
            pattern = rf"(?:{pattern}|[\W_]{{0,8}}{spelled})"
    return re.compile(pattern)


#: The first word. Its first character stands alone so that the engine can leap to it.
_WORD: Final = re.compile(
    f"[&{_in_any_form(_FIRST[0])}]{_one_begun(_FIRST[0])}{_spelled(_FIRST[1:])}"
)
#: More characters than it can have.
_MOST_WORD: Final = 1024
#: Without one of these, and without a numeric entity, it is plain ASCII. All that is not in the
#: first plane in two ranges, not one by one: that would take long for each character.
_DISGUISE: Final = re.compile(
    "[{}{}\U0001d400-\U0001d7ff\U0001f110-\U0001f149]".format(
        _UNSEEN,
        "".join(
            form for letter in set(_FIRST) for form in _OTHER_FORMS[letter] if form < "\U00010000"
        ),
    )
)
_OPENING: Final = re.compile(_one("<", "lt", "LT") + r"\Z")
_SLASH: Final = re.compile(_one("/", "sol") + r"\Z")
#: More characters than either can have, and what they may end with.
_MOST_SIGN: Final = 32
_SIGN_END: Final = re.compile(f"[{_in_any_form('</')}{_UNSEEN};07cfltCFLT]")

_NO_NAME: Final = re.compile(r"[^\w .:/-]")
_QUOTATION: Final = re.compile(rf'<{_NAME} source="[\w .:/-]*+">\n|\n</{_NAME}>')


def quoted(source: str, text: str) -> str:
    """`text` of the tool `source` (``mcp server tickets``, ``web_search``), for a model."""
    name = _NO_NAME.sub("_", _clean(source[:_MOST_NAME]))
    return f'<{_NAME} source="{name}">\n{_clean(text)}\n</{_NAME}>'


def quoted_output(source: str, output: str | list[Any]) -> str | list[Any]:
    """The same for text or for a list of parts, of which those with text are quoted; `output` is
    left as it is."""
    if isinstance(output, str):
        return quoted(source, output)
    return [
        {**part, "text": quoted(source, part["text"])}
        if isinstance(part.get("text"), str)
        else part
        for part in output
    ]


def unquoted(text: str) -> str:
    """`text` without the marks of the quotations in it; those that stand in no quotation too."""
    return _QUOTATION.sub("", text)


def visible(text: str) -> str:
    """`text` without what no human sees of it (rule 2)."""
    return _without(_HIDDEN, text)


def _clean(text: str) -> str:
    text = visible(text)
    if not text.isascii():
        text = _without(_STRAY, text)
    return _without_marks(text)


def _without(pattern: re.Pattern[str], text: str) -> str:
    return "".join(pattern.sub("", part) for part in _slices(text))


def _slices(text: str) -> Iterator[str]:
    """The text in parts, none of which begins with a joiner or selector."""
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + _SLICE)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _without_marks(text: str) -> str:
    kept: list[str] = []
    done = 0
    for start, end in _words(text):
        opening = _opening(text, done, start)
        rest = _rest(loose=opening is not None).match(text, end)
        if rest:
            kept += (text[done : start if opening is None else opening], _REMOVED)
            done = rest.end()
    return "".join([*kept, text[done:]]) if kept else text


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where the first word of a mark stands, in any form."""
    for first in range(0, len(text), _SLICE):
        part = text[first : first + _SLICE + _MOST_WORD]
        if _may_have_word(part):
            for word in _WORD.finditer(part):
                if word.start() < _SLICE:
                    yield first + word.start(), first + word.end()


def _may_have_word(text: str) -> bool:
    if "&#" in text or not (text.isascii() or _DISGUISE.search(text) is None):
        return True
    return _FIRST.encode() in text.encode("ascii", "ignore").lower()


def _opening(text: str, first: int, end: int) -> int | None:
    """Where ``<`` or ``</`` begins that ends at `end`, behind `first`; None: there is none."""
    end = _before_space(text, first, end)
    if slash := _ending(_SLASH, text, first, end):
        end = _before_space(text, first, slash.start())
    opening = _ending(_OPENING, text, first, end)
    return opening.start() if opening else None


def _ending(sign: re.Pattern[str], text: str, first: int, end: int) -> re.Match[str] | None:
    """The sign that ends at `end`."""
    if end == first or not _SIGN_END.match(text, end - 1):
        return None
    return sign.search(text, max(first, end - _MOST_SIGN), end)


def _before_space(text: str, first: int, end: int) -> int:
    while end > first and text[end - 1].isspace():
        end -= 1
    return end
