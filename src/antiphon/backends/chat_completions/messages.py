"""Items (spec App. B, C) → chat-completions messages. Pure.

Rules
1. Everything that the model said before anybody else spoke is one assistant message: text,
   reasoning and all parallel calls.
2. Results stand directly after the message with their calls, wherever they stood in the items.
3. Images in results follow in a user message of their own, after all results, unless the profile
   takes them in place.
4. The server gets its old reasoning back where it wants it: the text of the turn, or, if it gave
   one, the state, unchanged and in order, instead.
5. Calls of custom tools are functions with one string, unless the profile knows them.
6. Items that are neither message, reasoning, call nor result are not shown to a chat model.
"""

import base64
import binascii
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from antiphon.backends.chat_completions.details import DETAILS, Detail, details_in
from antiphon.backends.profiles import Profile
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items import ITEM_TYPES
from antiphon.protocol.items.base import Call, Item, Result, turn_of
from antiphon.protocol.items.reasoning import state_of

Message: TypeAlias = dict[str, Any]
Part: TypeAlias = dict[str, Any]

#: What chat-completions calls another name.
_DETAIL = {"original": "high"}
#: Parts that are no text. Chat-completions has a place for them in user messages and results only.
MEDIA = frozenset({"input_audio", "input_file", "input_image", "input_video"})
#: Files that become text where the server knows no files.
_TEXT_FILES = ("data:text/", "data:application/json")
_USER_ONLY = "This model backend takes media in user messages only"
_TEXT_ONLY = "This model backend takes text files only"
#: Characters of base64 that are decoded at a time, about 1 ms: no thread interrupts a piece.
_PIECE = 1 << 18


def chat_messages(
    instructions: str | None, items: Sequence[Item], profile: Profile
) -> list[Message]:
    """The `messages` of a chat request. Raises `InvalidRequestError` for parts it cannot carry."""
    writer = _Writer(profile, items)
    if instructions:
        writer.messages.append({"role": profile.developer_role, "content": instructions})
    for position, item in enumerate(items):
        writer.take(position, item)
    writer.end_turn()
    return _merge_system(writer.messages) if profile.merge_system else writer.messages


def check_part(part: Part, path: str, profile: Profile, *, text_only: bool = False) -> None:
    """Raise `InvalidRequestError` for one of the `MEDIA` that no chat message can carry.

    Of a file only the head is looked at: this runs on the event loop (R-118).
    """
    match part["type"]:
        case _ if text_only:
            raise _unsupported(path, _USER_ONLY)
        case "input_image" if not part.get("image_url"):
            raise _unsupported(f"{path}.file_id", "File ids are not supported here; send a URL")
        case "input_image" if not profile.image_urls and not part["image_url"].startswith("data:"):
            raise _unsupported(f"{path}.image_url", "This model backend takes data URLs only")
        case "input_file" if not part.get("file_data"):
            key = "file_id" if part.get("file_id") else "file_url"
            raise _unsupported(f"{path}.{key}", "Send the file's content as 'file_data'")
        case "input_file" if not profile.files and not part["file_data"].startswith(_TEXT_FILES):
            raise _unsupported(f"{path}.file_data", _TEXT_ONLY)


class _Writer:
    """Collects the assistant's turn until somebody else speaks."""

    def __init__(self, profile: Profile, items: Sequence[Item]) -> None:
        self.messages: list[Message] = []
        self._profile = profile
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        #: By the server's own turn: the last word of each is all that it said.
        self._details: dict[str, list[Detail]] = {}
        self._calls: list[dict[str, Any]] = []
        self._answered = False  # a call of this turn carries its own result
        self._turn: int | None = None
        self._results: dict[str, deque[tuple[int, Result]]] = defaultdict(deque)
        self._used: set[int] = set()  # positions of results that are written already
        for position, item in enumerate(items):
            as_result = ITEM_TYPES[item["type"]].as_result
            if as_result:
                result = as_result(item)
                self._results[result.call_id].append((position, result))

    def take(self, position: int, item: Item) -> None:
        """One item, in order."""
        match item["type"]:
            case "message" if item["role"] == "assistant":
                self._end_answered_turn()
                self._texts.append(_plain_text(item["content"]))
            case "message":
                self.end_turn()
                self.messages.append(self._said(item))
            case "reasoning":
                self._end_answered_turn()
                self._take_reasoning(item)
            case _:
                self._take_call(position, item)

    def _take_reasoning(self, item: Item) -> None:
        content = item.get("content") or ()
        text = "".join(part["text"] for part in content)
        text = text or "\n\n".join(part["text"] for part in item.get("summary") or ())
        if text:
            self._reasoning.append(text)
        if self._profile.details_back:
            self._details.update(details_in(state_of(item)))

    def _take_call(self, position: int, item: Item) -> None:
        item_type = ITEM_TYPES[item["type"]]
        if item_type.as_call:
            self._end_earlier_turn(item)
            call = item_type.as_call(item)
            self._calls.append(_call(item, call, self._profile))
            self._answered = self._answered or item_type.as_result is not None
        elif item_type.as_result:
            self.end_turn()
            if position not in self._used:
                self._write_results([(position, item_type.as_result(item))])

    def end_turn(self) -> None:
        """Write the assistant's message and the results of its calls."""
        if not (self._texts or self._calls or self._reasoning):
            return
        # Null says that there are only calls; without calls it is an error in most servers.
        texts, calls = self._texts, self._calls
        content = texts[0] if len(texts) == 1 else "\n\n".join(filter(None, texts))
        message: Message = {"role": "assistant", "content": content or (None if calls else "")}
        if self._details:
            message[DETAILS] = [detail for turn in self._details.values() for detail in turn]
        elif self._reasoning and self._profile.reasoning_back:
            message[self._profile.reasoning_back] = "".join(self._reasoning)
        if calls:
            message["tool_calls"] = calls
        if texts or calls:
            self.messages.append(message)
        self._texts, self._reasoning, self._calls, self._answered = [], [], [], False
        self._details = {}
        if calls:
            waiting = [self._results[call["id"]] for call in calls]
            self._write_results([results.popleft() for results in waiting if results])

    def _end_answered_turn(self) -> None:
        """What the model says after a result that came with the call is a new turn."""
        if self._answered:
            self.end_turn()

    def _end_earlier_turn(self, item: Item) -> None:
        """Calls that this server answered one after the other are no parallel calls."""
        turn = turn_of(item)
        if turn is not None and turn != self._turn:
            self._end_answered_turn()
        self._turn = turn

    def _write_results(self, results: list[tuple[int, Result]]) -> None:
        others: list[Part] = []
        for position, result in results:
            self._used.add(position)
            content: Any = result.output
            if not isinstance(content, str):
                parts = [_part(part, self._profile) for part in content]
                beside = [part for part in parts if part["type"] != "text"]
                if not (self._profile.tool_images and beside):
                    others += beside
                    content = "\n".join(part["text"] for part in parts if part["type"] == "text")
                    content = content or "(see the attached content that follows)"
                else:
                    content = parts
            self.messages.append(
                {"role": "tool", "tool_call_id": result.call_id, "content": content}
            )
        if others:
            self.messages.append({"role": "user", "content": others})

    def _said(self, item: Item) -> Message:
        """A message of the user, the system or the developer."""
        role = item["role"]
        if role == "user":
            return {"role": "user", "content": self._content(item["content"])}
        role = self._profile.developer_role if role == "developer" else role
        return {"role": role, "content": _plain_text(item["content"])}

    def _content(self, parts: Sequence[Part]) -> str | list[Part]:
        """A string when all is text: some chat templates know nothing else."""
        if (text := _one_text(parts)) is not None:
            return text
        chat_parts = [_part(part, self._profile) for part in parts]
        if all(part["type"] == "text" for part in chat_parts):
            return "\n".join(part["text"] for part in chat_parts)
        return chat_parts


def _call(item: Item, call: Call, profile: Profile) -> dict[str, Any]:
    if item["type"] == "custom_tool_call" and profile.custom_tools:
        custom = {"name": call.name, "input": item["input"]}
        return {"id": call.call_id, "type": "custom", "custom": custom}
    # Servers parse the arguments of the history; a call without any is {} (calls.py).
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _part(part: Part, profile: Profile) -> Part:
    """One content part as chat-completions knows it."""
    check_part(part, "input", profile)
    match part["type"]:
        case "input_image":
            image = {"url": part["image_url"]}
            if part.get("detail"):
                image["detail"] = _DETAIL.get(part["detail"], part["detail"])
            return {"type": "image_url", "image_url": image}
        case "input_video":
            return {"type": "video_url", "video_url": {"url": part["video_url"]}}
        case "input_file" if profile.files:
            file = {"filename": part.get("filename") or "file", "file_data": part["file_data"]}
            return {"type": "file", "file": file}
        case "input_file":
            name = part.get("filename") or "file"
            return {"type": "text", "text": f"File {name}:\n{_text_of_file(part)}"}
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
    for part in parts:
        if part["type"] in MEDIA:
            raise _unsupported("input", _USER_ONLY)
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in parts)


def _text_of_file(part: Part) -> str:
    """The text in the data URL of a file."""
    head, comma, data = part["file_data"].partition(",")
    try:
        if comma and head.endswith(";base64"):
            return _decoded(data).decode()
    except (binascii.Error, ValueError):
        comma = ""
    if not comma:
        raise _unsupported("input", _TEXT_ONLY)
    return str(data)


def _decoded(data: str) -> bytes:
    """Strict base64. Raises ValueError."""
    if "=" in data[:-2]:
        raise binascii.Error("padding before the end")
    pieces = (data[start : start + _PIECE] for start in range(0, len(data), _PIECE))
    return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)


def _unsupported(param: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Unsupported value at '{param}'. {hint}.", param=param, code="unsupported_value"
    )


def _merge_system(messages: list[Message]) -> list[Message]:
    count = 0
    while count < len(messages) and messages[count]["role"] in ("system", "developer"):
        count += 1
    if count < 2:
        return messages
    content = "\n\n".join(message["content"] for message in messages[:count])
    return [{"role": messages[0]["role"], "content": content}, *messages[count:]]
