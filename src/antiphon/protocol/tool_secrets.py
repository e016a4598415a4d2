"""What a user keeps secret in a tool, and how the tool is shown without it (reliability R-91).

Rules
1. Secrets are `authorization` and `headers` of an MCP server, what its URL has beside origin and
   path, and the `domain_secrets` of a container.
2. It is asked by key, not by type: in an item a tool of any type may have one (spec §3.4).
"""

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

_SECRET: Final = frozenset({"authorization", "headers", "domain_secrets"})
#: Objects of a tool that may have secrets too.
_INSIDE: Final = frozenset({"environment", "container", "network_policy"})
_AFTER_PATH: Final = re.compile("[?#]")
_USER: Final = re.compile("(?<=//)[^/]*@")


def public(tool: Json) -> Json:
    """The tool without secrets, its own and those of the tools in it."""
    return {key: _public(key, value) for key, value in tool.items() if key not in _SECRET}


def all_public(tools: Sequence[Json]) -> list[Json]:
    """The same for each of them."""
    return [public(tool) for tool in tools]


def public_url(url: str) -> str:
    """Origin and path of a URL."""
    return _USER.sub("", _AFTER_PATH.split(url, maxsplit=1)[0], count=1)


def _public(key: str, value: Any) -> Any:
    if key == "server_url":
        return public_url(value) if isinstance(value, str) else None
    if key in _INSIDE and isinstance(value, dict):
        return public(value)
    if key == "tools" and isinstance(value, list):
        return [public(inner) if isinstance(inner, dict) else inner for inner in value]
    return value
