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
#: OpenAI's models have another name for it.
_SYSTEM: Final = frozenset({"system", "developer"})


def alternating(messages: Sequence[Message], *, has_system: bool) -> list[Message]:
    """The same by turns, the user first; `has_system`: behind one message of the system."""
    shown: list[Message] = []
    spoke = "assistant"
    #: What stands side by side with the last one.
    beside: list[Any] = []
    for message in messages:
        if message["role"] in _SYSTEM and not has_system:
            message = by_user(message)
        role = message["role"]
        if role in _SYSTEM or role == "tool" or message.get("tool_calls"):
            _join(shown, beside)
            shown.append(message)
        elif role != spoke:
            _join(shown, beside)
            shown.append(message)
            spoke = role
        elif shown and shown[-1]["role"] == role and not shown[-1].get("tool_calls"):
            beside.append(message["content"])
        else:
            _join(shown, beside)
            other = "user" if role == "assistant" else "assistant"
            shown += [{"role": other, "content": _WAIT}, message]
    _join(shown, beside)
    return shown


def by_user(message: Message) -> Message:
    """A message of the system as one of the user."""
    return {"role": "user", "content": _RULE.format(text=message["content"])}


def _join(shown: list[Message], beside: list[Any]) -> None:
    """The last message with all `beside` it, of which nothing is left. What else it has (old
    thoughts) stays."""
    if not beside:
        return
    contents = [shown[-1]["content"], *beside]
    beside.clear()
    content: Any = []
    if all(isinstance(each, str) for each in contents):
        content = "\n\n".join(filter(None, contents))
    else:
        for each in contents:
            content += [{"type": "text", "text": each}] if isinstance(each, str) else each
    shown[-1] = {**shown[-1], "content": content}
