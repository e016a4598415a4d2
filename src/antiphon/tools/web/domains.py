"""Domains that a search and the pages behind it are limited to (spec §1.2 `filters`)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

#: ``https://``, ``*.`` and a path are not part of a domain, but people write them.
_DOMAIN: Final = re.compile(r"(?:https?://)?(?:\*\.)?([^/:?#@\s]+)(?::[0-9]+)?(?:[/?#].*)?")
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Domains:
    """What is admitted: a domain stands for all below it. No `allowed` ones: all."""

    allowed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    def admits(self, host: str) -> bool:
        """Whether something at this host may be shown and read."""
        if any(_is_below(host, domain) for domain in self.blocked):
            return False
        return not self.allowed or any(_is_below(host, domain) for domain in self.allowed)


def domain_of(entry: str) -> str:
    """A domain as somebody wrote it, as hosts are written. Raises ValueError."""
    match = _DOMAIN.fullmatch(entry.strip().lower())
    try:
        name = match[1].encode("idna").decode() if match else ""
    except UnicodeError:
        name = ""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{entry!r} is not a domain")
    return name


def domains_of(entries: Iterable[str] | None) -> tuple[str, ...]:
    """All of them, once each. Raises ValueError."""
    return tuple(dict.fromkeys(map(domain_of, entries or ())))


def host_of(url: str) -> str | None:
    """The host of a page's URL in lower case; None: it is no URL of a page, or names a user."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or not url.isprintable():
        return None
    return host


def _is_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
