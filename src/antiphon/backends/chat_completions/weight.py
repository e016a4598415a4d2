"""How much work a prompt is, roughly: is it worth a thread to keep the event loop free? (R-118)

Rules
1. It must be cheap for the usual prompt and may be wrong by some factor.
2. The walk ends as soon as the answer is known.
"""

from typing import Any, Final

from antiphon.backends.base import Prompt

#: Characters that are turned into a request in well under a millisecond.
_HEAVY: Final = 128 * 1024
#: What an item or a part costs beside its text, in characters: 512 of them are heavy too.
_EACH: Final = 256
#: Where items and parts keep what may be long.
_ITEM_KEYS: Final = ("content", "output", "arguments", "input")
_PART_KEYS: Final = ("text", "file_data", "image_url", "refusal")


def is_heavy(prompt: Prompt) -> bool:
    """Whether instructions and items hold more than about 128 KiB together."""
    weight = len(prompt.request.instructions or "") + len(prompt.items) * _EACH
    for item in prompt.items:
        if weight > _HEAVY:
            break
        for key in _ITEM_KEYS:
            held = item.get(key)
            if held:
                weight += _weight(held)
    return weight > _HEAVY


def _weight(held: Any) -> int:
    """Keys that nobody knows may hold anything: only what looks like text or parts counts."""
    if isinstance(held, str):
        return len(held)
    parts = held if isinstance(held, list) else [held]
    weight = len(parts) * _EACH
    if weight > _HEAVY:
        return weight
    for part in parts:
        if isinstance(part, dict):
            texts = [part.get(key) for key in _PART_KEYS]
            audio = part.get("input_audio")
            if isinstance(audio, dict):
                texts.append(audio.get("data"))
            weight += sum(len(text) for text in texts if isinstance(text, str))
    return weight
