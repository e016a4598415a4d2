"""Items (spec App. B, C) → chat-completions messages. Pure.

Rules
1. Everything that the model said in one turn (`antiphon.backends.transcript`) is one message.
2. Results stand directly after the message with their calls.
3. Images in results follow in a user message of their own, after all results, unless the profile
   takes them in place.
4. The server gets its old reasoning back where it wants it: the text of the turn, or, if it gave
   one, the state, unchanged and in order, instead.
5. Calls of custom tools are functions with one string, unless the profile knows them.
6. Images that tools of this server made are for models that see (`Profile.vision`); others read
   that they are there. What a client sent is shown: it knows its model. Only where the server has
   no place for it (`Profile.media`) the model reads that there was something.
7. Where only one system message is taken (`Profile.merge_system`), those at the start are one, and
   later ones stand where they are as the user's, marked. Stricter templates: `turns.py`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from antiphon.backends.chat_completions.details import DETAILS, Detail, details_in
from antiphon.backends.chat_completions.turns import Message, alternating, by_user
from antiphon.backends.profiles import Profile
from antiphon.backends.transcript import Called, Returned, Said, Turn, short_id, transcript
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Item, Result, object_text
from antiphon.protocol.items.content import seen_of
from antiphon.protocol.items.reasoning import state_of

Part: TypeAlias = dict[str, Any]

#: What chat-completions calls another name.
_DETAIL = {"original": "high"}
#: Parts that are no text. Chat-completions has a place for them in user messages and results only.
MEDIA = frozenset({"input_audio", "input_file", "input_image", "input_video"})
#: What models without eyes and ears take none of: its name, and what they read in its place.
_PERCEIVED = {
    "input_audio": ("sounds", "[A sound that you cannot hear.]"),
    "input_image": ("images", "[An image that you cannot see.]"),
    "input_video": ("videos", "[A video that you cannot see.]"),
}
#: An id as Mistral makes it, and takes it.
_NINE = re.compile("[a-zA-Z0-9]{9}")
_USER_ONLY = "This model backend takes media in user messages only"
#: Items with images that this server made.
_MADE_HERE = frozenset({"image_generation_call"})


def chat_messages(
    instructions: str | None, items: Sequence[Item], profile: Profile
) -> list[Message]:
    """The `messages` of a chat request. Raises `InvalidRequestError` for parts it cannot carry."""
    messages: list[Message] = []
    if instructions:
        messages.append({"role": profile.developer_role, "content": instructions})
    for step in transcript(items):
        match step:
            case Said():
                messages.append(_said(step.item, profile))
            case Turn():
                messages += _spoken(step, profile)
            case Returned():
                messages += _returned([step], profile)
    messages = _system_first(messages) if profile.merge_system else messages
    if profile.turns != "free":
        messages = alternating(messages, has_system=profile.turns == "alternating")
    if profile.short_ids:
        _shorten_ids(messages)
    return messages


def check_part(part: Part, path: str, profile: Profile, *, text_only: bool) -> None:
    """Raise `InvalidRequestError` for one of the `MEDIA` where no chat message, or no model of the
    server, can carry it."""
    if text_only and part["type"] in MEDIA:
        raise _unsupported(path, _USER_ONLY)
    kind = seen_of(part)["type"]
    if kind in _PERCEIVED and kind not in profile.media:
        raise InvalidRequestError(f"This model takes no {_PERCEIVED[kind][0]}.", param=path)


def _spoken(turn: Turn, profile: Profile) -> list[Message]:
    """The assistant's message and the results of its calls; nothing of a turn that is reasoning
    alone."""
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    reasoning: list[str] = []
    #: By the server's own turn: the last word of each is all that it said.
    details: dict[str, list[Detail]] = {}
    for part in turn.parts:
        if isinstance(part, Called):
            calls.append(_call(part, profile))
        elif part["type"] == "message":
            texts.append(_plain_text(part["content"]))
        else:
            reasoning.append(_thought(part))
            if profile.details_back:
                details.update(details_in(state_of(part)))
    if not (texts or calls):
        return []
    # Null says that there are only calls; without calls it is an error in most servers.
    content = texts[0] if len(texts) == 1 else "\n\n".join(filter(None, texts))
    message: Message = {"role": "assistant", "content": content or (None if calls else "")}
    if details:
        message[DETAILS] = [detail for each in details.values() for detail in each]
    elif profile.reasoning_back and (thoughts := "".join(reasoning) or _no_thought(profile)):
        message[profile.reasoning_back] = thoughts
    if calls:
        message["tool_calls"] = calls
    return [message, *_returned(turn.results, profile)]


def _no_thought(profile: Profile) -> str:
    """What stands for reasoning that is not known. DeepSeek takes no empty one."""
    return " " if profile.reasoning_needed else ""


def _thought(item: Item) -> str:
    """The text of a reasoning item: all of it, else its summary."""
    text = "".join(part["text"] for part in item.get("content") or ())
    return text or "\n\n".join(part["text"] for part in item.get("summary") or ())


def _returned(results: Sequence[Returned], profile: Profile) -> list[Message]:
    messages: list[Message] = []
    others: list[Part] = []
    for returned in results:
        result = _shown(returned, profile)
        content: Any = result.output
        if not isinstance(content, str):
            parts = [_part(part, profile) for part in content]
            beside = [part for part in parts if part["type"] != "text"]
            if not (profile.tool_images and beside):
                others += beside
                content = "\n".join(part["text"] for part in parts if part["type"] == "text")
                content = content or ("(see the attached content that follows)" if beside else "")
            else:
                content = parts
        messages.append({"role": "tool", "tool_call_id": result.call_id, "content": content})
    if others:
        messages.append({"role": "user", "content": others})
    return messages


def _said(item: Item, profile: Profile) -> Message:
    """A message of the user, the system or the developer."""
    role = item["role"]
    if role == "user":
        return {"role": "user", "content": _content(item["content"], profile)}
    role = profile.developer_role if role == "developer" else role
    return {"role": role, "content": _plain_text(item["content"])}


def _content(parts: Sequence[Part], profile: Profile) -> str | list[Part]:
    """A string when all is text: some chat templates know nothing else."""
    if (text := _one_text(parts)) is not None:
        return text
    chat_parts = [_part(part, profile) for part in parts]
    if all(part["type"] == "text" for part in chat_parts):
        return "\n".join(part["text"] for part in chat_parts)
    return chat_parts


def _shown(returned: Returned, profile: Profile) -> Result:
    """What a call has brought, as far as the model can take it (rule 6)."""
    result = returned.result
    made_here = returned.item["type"] in _MADE_HERE
    if profile.vision or not made_here or isinstance(result.output, str):
        return result
    return Result(result.call_id, [part for part in result.output if "text" in part])


def _call(called: Called, profile: Profile) -> dict[str, Any]:
    item, call = called.item, called.call
    if item["type"] == "custom_tool_call" and profile.custom_tools:
        custom = {"name": call.name, "input": item["input"]}
        return {"id": call.call_id, "type": "custom", "custom": custom}
    # Servers parse the arguments of the history: what was cut is a 500 of llama.cpp.
    function = {"name": call.name, "arguments": object_text(call.arguments)}
    return {"id": call.call_id, "type": "function", "function": function}


def _part(part: Part, profile: Profile) -> Part:
    """One content part as chat-completions knows it; what it has no place for was filled."""
    part = seen_of(part)
    if part["type"] in _PERCEIVED and part["type"] not in profile.media:
        return {"type": "text", "text": _PERCEIVED[part["type"]][1]}
    match part["type"]:
        case "input_image" if part.get("image_url"):
            image = {"url": part["image_url"]}
            if part.get("detail"):
                image["detail"] = _DETAIL.get(part["detail"], part["detail"])
            return {"type": "image_url", "image_url": image}
        case "input_video":
            return {"type": "video_url", "video_url": {"url": part["video_url"]}}
        case "input_file" if part.get("file_data"):
            file = {"filename": part.get("filename") or "file", "file_data": part["file_data"]}
            return {"type": "file", "file": file}
        case "input_file" | "input_image":
            raise _unsupported("input", "This image or file can be taken inline only")
        case "input_audio":
            return {"type": "input_audio", "input_audio": part["input_audio"]}
        case "refusal":
            return {"type": "text", "text": part["refusal"]}
        case _:
            return {"type": "text", "text": part.get("text") or ""}


def _one_text(parts: Sequence[Part]) -> str | None:
    """The text of a message that is one text, as most of a long history are."""
    if len(parts) == 1 and parts[0]["type"] in ("input_text", "output_text"):
        text: str = parts[0]["text"]
        return text
    return None


def _plain_text(parts: Sequence[Part]) -> str:
    if (text := _one_text(parts)) is not None:
        return text
    seen = [seen_of(part) for part in parts]
    for part in seen:
        if part["type"] in MEDIA:
            raise _unsupported("input", _USER_ONLY)
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in seen)


def _unsupported(param: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Unsupported value at '{param}'. {hint}.", param=param, code="unsupported_value"
    )


def _shorten_ids(messages: list[Message]) -> None:
    for message in messages:
        if message["role"] == "tool":
            message["tool_call_id"] = _nine(message["tool_call_id"])
        for call in message.get("tool_calls", ()):
            call["id"] = _nine(call["id"])


def _nine(id_: str) -> str:
    return id_ if _NINE.fullmatch(id_) else short_id(id_)


def _system_first(messages: list[Message]) -> list[Message]:
    """One system message, at the start: many chat templates refuse any other."""
    count = next((i for i, one in enumerate(messages) if one["role"] != "system"), len(messages))
    content = "\n\n".join(message["content"] for message in messages[:count])
    first = [{"role": "system", "content": content}] if count else []
    return first + [by_user(one) if one["role"] == "system" else one for one in messages[count:]]
