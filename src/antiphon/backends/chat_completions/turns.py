"""Messages for chat templates that take nothing but user and assistant by turns. Pure.

Rules
1. Templates of Mistral and Gemma refuse the rest, whatever server they run on. None says so before
   it refuses (`quirks.py`).
2. Calls and their results count for nothing, and stay where they are.
3. What stands side by side becomes one message; over calls between them the other says `_WAIT`.
4. A model without a system role reads that message as the user's, marked.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Message: TypeAlias = dict[str, Any]

#: A message of the system or the developer, where there can be none.
_RULE: Final = "<system_message>\n{text}\n</system_message>"
#: What somebody says who said nothing. An empty message would be refused, too.
_WAIT: Final = "…"


def alternating(messages: Sequence[Message], *, has_system: bool) -> list[Message]:
    """The same by turns, the user first; `has_system`: behind one message of the system."""
    shown: list[Message] = []
    spoke = "assistant"
    for message in messages:
        if message["role"] == "system" and not has_system:
            message = by_user(message)
        role = message["role"]
        if role in ("system", "tool") or message.get("tool_calls"):
            shown.append(message)
        elif role != spoke:
            shown.append(message)
            spoke = role
        elif shown and shown[-1]["role"] == role and not shown[-1].get("tool_calls"):
            shown[-1] = _joined(shown[-1], message)
        else:
            other = "user" if role == "assistant" else "assistant"
            shown += [{"role": other, "content": _WAIT}, message]
    return shown


def by_user(message: Message) -> Message:
    """A message of the system as one of the user."""
    return {"role": "user", "content": _RULE.format(text=message["content"])}


def _joined(first: Message, second: Message) -> Message:
    """Two of one role as one. What else the first has (old thoughts) goes first."""
    contents = first["content"], second["content"]
    if all(isinstance(content, str) for content in contents):
        return {**second, **first, "content": "\n\n".join(filter(None, contents))}
    parts = [
        [{"type": "text", "text": content}] if isinstance(content, str) else content
        for content in contents
    ]
    return {**second, **first, "content": [*parts[0], *parts[1]]}
