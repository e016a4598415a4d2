"""Definitions of an MCP server's tools: as the server lists them, as `mcp_list_tools` shows them.

Rules
1. Whatever stands in a definition is somebody else's text: bounded, without characters that a
   human does not see (reliability R-89, R-123).
2. A tool that cannot be used is left out, and the others stay: one whose name is not 1 to 256
   printable characters, or whose schema is no object's, too long or too deep.
3. Reading a definition that was read before changes nothing: what an approval is bound to is the
   same whether the list came from the server or out of the context (R-125).
4. A list that is shown is marked with what it was made for: the server, and the tools that were
   allowed. The mark is an annotation of each tool, where OpenAI's API leaves the keys open.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeGuard

import orjson

from antiphon.protocol.untrusted import visible
from antiphon.tools.mcp.faults import TooMuch

Json: TypeAlias = dict[str, Any]

#: R-89.
MOST_TOOLS: Final = 128
MOST_TEXT: Final = 1 << 20
#: R-13: characters and depth of one schema.
_MOST_SCHEMA: Final = 64 * 1024
_MOST_DEPTH: Final = 64
#: MCP has no limit; OpenAI's for the description of a function was 1,024 for long.
_MOST_DESCRIPTION: Final = 16 * 1024
_MOST_NAME: Final = 256
_MARK: Final = "listed_for"


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool of a server, as far as it is of use here."""

    name: str
    description: str
    input_schema: Json
    #: The server says so; nobody can check it.
    read_only: bool

    def listed(self, mark: str) -> Json:
        """The tool in an `mcp_list_tools` item, key by key as OpenAI shows it. There is no null:
        the AI SDK of Vercel does not take it (spec §4.3)."""
        shown: Json = {"annotations": {"read_only": self.read_only, _MARK: mark}}
        if self.description:
            shown["description"] = self.description
        return {**shown, "input_schema": self.input_schema, "name": self.name}

    def fingerprint(self, server: str) -> str:
        """What an approval is bound to: the definition, and the server that it goes to."""
        whole = [server, self.name, self.description, self.input_schema]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def is_objects(schema: object) -> TypeGuard[Json]:
    """Whether it is the schema of an object, and well-formed as far as everybody reads it."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return False
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict | None) or not isinstance(required, list | None):
        return False
    return (
        all(isinstance(one, dict | bool) for one in (properties or {}).values())
        and all(isinstance(name, str) for name in required or ())
        and isinstance(schema.get("$schema"), str | None)
    )


def definition(name: object, description: object, schema: object, read_only: object) -> Definition:
    """A usable definition. Raises `ValueError` (rule 2)."""
    if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or not name.isprintable():
        raise ValueError("the name cannot be used")
    if not is_objects(schema):
        raise ValueError("the schema is no object's")
    if _depth(schema) > _MOST_DEPTH:
        raise ValueError("the schema is too deep")
    written = _encoded(schema).decode()
    if len(written) > _MOST_SCHEMA:
        raise ValueError("the schema is too long")
    clean = visible(written)
    seen: Json = schema if clean == written else orjson.loads(clean)
    text = visible(description) if isinstance(description, str) else ""
    return Definition(name, text[:_MOST_DESCRIPTION], {"type": "object", **seen}, read_only is True)


def mark_of(server: str, allowed: Json | None) -> str:
    """What a list of `server` is marked with, of which `allowed` is shown: `filters.plain`."""
    whole = orjson.dumps([server, allowed], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(whole).hexdigest()[:16]


def mark_in(tools: object) -> str | None:
    """The mark in `tools` of an `mcp_list_tools` item; None: somebody else made it."""
    for tool in tools if isinstance(tools, list) else []:
        hints = tool.get("annotations") if isinstance(tool, dict) else None
        if isinstance(hints, dict) and isinstance(hints.get(_MARK), str):
            mark: str = hints[_MARK]
            return mark
    return None


def from_item(tools: object) -> list[Definition]:
    """The usable definitions in `tools` of an `mcp_list_tools` item."""
    found = []
    for tool in tools if isinstance(tools, list) else []:
        if not isinstance(tool, dict):
            continue
        hints = tool.get("annotations")
        read_only = hints.get("read_only") if isinstance(hints, dict) else None
        found.append(
            (tool.get("name"), tool.get("description"), tool.get("input_schema"), read_only)
        )
    return usable(found)


def usable(tools: Iterable[tuple[object, object, object, object]]) -> list[Definition]:
    """The usable ones of (name, description, schema, whether it only reads), each name once."""
    found: dict[str, Definition] = {}
    for tool in tools:
        try:
            made = definition(*tool)
        except ValueError:
            continue
        found.setdefault(made.name, made)
    return list(found.values())


def check_amount(definitions: list[Definition]) -> None:
    """Raise `TooMuch` for more than a model can be shown (R-89)."""
    text = sum(len(d.description) + len(_encoded(d.input_schema)) for d in definitions)
    if len(definitions) > MOST_TOOLS or text > MOST_TEXT:
        raise TooMuch


def _encoded(schema: Json) -> bytes:
    try:
        return orjson.dumps(schema)
    except orjson.JSONEncodeError as error:  # an integer of more than 64 bits, half a character
        raise ValueError("the schema cannot be written") from error


def _depth(schema: Json) -> int:
    """How deep a schema is nested; without recursion, whatever a server sends."""
    level: list[Any] = [schema]
    depth = 0
    while level and depth <= _MOST_DEPTH:
        depth += 1
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
    return depth
