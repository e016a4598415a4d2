"""How much of a grammar a text can hold open: what right recursion costs (reliability R-13).

In ``list: item "," list`` nothing of the outer lists is over before the last one is. An Earley
parser then ends them all at one byte. llguidance takes time for that with the square of their
number, and neither looks at its limits nor lets go of the interpreter on the way: 70 ms for 16,000.

Rules
1. A bound, not a count: rarely too large by much, and too small only where rules are ambiguous,
   which llguidance's own limit for a row sees.
2. A rule is right recursive when it can end with itself: what stands behind may be empty, or a
   parenthesis, or a terminal that nobody looks into.
3. Each time that it goes through such a rule, a text needs the literals that stand before the end;
   no more rules are open than there are such literals.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from antiphon.protocol.lark import CLOSES, OPENS, Body, Token, is_terminal, read_lark

#: Signs behind something that may be left out.
_MAYBE: Final = frozenset("?*{~")


class _Ending(NamedTuple):
    """`rule` can end with `last`; `literal`, without its case, stands in a text that does so."""

    rule: str
    last: str
    literal: str | None


class _Circle(NamedTuple):
    """Rules that can all end with each other."""

    symbols: int
    #: For each way in which one of them can end with one of them.
    literals: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class RightRecursion:
    """Of one grammar."""

    circles: tuple[_Circle, ...]

    def most_open(self, text: str) -> int:
        """Items that one byte of the text can end, at most."""
        if not self.circles:
            return 0
        folded = text.casefold()
        return sum(
            circle.symbols * (1 + sum(_count(literal, folded) for literal in circle.literals))
            for circle in self.circles
        )


def right_recursion(definition: str) -> RightRecursion:
    """That of a Lark grammar which was checked."""
    definitions, _ = read_lark(definition)
    rules = {name: body for name, body in definitions.items() if not is_terminal(name)}
    literals = {
        name: _literal(body.tokens[0])
        for name, body in definitions.items()
        if is_terminal(name) and len(body.tokens) == 1
    }
    endings = [
        ending
        for name, body in rules.items()
        for ending in _endings(name, body, literals)
        if ending.last in rules
    ]
    circle_of = _circles(rules, endings)
    inside: dict[str, list[str | None]] = {}
    for rule, last, literal in endings:
        if circle_of[rule] == circle_of[last]:
            inside.setdefault(circle_of[rule], []).append(literal)
    symbols = dict.fromkeys(inside, 0)
    for name, body in rules.items():
        if circle_of[name] in symbols:
            symbols[circle_of[name]] += _symbols(body)
    return RightRecursion(
        tuple(_Circle(symbols[circle], tuple(ways)) for circle, ways in inside.items())
    )


def _symbols(body: Body) -> int:
    return sum(token.kind in ("name", "string", "regex") for token in body.tokens)


def _count(literal: str | None, text: str) -> int:
    """How often it is there, also within itself; None may be anywhere."""
    if literal is None:
        return len(text)
    return sum(1 for _ in re.finditer(f"(?={re.escape(literal)})", text))


# -- how rules end -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the things in a row: a name, a literal, or what is in parentheses."""

    tokens: Sequence[Token]
    #: It may be left out.
    optional: bool

    def names(self) -> Iterator[str]:
        """What it may end with."""
        return (token.text.lstrip("!?") for token in self.tokens if token.kind == "name")

    def needs(self, literals: Mapping[str, str | None]) -> str | None:
        """The literal that must be there, if it is one."""
        if self.optional or len(self.tokens) != 1:
            return None
        token = self.tokens[0]
        return literals.get(token.text) if token.kind == "name" else _literal(token)


def _endings(name: str, body: Body, literals: Mapping[str, str | None]) -> Iterator[_Ending]:
    for alternative in _split(body.tokens):
        parts = list(_parts(alternative))
        needed = [text for part in parts if (text := part.needs(literals))]
        literal = needed[0].casefold() if needed else None
        for part in reversed(parts):
            for last in part.names():
                yield _Ending(name, last, literal)
            if part.needs(literals):
                break


def _split(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The alternatives, without what they are called (``-> name``)."""
    depth, named = 0, False
    alternative: list[Token] = []
    for token in tokens:
        depth += (token.text in OPENS) - (token.text in CLOSES)
        if token.text == "|" and depth == 0:
            yield alternative
            alternative, named = [], False
            continue
        named = named or (token.text == "->" and depth == 0)
        if not named:
            alternative.append(token)
    yield alternative


def _parts(tokens: Sequence[Token]) -> Iterator[_Part]:
    start = 0
    while start < len(tokens):
        end, depth = start, 0
        while end < len(tokens) and (end == start or depth > 0):
            depth += (tokens[end].text in OPENS) - (tokens[end].text in CLOSES)
            end += 1
        after = end
        while after < len(tokens) and _is_repetition(tokens[after]):
            after += 1
        signs = {token.text for token in tokens[end:after]}
        yield _Part(tokens[start:end], tokens[start].text == "[" or not signs.isdisjoint(_MAYBE))
        start = after


def _is_repetition(token: Token) -> bool:
    return token.kind == "number" or (token.kind == "sign" and token.text not in OPENS)


def _literal(token: Token) -> str | None:
    """The text of a string, if it is plain and not empty; None for anything else."""
    if token.kind != "string":
        return None
    text = token.text.rstrip("i")[1:-1]
    return text if text and "\\" not in text else None


# -- circles -------------------------------------------------------------------------------------


def _circles(rules: Iterable[str], endings: Iterable[_Ending]) -> dict[str, str]:
    """Rule → one of those that it can end with and that can end with it (Kosaraju)."""
    forth: dict[str, list[str]] = {name: [] for name in rules}
    back: dict[str, list[str]] = {name: [] for name in rules}
    for rule, last, _ in endings:
        forth[rule].append(last)
        back[last].append(rule)
    finished: list[str] = []
    seen: set[str] = set()
    for name in forth:
        finished += _reached(name, forth, seen)
    circle_of: dict[str, str] = {}
    seen = set()
    for name in reversed(finished):
        circle_of |= dict.fromkeys(_reached(name, back, seen), name)
    return circle_of


def _reached(first: str, edges: Mapping[str, Sequence[str]], seen: set[str]) -> list[str]:
    """What was not seen and can be reached, each after all that it leads to."""
    if first in seen:
        return []
    seen.add(first)
    finished: list[str] = []
    path = [(first, iter(edges[first]))]
    while path:
        name, following = path[-1]
        unseen = next((one for one in following if one not in seen), None)
        if unseen is None:
            finished.append(name)
            path.pop()
        else:
            seen.add(unseen)
            path.append((unseen, iter(edges[unseen])))
    return finished
