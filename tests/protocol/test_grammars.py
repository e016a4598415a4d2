"""Grammars of custom tools: which are fit to use, and what matches them (spec §1.2, R-13)."""

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.errors import InvalidRequestError
from antiphon.protocol import grammars
from antiphon.protocol.grammars import check_grammar
from antiphon.protocol.right_recursion import right_recursion

Json = dict[str, Any]


def mismatch(format_: Json, text: str) -> str | None:
    """With the clock that the server uses."""
    return grammars.mismatch(format_, text, time.thread_time)


#: Codex's own, for its tool apply_patch.
PATCH = r"""
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"""
#: As in OpenAI's guide to function calling.
SUM = r"""
start: expr
expr: term (SP ADD SP term)* -> add
| term
term: factor (SP MUL SP factor)* -> mul
| factor
factor: INT
SP: " "
ADD: "+"
MUL: "*"
%import common.INT
"""
JSON = r"""
start: value
?value: object | array | STRING | NUMBER | "true" | "false" | "null"  // any value
array: "[" [value ("," value)*] "]"
object: "{" [pair ("," pair)*] "}"
pair: STRING ":" value
STRING: "\"" /([^"\\\x00-\x1f]|\\["\\\/bfnrt]|\\u[0-9a-fA-F]{4})*/ "\""
NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/
%import common (WS)  # blanks
%ignore WS
"""
DATE = (
    r"^(?P<month>January|February|March)\s+(?P<day>\d{1,2})(?:st|nd|rd|th)?\s+(?P<year>\d{4})"
    r"\s+at\s+(?P<hour>0?[1-9]|1[0-2])(?P<ampm>AM|PM)$"
)


def lark(definition: str) -> Json:
    return {"type": "grammar", "syntax": "lark", "definition": definition}


def regex(definition: str) -> Json:
    return {"type": "grammar", "syntax": "regex", "definition": definition}


#: name, grammar, texts that match, texts that do not
MATCHES: list[tuple[str, Json, list[str], list[str]]] = [
    (
        "a patch",
        lark(PATCH),
        [
            "*** Begin Patch\n*** Add File: a.txt\n+x\n+\n*** End Patch",
            "*** Begin Patch\n*** Update File: é\n@@ def f():\n-a\n+b\n c\n*** End Patch\n",
        ],
        ["", "*** Begin Patch\n*** End Patch", "*** Begin Patch\n*** Add File: a\nx\n"],
    ),
    ("a sum", lark(SUM), ["1", "1 + 2 * 3"], ["1+2", "1 +", "x"]),
    ("JSON", lark(JSON), ['{"a": [1, -2.5e3, "\\n"]}', "null", "[ 1 ]"], ["{a: 1}", "[ 1 ] "]),
    ("a date", regex(DATE), ["March 3rd 2025 at 10AM"], ["March 3rd 2025 at 13AM", " March"]),
    ("the whole text", regex("a|ab"), ["a", "ab"], ["abc", "xa", "b", ""]),
    ("nothing", regex("a?"), ["", "a"], ["aa"]),
    ("one line", regex(".+"), ["é 漢 😀"], ["a\nb", ""]),
    ("all lines", regex("(?s:.)+"), ["a\nb"], [""]),
    ("letters of any language", regex(r"\w+"), ["Grüße", "слово"], ["a b"]),
    ("a slash", regex("a/b"), ["a/b"], ["ab"]),
    ("either case", lark('start: "select"i'), ["SeLeCt"], ["selec"]),
    ("a range", lark('start: "a".."c" "x"~2..3 "y"{2}'), ["bxxyy", "cxxxyy"], ["dxxyy", "bxyy"]),
    ("a choice of 500 words", lark("start: " + " | ".join(f'"w{i}"' for i in range(500))),
     ["w499"], ["w500", "x"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"), [row[1:] for row in MATCHES], ids=[row[0] for row in MATCHES]
)
def test_a_text_matches_or_not(grammar: Json, right: list[str], wrong: list[str]) -> None:
    check_grammar(grammar, "tools[0]")
    assert [mismatch(grammar, text) for text in right] == [None] * len(right)
    assert None not in [mismatch(grammar, text) for text in wrong]


def test_any_text_is_right_for_a_format_without_a_grammar() -> None:
    assert mismatch({"type": "text"}, "anything") is None
    assert mismatch({}, "anything") is None


def test_the_model_is_told_where_it_went_wrong() -> None:
    assert mismatch(lark(SUM), "1 + é") == (
        'It stops matching at character 5: after "1 + ", "é" is not allowed.'
    )
    assert mismatch(lark(PATCH), "*** Begin Patch\n*** Add") == (
        'It ends too early, with "*** Begin Patch\\n*** Add": the grammar wants more.'
    )
    told = mismatch(regex("(é|ab)+x"), "é" * 500 + "b" * 500) or ""
    assert told.startswith("It stops matching at character 501: after ")
    assert len(told) < 200


def test_half_a_surrogate_pair_matches_nothing() -> None:
    assert mismatch(regex("(?s:.)*"), "a\ud800b") is not None


#: name, syntax, definition, what is wrong with it
UNFIT: list[tuple[str, str, str, str]] = [
    ("no start", "lark", 'a: "x"', "there is no rule 'start'"),
    ("nothing", "lark", " ", "there is no rule 'start'"),
    ("unknown rule", "lark", "start: x", "line 1, column 8: 'x' is not defined"),
    ("unknown terminal", "lark", "start: X", "'X' is not defined"),
    ("twice", "lark", 'start: "a"\nstart: "b"', "line 2, column 8: 'start' is defined twice"),
    ("itself", "lark", "start: X\nX: Y\nY: X", "the terminal 'X' refers to itself"),
    ("matches nothing", "lark", 'start: start "a"', "it matches no text at all"),
    ("regular expression", "lark", "start: /(/", "a regular expression is not valid"),
    ("look-ahead", "lark", "start: /a(?=b)/", "look-around and word boundaries are not supported"),
    ("word boundary", "regex", r"\bfoo", "look-around and word boundaries are not supported"),
    ("group", "regex", "(", "a regular expression is not valid"),
    ("back reference", "regex", r"(a)\1", "a regular expression is not valid"),
    ("group", "lark", 'start: (("a"', "it is not well-formed"),
    ("no colon", "lark", 'start "a"', "line 1: a colon must follow 'start'"),
    ("quotes", "lark", "\nstart: 'a'", "line 2: strings are written in double quotes"),
    ("no end", "lark", 'start: "a', 'line 1: " has no end'),
    ("control character", "lark", "start: \x00", "line 1: a control character cannot stand here"),
    ("range", "lark", 'start: "a"{3,2}', "a range of repetitions is not valid"),
    ("no such import", "lark", "%import common.NO\nstart: NO", "there is no 'NO' to import"),
    ("import", "lark", "%import python.X\nstart: X", "only '%ignore' and '%import common' are"),
    ("declare", "lark", "%declare X\nstart: X", "'%declare' is not a rule, a terminal or a statem"),
    ("template", "lark", 'start: t{"a"}\nt{x}: x', "line 2: a colon must follow 't'; attributes,"),
    ("priority", "lark", 'start: X\nX.2: "a"', "line 2: a colon must follow 'X'"),
    ("lazy", "lark", "start[lazy]: /a+/", "a colon must follow 'start'; attributes,"),
    ("parameter", "lark", 'start: p::0\np::_: "a"', "':' cannot stand here"),
    ("schema", "lark", 'start: %json {"$ref": "http://x/"}', "'%json' cannot stand here"),
    ("structured", "lark", 'start: %regex {"substring_chars": "ab"}', "'%regex' cannot stand here"),
    ("options", "lark", '%llguidance {}\nstart: "a"', "'%llguidance' is not a rule"),
    ("special token", "lark", "start: <|tool|>", "'<' cannot stand here"),
    ("another grammar", "lark", "start: @other", "'@' cannot stand here"),
    ("negation", "lark", 'start: A\nA: ~"a"', "line 2: '~' cannot stand here"),
    ("intersection", "lark", 'start: A\nA: "a" & /./', "line 2: '&' cannot stand here"),
]


@pytest.mark.parametrize(
    ("syntax", "definition", "problem"), [row[1:] for row in UNFIT], ids=[row[0] for row in UNFIT]
)
def test_a_grammar_that_cannot_be_used_is_refused(
    syntax: str, definition: str, problem: str
) -> None:
    """R-13, R-42: in our own words, with the place; only what the client wrote is repeated."""
    message = refused(lark(definition) | {"syntax": syntax})
    kind = {"lark": "Lark grammar", "regex": "regular expression"}[syntax]
    assert message.startswith(f"Invalid 'tools[2].format.definition': the {kind} cannot be used: ")
    assert problem in message
    assert len(message) < 250


def refused(grammar: Json) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        check_grammar(grammar, "tools[2]")
    error = caught.value
    assert (error.status, error.param) == (400, "tools[2].format.definition")
    assert error.code in ("invalid_value", "string_above_max_length")
    return error.message


def test_a_definition_has_at_most_64_kib() -> None:
    """R-13."""
    check_grammar(lark('start: "a" //' + "x" * (65_536 - 13)), "tools[2]")
    assert "maximum length 65536" in refused(lark('start: "a" //' + "x" * 65_536))


# -- hostile grammars ----------------------------------------------------------------------------


def chain(count: int, body: str) -> str:
    """Definitions of which each names the next."""
    one, first = (body, "r0") if "r{n}" in body else (body, "T0")
    name = first[0]
    rules = [f"{name}{i}: " + one.format(n=i + 1) for i in range(count)]
    return "\n".join([f"start: {first}", *rules, f'{name}{count}: "c"'])


#: name, syntax, definition: they ended the process, took all memory, or seconds, without our limits
HOSTILE: list[tuple[str, str, str, str]] = [
    ("levels of rules", "lark", chain(2_500, '"a" r{n} | "b"'), "nested more than 100 levels"),
    ("levels of terminals", "lark", chain(500, '("a" T{n})? "b"'), "nested more than 100 levels"),
    ("levels of groups", "lark", "start: " + "(" * 9_000 + '"a"' + ")" * 9_000, "nested"),
    ("levels of both", "lark", chain(30, "(" * 20 + "r{n}" + ")" * 20), "nested more than 100"),
    ("levels of a regex", "regex", "(" * 30_000 + "a" + ")" * 30_000, "not valid"),
    ("optional letters", "regex", "a?" * 30_000, "too complex"),
    ("optional words", "regex", r"(?i)" + "abcdefgh" * 500, "too complex"),
    ("optional terminals", "lark", "start: A\nA: " + '"a"? ' * 9_000, "too complex"),
    ("letters of any case", "lark", 'start: "' + "a" * 5_000 + '"i', "too complex"),
    ("doubled terminals", "lark", chain(60, "T{n}? T{n}"), "too complex"),
    ("a doubled letter", "lark", chain(60, "T{n} T{n}"), "too complex"),
    ("nested loops", "lark", chain(45, '(T{n}* "b")* "z" | "q"'), "too complex"),
    ("negated loops", "lark", chain(5, '~(~(T{n} "b")+)+'), "cannot stand here"),
    ("symbols", "lark", "start: " + '"a"? ' * 9_000, "too complex"),
    (
        "first words",
        "lark",
        "start: " + "|".join(f'"w{i}"' for i in range(2_100)),
        "too many alter",
    ),
    ("digits", "lark", 'start: "a"~' + "9" * 60_000, "cannot be used"),
]


@pytest.mark.parametrize(
    ("syntax", "definition", "problem"), [row[1:] for row in HOSTILE], ids=[r[0] for r in HOSTILE]
)
def test_a_hostile_grammar_is_refused_soon(syntax: str, definition: str, problem: str) -> None:
    """R-13. In a thread with 1 MiB of stack, the least that Python has anywhere."""
    message, seconds = in_a_small_thread(
        lambda: refused({"type": "grammar", "syntax": syntax, "definition": definition})
    )
    assert problem in message
    assert seconds < 1.5  # 0.1 s alone


def in_a_small_thread(work: Callable[[], str]) -> tuple[str, float]:
    """What it returns, and the seconds of its own thread that it took."""
    answers: list[tuple[str, float]] = []

    def run() -> None:
        answer = work()
        answers.append((answer, time.thread_time()))

    previous = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(previous)
    return answers[0]


#: name, grammar that is fit to use, text, what is said of the text; None: it matches
COSTLY: list[tuple[str, Json, str, str | None]] = [
    ("backtracking", regex("(x+x+)+y"), "x" * 60_000, "ends too early"),
    ("repeats of repeats", regex("(a{1000}){1000}"), "a" * 10_000, "ends too early"),
    ("many ends", regex("(.{1,1000}){1,1000}"), "a" * 60_000, "too complex"),
    ("a large machine", regex("(a|b)*a(a|b){2000}"), "ab" * 30_000, "too complex"),
    ("left recursion", lark('start: start "a" | "a"'), "a" * 60_000, None),
    ("right recursion", lark('start: "a" start | "a"'), "a" * 600, None),
    ("long right recursion", lark('start: "a" start | "b"'), "a" * 4_000 + "b", "too complex"),
    ("hidden recursion", lark('start: "a" start "c"? | "b"'), "a" * 60_000 + "b", "too complex"),
    ("recursion in the middle", lark('start: "(" start ")" | "a"'),
     "(" * 60_000 + "a" + ")" * 60_000, None),
    ("a prefix", lark('start: s+\ns: n ";"\nn: "-" n | "(" s ")" | /[0-9]+/'),
     "--12;" * 1_500, None),
    ("ambiguity", lark('start: start start | "a"'), "a" * 200, None),
    ("long ambiguity", lark('start: start start | "a" | ""'), "a" * 1_000, "too complex"),
    ("very long ambiguity", lark('start: start start | "a"'), "a" * 10_000, "too complex"),
    ("too long", regex("a*"), "a" * 300_000, "262,144 at most"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("grammar", "text", "told"), [row[1:] for row in COSTLY], ids=[row[0] for row in COSTLY]
)
def test_a_costly_text_is_given_up_soon(grammar: Json, text: str, told: str | None) -> None:
    check_grammar(grammar, "tools[2]")
    answer, seconds = in_a_small_thread(lambda: mismatch(grammar, text) or "")
    assert told in answer if told else answer == ""
    assert seconds < 5  # 2.1 s at most


def test_a_text_gets_two_seconds() -> None:
    ticks = iter(range(100))
    told = grammars.mismatch(regex("a*"), "a" * 100, lambda: float(next(ticks)))
    assert told is not None
    assert "too complex" in told
    assert next(ticks) == 4  # one when it begins, and until more than two have gone
    assert grammars.mismatch(regex("a*"), "a" * 100, lambda: 1.0) is None


@pytest.mark.parametrize(
    "definition",
    [
        chain(98, '"a" r{n} | "b"'),
        chain(40, '("a" T{n})? "b"'),
        chain(4, "(" * 20 + '"a" r{n} | "b"' + ")" * 20),
        chain(25, 'T{n}* "b" | "c"'),
    ],
    ids=["rules", "terminals", "groups", "loops"],
)
def test_as_many_levels_as_are_allowed_need_little_stack(definition: str) -> None:
    """They would end the process."""
    grammar = lark(definition)

    def use() -> str:
        check_grammar(grammar, "tools[2]")
        return mismatch(grammar, "") or ""

    told, _ = in_a_small_thread(use)
    assert "ends too early" in told


#: name, definition, text, items that one byte can end: symbols of the rules in a circle, for each
#: time that the text can go through it
OPEN: list[tuple[str, str, str, int]] = [
    ("none", 'start: a b\na: "a"*\nb: "b"', "aaab", 0),
    ("on the left", 'start: start "a" | "a"', "aaa", 0),
    ("in the middle", 'start: "(" start ")" | "a"', "((a))", 0),
    ("in the middle, with names", 'start: L start R | "a"\nL: "("\nR: ")"', "((a))", 0),
    ("on the right", 'start: "a" start | "b"', "aab", 3 * (1 + 2)),
    ("of any case", 'start: "a"i start | "b"', "aAb", 3 * (1 + 2)),
    ("a longer literal", 'start: "aa" start | "b"', "aaaab", 3 * (1 + 3)),
    ("a named literal", 'start: A start | "b"\nA: "a"', "aab", 3 * (1 + 2)),
    ("no literal", 'start: A start | "b"\nA: /a/', "aab", 3 * (1 + 3)),
    ("before what may be empty", 'start: "a" start "c"? | "b"', "aab", 4 * (1 + 2)),
    ("before a repetition", 'start: "a" start "c"~0..2 | "b"', "aab", 4 * (1 + 2)),
    ("before a rule", 'start: "a" start c | "b"\nc: "c"*', "aab", 4 * (1 + 2)),
    ("in parentheses", 'start: b ("," start)*\nb: "b"', "b,b", 3 * (1 + 3)),
    ("in brackets", 'start: "b" ["," start]', "b,b", 3 * (1 + 2)),
    ("in a circle", 'start: x\nx: "a" y | "b"\ny: x', "aab", 4 * (1 + 2 + 3)),
    ("in two ways", 'start: start start | "a"', "aa", 3 * (1 + 2 + 2)),
    ("in two circles", 'start: "a" start | x\nx: "b" x | "c"', "abc", 3 * 2 + 3 * 2),
]


@pytest.mark.parametrize(
    ("definition", "text", "items"), [row[1:] for row in OPEN], ids=[row[0] for row in OPEN]
)
def test_it_is_known_how_much_a_text_can_hold_open(definition: str, text: str, items: int) -> None:
    assert right_recursion(definition).most_open(text) == items


def test_a_long_text_lets_others_work() -> None:
    """R-118: no step holds the interpreter for long."""
    pauses: list[float] = []
    over = threading.Event()

    def wait_for_turns() -> None:
        last = time.perf_counter()
        while not over.wait(0.001):
            now = time.perf_counter()
            pauses.append(now - last)
            last = now

    watcher = threading.Thread(target=wait_for_turns)
    watcher.start()
    try:
        assert mismatch(lark('start: start start | "a"'), "a" * 220) is None
    finally:
        over.set()
        watcher.join()
    assert max(pauses) < 0.25  # 0.02 s alone; in one step it would be 0.3 s


def test_one_text_does_not_use_up_what_another_may_cost() -> None:
    """What is compiled keeps its fuel for one text."""
    grammar = regex("(.{1,1000}){1,1000}")
    for _ in range(3):
        assert mismatch(grammar, "a" * 10) is None
        assert "too complex" in (mismatch(grammar, "a" * 60_000) or "")


# -- anything ------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ['"a"', "/a+/", "(", ")", "|", "?", "*", "start", "x", "X", ":", "\n", " ", "[", "]", "{2}",
     "~2", "->", "%import common.INT", "%ignore", "/", '"', "//", ".", "é", "&"]
)  # fmt: skip


@given(
    st.sampled_from(["lark", "regex"]),
    st.text(max_size=60) | st.lists(PIECES, max_size=25).map("".join),
    st.text(st.characters(), max_size=40),
)
def test_no_grammar_raises_anything_but_its_own_error(
    syntax: str, definition: str, text: str
) -> None:
    grammar = {"type": "grammar", "syntax": syntax, "definition": definition}
    try:
        check_grammar(grammar, "tools[2]")
    except InvalidRequestError:
        return
    told = mismatch(grammar, text)
    assert told is None or told


@settings(max_examples=50)
@given(st.from_regex(r"\A[a-c]{1,3}(x|yz)*[0-9]?\Z"), st.text("abcxyz0", max_size=8))
def test_a_regular_expression_means_what_it_means_elsewhere(right: str, other: str) -> None:
    pattern = "[a-c]{1,3}(x|yz)*[0-9]?"
    assert mismatch(regex(pattern), right) is None
    assert (mismatch(regex(pattern), other) is None) == bool(re.fullmatch(pattern, other))
