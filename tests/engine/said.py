"""Items of histories, as they are stored: with ids."""

from typing import Any

from antiphon.backends.base import Prompt
from antiphon.protocol.items.base import Item
from antiphon.protocol.request import CreateResponse


def message(name: str, role: str = "user", text: str | None = None) -> Item:
    """A message that says its name, or `text`."""
    kind = "output_text" if role == "assistant" else "input_text"
    content = [{"type": kind, "text": name if text is None else text}]
    return {"id": f"msg_{name}", "type": "message", "role": role, "content": content}


def call(call_id: str, name: str = "f") -> Item:
    """A call of a function."""
    item = {"id": f"fc_{call_id}", "type": "function_call", "call_id": call_id, "name": name}
    return {**item, "arguments": "{}", "status": "completed"}


def output(call_id: str, text: str = "x") -> Item:
    """What it answered."""
    item = {"id": f"fco_{call_id}", "type": "function_call_output", "call_id": call_id}
    return {**item, "output": text}


def reasoning(name: str, sealed: str | None = None) -> Item:
    """A thought; `sealed`: its `encrypted_content`."""
    item: Item = {"id": f"rs_{name}", "type": "reasoning", "summary": []}
    if sealed is None:
        return {**item, "content": [{"type": "reasoning_text", "text": name}]}
    return {**item, "encrypted_content": sealed}


def prompt(*items: Item, **parameters: Any) -> Prompt:
    """What one model turn sees."""
    return Prompt(CreateResponse(model="m", input="", **parameters), "m", list(items))


def names(items: list[Item]) -> list[str]:
    """The ids of items without their prefixes."""
    return [item["id"].partition("_")[2] for item in items]
