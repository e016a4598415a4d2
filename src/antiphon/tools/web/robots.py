"""robots.txt (RFC 9309), whose author is not to be trusted either.

Rules
1. The groups of the most exact agent count, all together; the longest matching rule wins, and
   ``allow`` wins a tie (§2.2.2).
2. ``*`` and ``$`` are matched by searching onwards, never with a regular expression of the site's.
"""

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import quote

#: Our name in a robots.txt.
AGENT: Final = "antiphon"
#: Characters of a rule or a path that are looked at.
_MOST: Final = 2_048


class Rule(NamedTuple):
    """``allow`` or ``disallow``: the pieces of a path between its ``*``."""

    allows: bool
    pieces: tuple[str, ...]
    #: It must end where the path ends (``$``).
    ends: bool
    length: int

    def matches(self, path: str) -> bool:
        """Whether the rule is about this path, which begins with ``/``."""
        first, *more = self.pieces
        if not path.startswith(first):
            return False
        place = len(first)
        for piece in more[:-1] if self.ends else more:
            found = path.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        if not self.ends:
            return True
        return path.endswith(more[-1], place) if more else len(path) == place


@dataclass(frozen=True, slots=True)
class Robots:
    """What a site's robots.txt says to us."""

    rules: tuple[Rule, ...] = ()
    size: int = 0

    def allow(self, path: str) -> bool:
        """Whether we may read this path with its query, both as they are sent."""
        path = (path or "/")[:_MOST]
        matching = [(rule.length, rule.allows) for rule in self.rules if rule.matches(path)]
        return max(matching)[1] if matching else True


#: There is no robots.txt.
ALL: Final = Robots()
#: The site tells nobody what it allows.
NOTHING: Final = Robots((Rule(allows=False, pieces=("/",), ends=False, length=1),), 1)


@dataclass(slots=True)
class _Group:
    agents: set[str] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)


def parse_robots(text: str, agent: str = AGENT) -> Robots:
    """The rules of a robots.txt for `agent`."""
    groups = list(_groups(_lines(text)))
    own = [group for group in groups if agent in group.agents]
    chosen = own or [group for group in groups if "*" in group.agents]
    rules = tuple(rule for group in chosen for rule in group.rules)
    return Robots(rules, sum(100 + rule.length for rule in rules))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.removeprefix("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _groups(lines: Iterable[tuple[str, str]]) -> Iterator[_Group]:
    group = _Group()
    for key, value in lines:
        if key == "user-agent":
            if group.rules:
                yield group
                group = _Group()
            group.agents.add(value.partition("/")[0].strip().lower())
        elif key in ("allow", "disallow") and group.agents:
            group.rules.append(_rule(key == "allow", value[:_MOST]))
    yield group


def _rule(allows: bool, path: str) -> Rule:
    """An empty one says nothing: it matches like an ``allow`` of everything."""
    path = quote(path, safe=string.printable)  # as paths are sent
    ends = path.endswith("$")
    pieces = tuple(path.removesuffix("$").split("*"))
    return Rule(allows or not path, pieces, ends, len(path))
