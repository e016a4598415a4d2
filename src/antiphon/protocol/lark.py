"""How large a grammar is, before anything compiles it (reliability R-13).

llguidance compiles and runs grammars in native code. It has limits of its own, but it recurses once
for each level of a grammar, and it keeps every tail of a long sequence. Measured with 1.9.1: 330
rules of which each names the next are the end of a process whose threads have 1 MiB of stack, 2,600
with 8 MiB; a regular expression of 30,000 optional letters takes 11 s and 1.7 GB, or all memory.

Rules
1. Pure, and linear in the definition: 64 KiB take 150 ms at worst, a usual grammar 1 ms.
2. The tokens are those of llguidance's own reader, and what is none of them is refused: nothing is
   compiled there that is not counted here.
3. The dialect is what OpenAI documents: rules, terminals in double quotes or slashes, ``%ignore``
   and ``%import common``. Refused are llguidance's extensions (``%json``, ``%regex``, special
   tokens, attributes and parameters of rules, other grammars, and ``~`` and ``&`` of terminals,
   whose cost its fuel does not bound), and templates, priorities and ``%declare``, which it has not
   either.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: Levels, one for each reference and each parenthesis: a third of what 1 MiB of stack holds, the
#: least that Python gives to a thread anywhere.
MAX_LEVELS: Final = 100
#: Moves of all terminals, where they are written out. 500 optional word characters are 1,000: they
#: compile in 80 ms and 20 MB.
MAX_MOVES: Final = 1_000

_TOKEN: Final = re.compile(
    r"(?P<blank>[ \t\r]+|(?:\#|//)[^\n]*)"
    r"|(?P<newline>\n)"
    r'|(?P<string>"(?:\\.|[^"\\\x00-\x1f\x7f])*"i?)'
    r"|(?P<regex>/(?:\\.|[^/\\])+/[imslux]*)"
    r"|(?P<name>!?[_?]?[a-z][_a-z0-9-]*|_?[A-Z][_A-Z0-9-]*)"
    r"|(?P<number>[+-]?[0-9]+)"
    r"|(?P<statement>%[a-z]+)"
    r"|(?P<sign>->|\.\.|~(?=[ \t]*[0-9])|[:|()\[\]{}.,+*?])"
)
OPENS: Final = frozenset("([")
CLOSES: Final = frozenset(")]")
#: Signs of a terminal after which it can go on in more than one way.
_CHOICES: Final = frozenset("?*+~{[")
#: What a regular expression can go on with in more than one way: a class, a repetition.
_MOVE: Final = re.compile(r"\\[^\W_]|[.?*+{\[]")
_ONLY: Final = "only '%ignore' and '%import common' are supported"


class UnfitGrammar(ValueError):
    """The grammar is refused; the message says why, and in which line."""


class Token(NamedTuple):
    """A token of a grammar; `kind` is the name of its group in `_TOKEN`."""

    kind: str
    text: str
    line: int


class _Reference(NamedTuple):
    name: str
    #: Parentheses around it.
    depth: int


@dataclass(slots=True)
class Body:
    """What stands behind the colon of a rule or terminal, or after ``%ignore``."""

    tokens: Sequence[Token]
    references: list[_Reference] = field(default_factory=list)
    #: Of its signs, which count in a terminal only, and of the terminals that are written in it.
    signs: int = 0
    moves: int = 0
    deepest: int = 0


def check_regex(definition: str) -> None:
    """Raise `UnfitGrammar` for a regular expression that would take too long to compile."""
    _check_moves(_moves_of(definition, ""))


def check_lark(definition: str) -> None:
    """Raise `UnfitGrammar` for what is not in our dialect, or would take too long, or too much
    stack, to compile. What else may be wrong is left to the compiler."""
    definitions, ignored = read_lark(definition)
    roots = [definitions[name] for name in ("start",) if name in definitions] + ignored
    if any(_levels(root, definitions) > MAX_LEVELS for root in roots):
        raise UnfitGrammar(f"it is nested more than {MAX_LEVELS} levels deep")
    _check_moves(_all_moves(definitions, ignored))


def _check_moves(moves: int) -> None:
    if moves > MAX_MOVES:
        raise UnfitGrammar(
            "its terminals are too complex: they have more than "
            f"{MAX_MOVES:,} repetitions and character classes when they are written out"
        )


# -- reading -------------------------------------------------------------------------------------


def read_lark(definition: str) -> tuple[dict[str, Body], list[Body]]:
    """Rules and terminals by name, and what is ignored. Raises `UnfitGrammar` for what is not in
    our dialect."""
    definitions: dict[str, Body] = {}
    ignored: list[Body] = []
    for statement in _statements(definition):
        head = statement[0]
        if head.kind == "name":
            definitions.setdefault(head.text.lstrip("!?"), _body(_behind_colon(statement)))
        elif head.text == "%ignore":
            ignored.append(_body(statement[1:]))
        elif head.text != "%import":
            raise _unfit(head, f"'{head.text}' is not a rule, a terminal or a statement; {_ONLY}")
        elif len(statement) < 2 or statement[1].text != "common":
            raise _unfit(head, _ONLY)
    return definitions, ignored


def _tokens(definition: str) -> Iterator[Token]:
    line, end = 1, 0
    for match in _TOKEN.finditer(definition):
        if match.start() != end:
            break
        kind, text = match.lastgroup or "", match.group()
        if kind != "blank":
            yield Token(kind, text, line)
        line += text.count("\n")
        end = match.end()
    if end < len(definition):
        raise _unfit(Token("", "", line), _no_token(definition[end]))


def _no_token(character: str) -> str:
    if character == "'":
        return "strings are written in double quotes"
    if character in '"/':
        return f"{character} has no end"
    shown = f"'{character}'" if character.isprintable() else "a control character"
    return f"{shown} cannot stand here"


def _statements(definition: str) -> Iterator[list[Token]]:
    """The tokens of each rule, terminal and statement. A line that begins with ``|`` goes on with
    the one before."""
    statement: list[Token] = []
    depth, fresh = 0, True
    for token in _tokens(definition):
        if token.kind == "newline":
            fresh = depth <= 0
            continue
        if fresh and token.text != "|" and statement:
            yield statement
            statement, depth = [], 0
        fresh = False
        depth += (token.text in OPENS) - (token.text in CLOSES)
        statement.append(token)
    if statement:
        yield statement


def _behind_colon(statement: Sequence[Token]) -> Sequence[Token]:
    if len(statement) < 2 or statement[1].text != ":":
        raise _unfit(
            statement[0],
            f"a colon must follow '{statement[0].text[:64]}'; attributes, parameters, templates "
            "and priorities are not supported",
        )
    return statement[2:]


def _body(tokens: Sequence[Token]) -> Body:
    body, depth, renaming = Body(tokens), 0, False
    for token in tokens:
        depth += (token.text in OPENS) - (token.text in CLOSES)
        body.deepest = max(body.deepest, depth)
        if token.kind == "name" and not renaming:
            body.references.append(_Reference(token.text.lstrip("!?"), depth))
        elif token.kind == "regex":
            text, _, flags = token.text[1:].rpartition("/")
            body.moves += _moves_of(text, flags)
        elif token.kind == "string" and token.text.endswith("i"):
            body.moves += len(token.text) - 3
        elif token.text in _CHOICES:
            body.signs += 1
        elif token.text == ":" or token.kind == "statement":
            raise _unfit(token, f"'{token.text}' cannot stand here; {_ONLY}")
        renaming = token.text == "->"
    return body


def _moves_of(regex: str, flags: str) -> int:
    """Places where a text that matches can go on in more than one way. Flags can make any letter
    such a place."""
    if "i" in flags or "(?" in regex:
        return len(regex)
    return len(_MOVE.findall(regex))


def _unfit(token: Token, reason: str) -> UnfitGrammar:
    return UnfitGrammar(f"line {token.line}: {reason}")


# -- measuring -----------------------------------------------------------------------------------


def _levels(root: Body, definitions: Mapping[str, Body]) -> int:
    """How deep a compiler gets that follows the references in the order of the text, each name
    once."""
    seen: set[str] = {"start"}
    deepest = root.deepest
    path = [(iter(root.references), 0)]
    while path:
        references, level = path[-1]
        reference = next(references, None)
        if reference is None:
            path.pop()
        elif reference.name in definitions and reference.name not in seen:
            seen.add(reference.name)
            body, level = definitions[reference.name], level + reference.depth + 1
            deepest = max(deepest, level + body.deepest)
            path.append((iter(body.references), level))
    return deepest


def _all_moves(definitions: Mapping[str, Body], ignored: Sequence[Body]) -> int:
    """The moves of all terminals together, those that they refer to written out."""
    sizes = _sizes({name: body for name, body in definitions.items() if is_terminal(name)})
    rules = [body for name, body in definitions.items() if not is_terminal(name)]
    return sum(sizes.values()) + sum(body.moves for body in [*rules, *ignored])


def _sizes(terminals: Mapping[str, Body]) -> dict[str, int]:
    """Terminal → its moves and those of what it refers to. One that refers to itself, which the
    compiler refuses, counts once; a number that is too large anyway stops growing."""
    sizes: dict[str, int] = {}
    for first in terminals:
        path = [] if first in sizes else [(first, iter(terminals[first].references))]
        sizes.setdefault(first, terminals[first].signs + terminals[first].moves)
        while path:
            name, references = path[-1]
            reference = next(references, None)
            if reference is None:
                path.pop()
                if path:
                    sizes[path[-1][0]] = min(sizes[path[-1][0]] + sizes[name], MAX_MOVES + 1)
            elif reference.name in sizes:
                sizes[name] = min(sizes[name] + sizes[reference.name], MAX_MOVES + 1)
            elif reference.name in terminals:
                body = terminals[reference.name]
                sizes[reference.name] = body.signs + body.moves
                path.append((reference.name, iter(body.references)))
    return sizes


def is_terminal(name: str) -> bool:
    """Whether it is the name of a terminal, not of a rule."""
    return name.lstrip("_")[:1].isupper()
