"""Grammars of custom tools: is one fit to use, does a text match it? (spec §1.2, R-13)

The model writes freely, unless its backend knows grammars; what it wrote is held against the
grammar afterwards. Both syntaxes are those of llguidance, which OpenAI uses too. ``lark`` is its
variant of Lark without its extensions (`lark.py`): a lexer that takes the longest terminal, and no
blanks of ``%ignore`` before or after all. ``regex`` is that of Rust's regex crate, without
look-around, and the whole text must match.

Rules
1. Pure: who matches a text passes a clock in. What bounds the work is the size of the grammar
   (`lark.py`), llguidance's fuel for terminals and its limit for a row of the parser, the length of
   the text and what it can hold open (`right_recursion.py`), and time. A text that costs more does
   not match.
2. llguidance is imported in one place, when the first grammar comes (30 ms). Of its matcher, only
   what reads bytes is used: to ask it what could come next may never end (1.9.1).
3. Nothing that is compiled is kept: copies of a matcher share their lexer, so that one text could
   use up the fuel of the next. Compiling takes 1 to 3 ms; only verdicts are kept, by content.
4. For a thread, both functions (R-118). A usual grammar is checked in 3 ms, a text of 1,000
   characters in 4 ms, one of 100,000 in 0.2 s. Of some 10,000 hostile ones, the worst took 0.2 s
   and 50 MB to check and 2 s to match, and held the interpreter for less than 0.1 s at a time.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from antiphon.errors import InvalidRequestError
from antiphon.protocol.lark import UnfitGrammar, check_lark, check_regex
from antiphon.protocol.right_recursion import RightRecursion, right_recursion
from antiphon.protocol.validation import echo

if TYPE_CHECKING:
    from llguidance import LLMatcher

Syntax: TypeAlias = Literal["lark", "regex"]

#: Characters of a definition (R-13).
MAX_DEFINITION: Final = 65_536
#: Steps of llguidance's lexer for all terminals and one text: 100,000 take about 10 ms, a grammar
#: with ``\\w`` needs 20,000 (measured).
_FUEL: Final = 100_000
#: Symbols in all rules: 5,000 are as many as a first row of the parser can have items, 30 ms. A
#: grammar for Python has about 1,000.
_SYMBOLS: Final = 5_000
#: Items in a row of the parser. Most grammars need 10, one for Python 60, a choice among 500 words
#: in a rule 500. A row of 1,000 takes up to 16 ms, one of 2,000, llguidance's default, 100 ms.
_ROW: Final = 1_000
#: Bytes that are given to the parser at a time: it does not let go of the interpreter.
_AT_ONCE: Final = 4
#: Bytes of a text.
_LONGEST: Final = 262_144
#: Items that one byte of a text may end: in 0.1 s.
_MOST_OPEN: Final = 20_000
#: Seconds for one text.
_BUDGET: Final = 2.0
#: Verdicts that are kept, of up to 64 KiB each.
_KEPT: Final = 64
#: Characters of a text that are shown to the model on each side of the place where it stopped.
_SHOWN: Final = 40
_TOO_COMPLEX: Final = "It is too complex to be checked. A shorter or simpler input may do."


def check_grammar(format_: Mapping[str, Any], path: str) -> None:
    """Raise `InvalidRequestError` for a grammar that does not compile, costs too much, or matches
    nothing. `format_`: ``{"type": "grammar", "syntax", "definition"}`` of the tool at `path`
    (``tools[0]``)."""
    param = f"{path}.format.definition"
    definition: str = format_["definition"]
    if len(definition) > MAX_DEFINITION:
        raise InvalidRequestError(
            f"Invalid '{param}': string too long. Expected a string with maximum length "
            f"{MAX_DEFINITION}, but got a string with length {len(definition)} instead.",
            param=param,
            code="string_above_max_length",
        )
    problem = _problem(format_["syntax"], definition)
    if problem is not None:
        kind = {"lark": "Lark grammar", "regex": "regular expression"}[format_["syntax"]]
        raise InvalidRequestError(
            f"Invalid '{param}': the {kind} cannot be used: {problem}.",
            param=param,
            code="invalid_value",
        )


def mismatch(format_: Mapping[str, Any], text: str, clock: Callable[[], float]) -> str | None:
    """Why `text` does not match the grammar, in sentences for the model; None: it does. Any text is
    right for a format that is no grammar. The grammar was checked before.

    `clock` counts seconds: `time.thread_time`, so that a busy machine changes no verdict.
    """
    if format_.get("type") != "grammar":
        return None
    syntax, definition = format_["syntax"], format_["definition"]
    # Half a surrogate pair is no character: no grammar has it, but the model must hear of it.
    given = text.encode(errors="surrogatepass")
    if len(given) > _LONGEST:
        return f"It is too long to be checked: {len(given):,} bytes, of {_LONGEST:,} at most."
    if syntax == "lark" and _right_recursion(definition).most_open(text) > _MOST_OPEN:
        return _TOO_COMPLEX
    until = clock() + _BUDGET
    matcher = _compiled(syntax, definition)
    read = 0
    while read < len(given):
        piece = list(given[read : read + _AT_ONCE])
        taken = matcher.try_consume_tokens(piece)
        read += taken
        if clock() > until or matcher.is_error():
            return _TOO_COMPLEX
        if taken < len(piece):
            break
    return _reason(given, read, ended=matcher.is_accepting())


# -- checking ------------------------------------------------------------------------------------


@lru_cache(maxsize=_KEPT)
def _problem(syntax: Syntax, definition: str) -> str | None:
    """What is wrong with a grammar, for its author."""
    try:
        (check_lark if syntax == "lark" else check_regex)(definition)
    except UnfitGrammar as unfit:
        return str(unfit)
    matcher = _compiled(syntax, definition)
    # One byte with which a text can begin: only then is its limit for rows seen.
    begins = any(matcher.try_consume_tokens([byte]) for byte in range(256))
    if matcher.is_error():
        return _in_our_words(syntax, matcher.get_error())
    return None if begins or matcher.is_accepting() else "it matches no text at all"


#: What llguidance says → what we say of it. A name is the client's own.
_WORDS: Final = (
    (re.compile(r"unknown name: \"([^\"]*)\""), "'{}' is not defined"),
    (re.compile(r"duplicate (?:rule|token)[^\"]*\"([^\"]*)\""), "'{}' is defined twice"),
    (re.compile(r"circular reference in token \"([^\"]*)\""), "the terminal '{}' refers to itself"),
    (re.compile(r"Unknown common regex: common\.([\w-]*)"), "there is no '{}' to import"),
    (re.compile(r"no start rule|Empty grammar"), "there is no rule 'start'"),
    (re.compile(r"look-?arounds?[, ]"), "look-around and word boundaries are not supported"),
    (re.compile(r"invalid regex"), "a regular expression is not valid"),
    (re.compile(r"range (?:start|end)|[Ee]nd number"), "a range of repetitions is not valid"),
    (re.compile(r"Current row has"), "it offers too many alternatives at its beginning"),
    (re.compile(r"too deeply nested"), "it is nested too deeply"),
    (re.compile(r"too big|fuel|precomputation|too large|too many"), "it is too complex"),
    (re.compile(r"Expected|expecting|error parsing|lexer error"), "it is not well-formed"),
)
_PLACE: Final = re.compile(r"(?:at )?(\d+)\((\d+)\): ")


def _in_our_words(syntax: Syntax, said: str) -> str:
    """The library's own text stays here (R-42): it quotes itself at length."""
    first, *rest = said.split("\n")
    told = " ".join([first, *(line for line in rest if line.startswith("error: "))])
    words = "it does not compile"
    for pattern, ours in _WORDS:
        found = pattern.search(told)
        if found:
            words = ours.format(*map(echo, found.groups()))
            break
    place = _PLACE.match(first)
    # A regular expression stands in a grammar of llguidance's own making.
    return f"line {place[1]}, column {place[2]}: {words}" if place and syntax == "lark" else words


# -- matching ------------------------------------------------------------------------------------


@lru_cache(maxsize=_KEPT)
def _right_recursion(definition: str) -> RightRecursion:
    return right_recursion(definition)


def _compiled(syntax: Syntax, definition: str) -> "LLMatcher":
    import llguidance  # noqa: PLC0415

    limits = llguidance.LLParserLimits(
        max_items_in_row=_ROW,
        initial_lexer_fuel=_FUEL,
        step_lexer_fuel=_FUEL,
        max_grammar_size=_SYMBOLS,
        precompute_large_lexemes=True,  # else the fuel is not counted when a text is read (1.9.1)
        verbose_errors=False,
    )
    grammar = llguidance.grammar_from(syntax, definition)
    return llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0, limits=limits)


def _reason(given: bytes, read: int, *, ended: bool) -> str | None:
    before = given[:read].decode(errors="ignore")
    if read < len(given):
        after = given[len(before.encode()) :].decode(errors="replace")
        return (
            f"It stops matching at character {len(before) + 1}: after {_shown(before[-_SHOWN:])}, "
            f"{_shown(after[:_SHOWN])} is not allowed."
        )
    if ended:
        return None
    return f"It ends too early, with {_shown(before[-_SHOWN:])}: the grammar wants more."


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
