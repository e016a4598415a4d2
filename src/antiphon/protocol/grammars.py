"""Grammars of custom tools: is one fit to use, does a text match it? (spec §1.2, R-13)

The model writes freely, unless its backend knows grammars; what it wrote is held against the
grammar afterwards. Both syntaxes are those of llguidance, which OpenAI uses: ``lark`` is its variant
of Lark without its extensions (`lark.py`), with a lexer that takes the longest terminal; ``regex`` is
that of Rust's regex crate, without look-around, and the whole text must match.

Rules
1. Deterministic: no clock. What bounds the work is the size of the grammar (`lark.py`), llguidance's
   fuel for terminals, and the tiers of `_TIERS` for rules. A text that costs more does not match.
2. llguidance is imported in one place, when the first grammar comes (30 ms).
3. Nothing that is compiled is kept: copies of a matcher share their lexer, so that one text could
   use up the fuel of the next. Compiling takes 1 to 3 ms; only verdicts are kept, by content.
4. For a thread, both functions (R-118). A usual grammar is checked in 3 ms, a text of 1,000
   characters in 3 ms, one of 100,000 in 0.1 s; the worst that we could build: @@WORST@@
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from antiphon.errors import InvalidRequestError
from antiphon.protocol.lark import UnfitGrammar, check_lark, check_regex
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
#: Bytes that are given to the parser at a time: it does not let go of the interpreter.
_AT_ONCE: Final = 8
#: Verdicts that are kept, of up to 64 KiB each.
_KEPT: Final = 64
#: Characters of a text that are shown to the model on each side of the place where it stopped.
_SHOWN: Final = 40


class _Tier(NamedTuple):
    """Items in a row of the parser, and how long a text may be that needs so many, in bytes."""

    rows: int
    text: int


#: A byte costs up to 4 µs, 20 µs, 0.3 ms and 3 ms, so that no tier takes more than 3 s. Most
#: grammars need 10 items, one for Python 60; a choice among 500 words in a rule 500.
_TIERS: Final = (
    _Tier(32, 262_144),
    _Tier(100, 65_536),
    _Tier(400, 4_096),
    _Tier(1_000, 1_024),
)


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


def mismatch(format_: Mapping[str, Any], text: str) -> str | None:
    """Why `text` does not match the grammar, in sentences for the model; None: it does. Any text is
    right for a format that is no grammar. The grammar was checked before."""
    if format_.get("type") != "grammar":
        return None
    # Half a surrogate pair is no character: no grammar has it, but the model must hear of it.
    given = text.encode(errors="surrogatepass")
    for tier in _TIERS:
        if len(given) > tier.text:
            return f"It is too long to be checked: {len(given):,} bytes, of {tier.text:,} at most."
        matcher = _compiled(format_["syntax"], format_["definition"], tier)
        read = _read(matcher, given)
        if not matcher.is_error():
            return _reason(given, read, ended=matcher.is_accepting())
        if not _is_wide(matcher):
            break
    return "It is too complex to be checked. A shorter or simpler input may do."


# -- checking ------------------------------------------------------------------------------------


@lru_cache(maxsize=_KEPT)
def _problem(syntax: Syntax, definition: str) -> str | None:
    """What is wrong with a grammar, for its author."""
    try:
        (check_lark if syntax == "lark" else check_regex)(definition)
    except UnfitGrammar as unfit:
        return str(unfit)
    for tier in _TIERS:
        matcher = _compiled(syntax, definition, tier)
        if matcher.is_error():
            return _in_our_words(syntax, matcher.get_error())
        begins = any(matcher.try_consume_tokens([byte]) for byte in range(256))
        if not matcher.is_error():
            return None if begins or matcher.is_accepting() else "it matches no text at all"
        if not _is_wide(matcher):
            return _in_our_words(syntax, matcher.get_error())
    return "it offers too many alternatives at its beginning"


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


def _compiled(syntax: Syntax, definition: str, tier: _Tier) -> "LLMatcher":
    try:
        import llguidance  # noqa: PLC0415
    except ImportError:
        raise InvalidRequestError(
            "Grammars of custom tools need the extra 'grammars' on this server.", param="tools"
        ) from None
    limits = llguidance.LLParserLimits(
        max_items_in_row=tier.rows,
        initial_lexer_fuel=_FUEL,
        step_lexer_fuel=_FUEL,
        max_grammar_size=_SYMBOLS,
        precompute_large_lexemes=True,  # else the fuel is not counted when a text is read (1.9.1)
        verbose_errors=False,
    )
    grammar = llguidance.grammar_from(syntax, definition)
    return llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar, log_level=0, limits=limits)


def _read(matcher: "LLMatcher", given: bytes) -> int:
    """How many bytes the grammar takes."""
    for start in range(0, len(given), _AT_ONCE):
        piece = list(given[start : start + _AT_ONCE])
        taken = matcher.try_consume_tokens(piece)
        if taken < len(piece):
            return start + taken
    return len(given)


def _is_wide(matcher: "LLMatcher") -> bool:
    """Whether it gave up because a row had too many items: the next tier may do."""
    return "Current row has" in matcher.get_error()


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
