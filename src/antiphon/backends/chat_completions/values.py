"""Values of chat-completions chunks → ours: log probabilities, citations and usage. Pure.

Rules
1. A value of another type raises `TypeError` or `KeyError`: the chunk is not a chat chunk.
2. Counts that are missing or senseless are 0; larger ones than JSON can carry are cut.
"""

from typing import Any, Final

from antiphon.backends.values import UNLIKELY, token_of
from antiphon.protocol.deltas import Logprob
from antiphon.protocol.fields import MAX_INT
from antiphon.protocol.response import Usage

#: What a citation has to have.
_CITED: Final = {"url": str, "title": str, "start_index": int, "end_index": int}


def logprob_of(entry: dict[str, Any]) -> Logprob:
    """One token with its alternatives; `bytes` are added where the server left them out."""
    return {**_token(entry), "top_logprobs": [_token(top) for top in entry.get("top_logprobs", ())]}


def _token(entry: dict[str, Any]) -> Logprob:
    logprob = entry["logprob"]
    return token_of(entry["token"], UNLIKELY if logprob is None else logprob, entry.get("bytes"))


def last_tokens(logprobs: list[Logprob], text: str) -> list[Logprob]:
    """The tokens at the end that make up `text`: those of tags and reasoning are before it."""
    start, length = len(logprobs), 0
    while start and length < len(text):
        start -= 1
        length += len(logprobs[start]["token"])
    return logprobs[start:]


def citation_of(annotation: Any) -> dict[str, Any] | None:
    """A page that the text cites, as the API shows it; None: the annotation says something else."""
    cited = annotation.get("url_citation") if isinstance(annotation, dict) else None
    if not isinstance(cited, dict):
        return None
    # OpenRouter's own search cites pages for all of the text: without a place in it.
    page = {**cited, **{key: cited.get(key) or 0 for key in ("start_index", "end_index")}}
    kept = {key: page[key] for key, kind in _CITED.items() if isinstance(page.get(key), kind)}
    return {"type": "url_citation", **kept} if len(kept) == len(_CITED) else None


def usage_of(usage: dict[str, Any]) -> Usage:
    """Tokens of the call, from any dialect of `usage`."""
    prompt = usage.get("prompt_tokens_details") or {}
    completion = usage.get("completion_tokens_details") or {}
    incoming, outgoing = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    reasoning = _count(completion, "reasoning_tokens")
    if reasoning and _count(usage, "total_tokens") == incoming + outgoing + reasoning:
        outgoing += reasoning  # xAI counts reasoning beside the completion, OpenAI inside it
    cached = (
        _count(prompt, "cached_tokens")
        or _count(usage, "prompt_cache_hit_tokens")  # DeepSeek
        or _count(usage, "cached_tokens")  # Kimi
    )
    return Usage(
        input_tokens=incoming,
        cached_tokens=cached,
        output_tokens=outgoing,
        reasoning_tokens=reasoning,
    )


def _count(counts: Any, key: str) -> int:
    value = counts.get(key) if isinstance(counts, dict) else None
    if isinstance(value, (int, float)) and value > 0:  # 5.0 is a number of tokens, too
        return int(min(value, MAX_INT))
    return 0
