"""Which tools of an MCP server a request wants, and for which the user is asked (spec §1.2).

Rules
1. A filter names tools (`tool_names`), or means those that say that they only read
   (``read_only: true``); one with both means the tools that fit both. ``read_only: false`` says
   nothing, as OpenAI's description of it does.
2. `allowed_tools` that says nothing allows everything.
3. The user is asked (reliability R-124) unless `require_approval` names the tool in `never` and
   not in `always`. A filter that says nothing names no tool there.
"""

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


def is_allowed(allowed: list[str] | Json | None, name: str, *, read_only: bool) -> bool:
    """Whether `allowed_tools` of a request lets the model see a tool."""
    if allowed is None:
        return True
    if isinstance(allowed, list):
        return name in allowed
    return not _says_something(allowed) or _fits(allowed, name, read_only=read_only)


def plain(allowed: list[str] | Json | None) -> Json | None:
    """`allowed_tools` in the one form in which two of them can be compared; None: everything."""
    wanted = {"tool_names": allowed} if isinstance(allowed, list) else allowed
    if wanted is None or not _says_something(wanted):
        return None
    names = wanted.get("tool_names")
    return {
        "tool_names": None if names is None else sorted(set(names)),
        "read_only": wanted.get("read_only") is True,
    }


def needs_approval(required: str | Json | None, name: str, *, read_only: bool) -> bool:
    """Whether `require_approval` of a request wants the user to be asked."""
    if not isinstance(required, dict):
        return required != "never"
    never, always = required.get("never") or {}, required.get("always") or {}
    excused = _says_something(never) and _fits(never, name, read_only=read_only)
    named = _says_something(always) and _fits(always, name, read_only=read_only)
    return named or not excused


def _says_something(wanted: Json) -> bool:
    return wanted.get("tool_names") is not None or wanted.get("read_only") is True


def _fits(wanted: Json, name: str, *, read_only: bool) -> bool:
    names = wanted.get("tool_names")
    return (names is None or name in names) and (read_only or wanted.get("read_only") is not True)
