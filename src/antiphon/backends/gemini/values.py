"""Values of Gemini's answers → ours: log probabilities and usage. Pure.

Rules
1. A value of another type raises `TypeError` or `KeyError`: the chunk is none of Gemini's.
2. Counts that are missing or senseless are 0; larger ones than JSON can carry are cut.
"""

from typing import Any

from antiphon.backends.values import token_of
from antiphon.protocol.deltas import Logprob
from antiphon.protocol.fields import MAX_INT
from antiphon.protocol.response import Usage

Json = dict[str, Any]


def logprobs_of(result: Json | None) -> list[Logprob]:
    """The tokens of a `logprobsResult`, each with its alternatives."""
    if not result:
        return []
    tops = result.get("topCandidates") or ()
    others = [[_token(each) for each in top.get("candidates") or ()] for top in tops]
    chosen = [_token(each) for each in result.get("chosenCandidates") or ()]
    return [
        {**token, "top_logprobs": others[place] if place < len(others) else []}
        for place, token in enumerate(chosen)
    ]


def _token(candidate: Json) -> Logprob:
    # JSON of protobuf leaves zeros out.
    return token_of(candidate["token"], candidate.get("logProbability", 0.0))


def usage_of(usage: Json) -> Usage:
    """Tokens of the call. Gemini counts thoughts beside the answer, and what its own tools brought
    beside the prompt; what was cached is in the prompt."""
    thoughts = _count(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=_count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount"),
        cached_tokens=_count(usage, "cachedContentTokenCount"),
        output_tokens=_count(usage, "candidatesTokenCount") + thoughts,
        reasoning_tokens=thoughts,
    )


def _count(usage: Any, key: str) -> int:
    value = usage.get(key) if isinstance(usage, dict) else None
    return min(value, MAX_INT) if isinstance(value, int) and value > 0 else 0
