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
4. Nothing else is changed. The work is linear: 8 MiB of English take 0.4 s, of nothing but ``<``
   1.4 s.
"""

import re
import unicodedata
from typing import Any, Final

_NAME: Final = "untrusted_tool_output"
_REMOVED: Final = "[removed mark]"
#: Characters of a source's name.
_MOST_NAME: Final = 200

# -- what nobody sees (rules 2 and 3) ------------------------------------------------------------

_HIDDEN: Final = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]+"
)
_JOINERS: Final = "\u200c\u200d"
_SELECTORS: Final = "\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"
#: Those behind ASCII or nothing, a selector behind a selector, anything behind a joiner.
_STRAY: Final = re.compile(
    f"(?<![^\0-\x7f])(?!(?<=[0-9#*])\ufe0f)[{_JOINERS}{_SELECTORS}]++"
    f"|(?<=[{_SELECTORS}])[{_SELECTORS}]++"
    f"|(?<=[{_JOINERS}])[{_JOINERS}{_SELECTORS}]++"
)

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
    return f"(?:[{plain}]|&{entity})[{_JOINERS}{_SELECTORS}]*+"


def _one_begun(characters: str, *names: str) -> str:
    """The same where the first character of the form is read already."""
    plain, entity = _in_any_form(characters), _entity(characters, *names)
    return f"(?:(?<=[{plain}])|(?<=&){entity})[{_JOINERS}{_SELECTORS}]*+"


def _name(between: str) -> str:
    """The pattern of the name, without its first letter."""
    words = ("".join(map(_one, word)) for word in _NAME[1:].split("_"))
    return between.join(words)


_LINE: Final = _one("_-", "lowbar", "UnderBar", "hyphen", "dash")
_UNDERSCORE: Final = rf"[\s\\]*+(?:{_LINE}[\s\\]*+)++"
_SLASH: Final = rf"\s*+(?:{_one('/', 'sol')})?+\s*+"
_LOOSE: Final = rf"(?:{_UNDERSCORE}|[\W_]{{0,8}})"
#: The first character stands alone so that the engine can leap to where a mark may begin.
_MARK: Final = re.compile(
    f"[&{_in_any_form('<' + _NAME[0])}]"
    f"(?:{_one_begun(_NAME[0])}{_name(_UNDERSCORE)}"
    f"|{_one_begun('<', 'lt', 'LT')}{_SLASH}{_one(_NAME[0])}{_name(_LOOSE)})"
)
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
    return _HIDDEN.sub("", text)


def _clean(text: str) -> str:
    text = visible(text)
    if not text.isascii():
        text = _STRAY.sub("", text)
    return _MARK.sub(_REMOVED, text)
