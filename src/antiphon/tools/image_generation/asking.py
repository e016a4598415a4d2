"""What the model may choose, and what is drawn then.

Rules
1. The request wins: where it says how an image is to be, the model is not asked. It chooses size
   and background where the request leaves them to it, and whether an image is edited.
2. An edit takes the newest images of the conversation: the model says how many.
3. With a mask everything is an edit.
"""

from typing import Any, Final

from antiphon.errors import ToolFailed
from antiphon.images.base import Action
from antiphon.tools.base import HostedFunction, Json
from antiphon.tools.image_generation.rules import ImageRules, mask_of, value_of

NAME: Final = "image_generation"
#: Characters of a prompt (OpenAI's).
_MOST_PROMPT: Final = 32_000
#: Images of an edit (OpenAI's).
MOST_IMAGES: Final = 16

_MAKE: Final = (
    "Make an image and show it to the user. Write the whole picture into the prompt: subject, "
    "style, composition, light, colours, and any text in it word for word. The user sees the "
    "image at once."
)
_CHANGE: Final = (
    "Change an image of this conversation: the newest one, whether the user sent it or it was made "
    "here. Write into the prompt what is to be changed and what has to stay. The user sees the "
    "new image at once."
)
_EITHER: Final = (
    f"{_MAKE} With the action 'edit' the newest image of the conversation is changed, whether the "
    "user sent it or it was made here: then write what is to be changed and what has to stay."
)
#: What may be chosen, as the request's options have it.
_CHOICES: Final[dict[str, Json]] = {
    "size": {
        "type": "string",
        "enum": ["auto", "1024x1024", "1536x1024", "1024x1536"],
        "description": "Width and height in pixels.",
    },
    "background": {
        "type": "string",
        "enum": ["auto", "opaque", "transparent"],
        "description": "'transparent' for logos, stickers and the like.",
    },
}
_ACTION: Final[Json] = {
    "type": "string",
    "enum": ["generate", "edit"],
    "description": "'edit' to change an image that is there, 'generate' for a new one.",
}
_IMAGES: Final[Json] = {
    "type": "integer",
    "minimum": 1,
    "maximum": MOST_IMAGES,
    "description": "For an edit: how many of the newest images it takes; usually 1.",
}


def action_of(tool: Json, rules: ImageRules) -> Action | None:
    """What the request wants; None: the model decides."""
    wanted = tool.get("action") or "auto"
    if wanted == "generate" or not rules.can("edit"):
        return "generate"
    return "edit" if wanted == "edit" or mask_of(tool) else None


def choices_of(tool: Json, rules: ImageRules) -> list[str]:
    """The options that are the model's to choose."""
    open_ = [name for name in ("size", "background") if value_of(tool, name) is None]
    if tool.get("output_format") == "jpeg":
        open_ = [name for name in open_ if name != "background"]
    return [name for name in open_ if name not in rules.unsupported]


def function_of(tool: Json, rules: ImageRules, timeout: float) -> HostedFunction:
    """The function of a request; `timeout`: seconds of one call."""
    action = action_of(tool, rules)
    properties: Json = {"prompt": {"type": "string", "description": "What is to be seen."}}
    required = ["prompt"]
    if action is None:
        properties["action"] = _ACTION
        required.append("action")
    if action != "generate":
        properties["images"] = _IMAGES
    properties |= {name: _CHOICES[name] for name in choices_of(tool, rules)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    told = {None: _EITHER, "generate": _MAKE, "edit": _CHANGE}[action]
    return HostedFunction(NAME, told, schema, timeout=timeout)


def prompt_of(arguments: Json) -> str:
    """Raises `ToolFailed`."""
    prompt = arguments.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ToolFailed("The 'prompt' is missing.")
    if len(prompt) > _MOST_PROMPT:
        raise ToolFailed(f"The 'prompt' is too long: at most {_MOST_PROMPT} characters.")
    return prompt


def chosen_action(arguments: Json, tool: Json, rules: ImageRules) -> Action:
    """The request's, else the model's. Raises `ToolFailed`."""
    action = action_of(tool, rules)
    if action is not None:
        return action
    chosen = arguments.get("action") or "generate"
    if chosen not in ("generate", "edit"):
        raise ToolFailed("The 'action' is either 'generate' or 'edit'.")
    return "edit" if chosen == "edit" else "generate"


def chosen_count(arguments: Json) -> int:
    """How many images an edit takes. Raises `ToolFailed`."""
    count = arguments.get("images")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_IMAGES:
        raise ToolFailed(f"'images' is a number from 1 to {MOST_IMAGES}.")
    return count


def chosen_look(arguments: Json, tool: Json, rules: ImageRules) -> dict[str, Any]:
    """`size` and `background`, of the request or the model; None: as the server likes it. Raises
    `ToolFailed`."""
    look = {name: value_of(tool, name) for name in _CHOICES}
    for name in choices_of(tool, rules):
        chosen = arguments.get(name)
        allowed = _CHOICES[name]["enum"]
        if chosen is not None and chosen not in allowed:
            raise ToolFailed(f"'{name}' is one of {', '.join(allowed)}.")
        look[name] = None if chosen == "auto" else chosen
    return look
