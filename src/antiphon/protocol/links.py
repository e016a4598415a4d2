"""URLs in a text that comes in pieces: Markdown links, and URLs that stand alone. Pure, and linear.

Rules
1. `LinkFinder` reads each character once and keeps no text but the URL at hand; whoever feeds it
   may show the text at once. What it finds is the same however the text is cut.
2. A Markdown link is ``[label](url)`` on one line, and the parentheses right around it belong to
   it. A URL alone ends at white space, at a character that URLs do not have, or at a parenthesis
   that it did not open.
3. A URL has less than `MOST_URL` characters, a label less than `MOST_LABEL`; what is longer is not
   found. Code, titles in links and backslashes before brackets are not looked for.
"""

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

#: Browsers and servers take about 2,000.
MOST_URL: Final = 2100
MOST_LABEL: Final = 1000
#: Brackets that may be open at once.
_DEEPEST: Final = 16

#: A bare URL does not begin in the middle of a word of ASCII letters; in Japanese it may.
_TOKEN: Final = re.compile(
    r"\[+|\n+|\]+(?:\((?=https?://))?|(?<![0-9A-Za-z])https?://", re.IGNORECASE
)
#: The end of a text that may be the beginning of a longer token, and how long that can be.
_UNDECIDED: Final = re.compile(r"(?:\]\(?)?(?:h(?:t(?:t(?:ps?(?::/?)?)?)?)?)?\Z", re.IGNORECASE)
_LONGEST_UNDECIDED: Final = len("](https:/")
#: White space, what URLs escape, typographic quotes, punctuation of Chinese and Japanese.
_URL_PART: Final = re.compile(
    r"[^\s<>\"`\\^{|}\[\]()\u2018-\u201f\u2026\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff65]+"
    r"|[()]"
)
_SENTENCE: Final = ".,;:!?'*_~"
_ASCII: Final = re.compile("[!-~]*")
_URL: Final = re.compile(
    r"https?://(?:[^/?#@]*@)?(?:www\.)?([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE
)
_PORT: Final = re.compile(r":[0-9]*\Z")
_NO_HOST: Final = re.compile(r"[^\w.:-]")
_UNSAFE: Final = re.compile(r"[^!-~]+|[\"()<>\[\\\]^`{|}]")
_ESCAPED: Final = re.compile("%[0-9A-Fa-f]{2}")


# -- a URL ---------------------------------------------------------------------------------------


def host(url: str) -> str:
    """The host of an http(s) URL as people read it: no ``www.``, no port; empty if it is none.

    Nor is it one with a backslash: browsers read that as a slash, which moves the host.
    """
    match = _URL.match(url)
    if match is None or "\\" in url:
        return ""
    return _NO_HOST.sub("", _PORT.sub("", match[1].lower()))


def ascii_url(url: str) -> str:
    """The same URL, with percent-encoded what a Markdown link could not hold."""
    return _UNSAFE.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), url
    )


def comparable(url: str) -> str:
    """Equal for URLs that lead to the same page as far as one can tell: scheme, ``www.``, fragment,
    ``utm_`` parameters, slashes at the end and the way of escaping do not count."""
    match = _URL.match(url)
    if match is None:
        return url
    asked = [
        pair for pair in (match[3] or "").split("&") if pair and not pair.lower().startswith("utm_")
    ]
    page = match[1].lower() + match[2].rstrip("/") + ("?" if asked else "") + "&".join(asked)
    return _ESCAPED.sub(lambda escaped: escaped[0].upper(), ascii_url(page))


def spellings(url: str) -> list[str]:
    """What may be meant by a URL as it stands in a sentence, the likeliest first: without the
    sentence's punctuation, without a following word that is not ASCII, as it is."""
    plain = _ASCII.match(url)
    shorter = plain[0].rstrip(_SENTENCE) if plain else ""
    return list(dict.fromkeys((url.rstrip(_SENTENCE), shorter, url)))


# -- finding them --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A URL as it stands in the text. `start` and `end` are those of the Markdown link with the
    parentheses around it, or of the URL if it is `alone`."""

    start: int
    end: int
    url: str
    alone: bool


@dataclass(frozen=True, slots=True)
class _Label:
    start: int
    #: A parenthesis opens right before it.
    wrapped: bool


@dataclass(slots=True)
class _Run:
    """A URL that has not ended yet."""

    start: int
    label: _Label | None
    parts: list[str] = field(default_factory=list)
    length: int = 0
    #: Parentheses that are open in it.
    depth: int = 0


class LinkFinder:
    """Finds links; positions count the characters of all that was fed or skipped."""

    def __init__(self) -> None:
        self._read = 0
        #: The last characters read: one that is decided, and what is not.
        self._context = ""
        self._undecided = ""
        self._labels: deque[_Label] = deque(maxlen=_DEEPEST)
        self._run: _Run | None = None
        #: A link behind an opening parenthesis: does one close right after it?
        self._wrapped: Link | None = None
        self._found: list[Link] = []

    def feed(self, text: str) -> list[Link]:
        """The links that `text` brings to their end. A URL alone ends where the next thing begins,
        so it may have ended before `text`."""
        whole = self._context + self._undecided + text
        self._read += len(text)
        at, base = len(self._context), self._read - len(whole)
        self._undecided = ""
        while at < len(whole):
            if self._wrapped is not None:
                at += self._unwrap(self._wrapped, closes=whole[at] == ")")
            elif self._run is not None:
                at = self._follow(self._run, whole, at, base)
            else:
                at = self._look(whole, at, base)
        decided = len(whole) - len(self._undecided)
        self._context = whole[max(decided - 1, 0) : decided]
        return self._take()

    def skip(self, count: int) -> list[Link]:
        """`count` characters follow that are no business of ours; the links that end before."""
        if self._wrapped is not None:
            self._unwrap(self._wrapped, closes=False)
        if (run := self._run) is not None:
            self._stand_alone(run)
        self._context = self._undecided = ""
        self._read += count
        return self._take()

    def _take(self) -> list[Link]:
        found, self._found = self._found, []
        return found

    def _look(self, text: str, at: int, base: int) -> int:
        """Go on to where a URL begins, or to the end of `text`."""
        tail = _UNDECIDED.search(text, max(at, len(text) - _LONGEST_UNDECIDED))
        limit = tail.start() if tail else len(text)
        for match in _TOKEN.finditer(text, at, limit):
            token = match[0]
            if token[0] == "[":
                self._open(text, match.start(), match.end(), base)
            elif token[0] == "]":
                label = self._close(token.count("]"))
                if token[-1] == "(":
                    self._run = _Run(base + match.end(), label)
                    return match.end()
            elif token[0] == "\n":
                self._labels.clear()
            else:
                self._run = _Run(base + match.start(), None)
                return match.start()
        self._undecided = text[limit:]
        return len(text)

    def _open(self, text: str, start: int, end: int, base: int) -> None:
        for at in range(max(start, end - _DEEPEST), end):
            self._labels.append(_Label(base + at, wrapped=at > 0 and text[at - 1] == "("))

    def _close(self, count: int) -> _Label | None:
        """The label that the last of `count` brackets closes."""
        if count > len(self._labels):
            self._labels.clear()
            return None
        return [self._labels.pop() for _ in range(count)][-1]

    def _follow(self, run: _Run, text: str, start: int, base: int) -> int:
        """Go on to the end of a URL, or of `text`."""
        at, end = start, min(len(text), start + MOST_URL - run.length)
        while match := _URL_PART.match(text, at, end):
            if (part := match[0]) == ")":
                if run.depth == 0:
                    break
                run.depth -= 1
            elif part == "(":
                run.depth += 1
            run.parts.append(part)
            at = match.end()
        run.length += at - start
        if run.length == MOST_URL:
            self._run = None
        elif at < len(text):
            return at + self._end(run, closes=text[at] == ")", end=base + at + 1)
        return at

    def _end(self, run: _Run, *, closes: bool, end: int) -> int:
        """The characters after the URL that belong to the link; `end` is behind the next one."""
        label = run.label
        if label is None or not closes or run.start - label.start > MOST_LABEL:
            self._stand_alone(run)
            return 0
        self._run = None
        link = Link(label.start, end, "".join(run.parts), alone=False)
        if label.wrapped:
            self._wrapped = link
        else:
            self._found.append(link)
        return 1

    def _stand_alone(self, run: _Run) -> None:
        self._run = None
        self._found.append(Link(run.start, run.start + run.length, "".join(run.parts), alone=True))

    def _unwrap(self, link: Link, *, closes: bool) -> int:
        """The characters after the link that belong to it."""
        self._wrapped = None
        if closes:
            link = replace(link, start=link.start - 1, end=link.end + 1)
        self._found.append(link)
        return int(closes)
