"""Values of a Responses stream → ours: log probabilities and usage. Pure.

Rules
1. A value of another type raises `TypeError` or `KeyError`: the event is none of this API.
2. Counts that are missing or senseless are 0; larger ones than JSON can carry are cut.
"""

from typing import Any

from antiphon.backends.values import token_of
from antiphon.protocol.deltas import Logprob
from antiphon.protocol.fields import MAX_INT
from antiphon.protocol.response import Usage


def logprobs_of(entries: Any) -> list[Logprob] | None:
    """Tokens with their alternatives; None: there are none. Streams have no `bytes`: they are
    added."""
    if not entries:
        return None
    return [
        {**_token(entry), "top_logprobs": [_token(top) for top in entry.get("top_logprobs") or ()]}
        for entry in entries
    ]


def _token(entry: dict[str, Any]) -> Logprob:
    return token_of(entry["token"], entry["logprob"], entry.get("bytes"))


def usage_of(usage: dict[str, Any]) -> Usage:
    """Tokens of the call: what was cached is part of the input (spec §7)."""
    return Usage(
        input_tokens=_count(usage, "input_tokens"),
        cached_tokens=_count(usage.get("input_tokens_details"), "cached_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        reasoning_tokens=_count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )


def _count(counts: Any, key: str) -> int:
    value = counts.get(key) if isinstance(counts, dict) else None
    return min(value, MAX_INT) if isinstance(value, int) and value > 0 else 0
