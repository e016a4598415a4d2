"""Items (spec App. B, C) → messages of the Messages API. Pure.

Rules
1. Roles alternate: what one side says in a row is one message. The first one is the user's, and so
   is the last: a text of the assistant at the end would be taken for the beginning of its answer.
2. Results come first in the message after their calls; each call has one, each result a call.
3. Instructions and the messages of system and developer before all others are `system`; later ones
   stand where they are, in the user's message and marked (`_RULE`).
4. Blank texts are left out: the API refuses them.
5. Thinking goes back as it came, to the deployment and the model that it came from, and only behind
   the same words: the API refuses it elsewhere. That of others, and its text, is not shown.
6. A turn of thinking alone is not sent.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.anthropic.thoughts import Block, Prefix
from antiphon.backends.transcript import Called, Returned, Said, Step, Turn, short_id, transcript
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Item, object_text
from antiphon.protocol.items.content import seen_of

Message: TypeAlias = dict[str, Any]
Part: TypeAlias = dict[str, Any]
#: The thinking of an item that may stand after what was said so far.
Recall: TypeAlias = Callable[[Item, str], list[Block]]

#: Said by the user where nobody has said anything else.
_GO_ON: Final = "Continue."
_BEFORE: Final = "(What was said before this is not shown.)"
_NO_RESULT: Final = "(There is no result.)"
#: A message of the system or the developer in the middle of the conversation.
_RULE: Final = "<{role}_message>\n{text}\n</{role}_message>"
#: Characters that ids of calls may not have.
_NOT_IN_IDS: Final = re.compile(r"[^a-zA-Z0-9_-]")
#: ``data:``, the media type, its parameters, and base64.
_INLINE: Final = re.compile(r"data:([^;,]*)[^,]*;base64,", re.IGNORECASE)
_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF: Final = "application/pdf"
#: Parts that are no text, and what of them cannot be sent at all.
_MEDIA: Final = frozenset({"input_audio", "input_file", "input_image", "input_video"})
_UNKNOWN: Final = frozenset({"input_audio", "input_video"})
#: Items with images that this server made.
_MADE_HERE: Final = frozenset({"image_generation_call"})


@dataclass(slots=True)
class Conversation:
    """`system` and `messages` of a request."""

    system: str
    messages: list[Message] = field(default_factory=list)
    #: What thinking that is said next stands behind.
    prefix: str = ""
    #: The calls that are answered last belong to a turn that began without thinking.
    lacks_thoughts: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """How a conversation is told. `images`: also those that tools of this server made; `recall`:
    None for a model that does not think now."""

    images: bool
    recall: Recall | None
    #: What stands before system and messages: the tools.
    head: Any


def conversation(instructions: str, items: Sequence[Item], view: View) -> Conversation:
    """Raises `InvalidRequestError` for parts that no message can carry."""
    steps = transcript(items)
    system = [instructions]
    rules = list(takewhile(_is_rule, steps))
    system += [_plain_text(step.item["content"]) for step in rules if isinstance(step, Said)]
    talk = Conversation("\n\n".join(filter(_is_said, system)))
    writer = _Writer(talk, view)
    for step in steps[len(rules) :]:
        match step:
            case Said():
                writer.user(_said(step.item))
            case Turn():
                writer.turn(step)
            case Returned():
                writer.user(_orphan(step, view))
    writer.end()
    return talk


def check_part(part: Part, path: str, *, text_only: bool) -> None:
    """Raise `InvalidRequestError` for a part of a request that cannot be sent."""
    if part["type"] in _UNKNOWN:
        raise unsupported(path, "This model backend takes texts, images and files")
    if text_only and part["type"] in _MEDIA:
        raise unsupported(path, "This model backend takes images and files in user messages only")
    url = part.get("image_url") or ""
    if part["type"] == "input_image" and url[:5].lower() == "data:":
        _inline_image(url, path)


def unsupported(param: str, hint: str) -> InvalidRequestError:
    """A 400 that names what no model here can be sent."""
    return InvalidRequestError(
        f"Unsupported value at '{param}'. {hint}.", param=param, code="unsupported_value"
    )


class _Writer:
    """Writes the messages of one conversation."""

    def __init__(self, talk: Conversation, view: View) -> None:
        self._talk = talk
        self._view = view
        self._prefix = Prefix((view.head, talk.system))
        #: Whether a turn of the assistant that is still going on began with thinking.
        self._began: bool | None = None

    def user(self, blocks: list[Block]) -> None:
        """The user, or somebody in their place, speaks."""
        if blocks:
            if not self._is_answering():
                self._began = None
            self._add("user", blocks)

    def turn(self, turn: Turn) -> None:
        """The model speaks, and its calls are answered."""
        if not self._talk.messages:
            self._add("user", [_text(_BEFORE)])
        prefix = self._prefix.after(self._talk.messages)
        blocks = list(self._spoken(turn, prefix))
        said = [block for block in blocks if block["type"] not in _THOUGHTS]
        if not said:
            return
        if self._began is None:
            self._began = blocks[0]["type"] in _THOUGHTS
        # What is said beside calls comes before them; nothing else changes its place.
        self._add("assistant", sorted(blocks, key=lambda block: block["type"] == "tool_use"))
        if turn.calls:
            self._add("user", list(_results(turn, self._view)))

    def end(self) -> None:
        """It is the model's turn."""
        messages = self._talk.messages
        if not messages or messages[-1]["role"] == "assistant":
            self.user([_text(_GO_ON)])
        self._talk.prefix = self._prefix.after(messages)
        self._talk.lacks_thoughts = self._began is False

    def _is_answering(self) -> bool:
        """The last message has results of calls."""
        messages = self._talk.messages
        return bool(messages) and messages[-1]["content"][0]["type"] == "tool_result"

    def _add(self, role: str, blocks: list[Block]) -> None:
        messages = self._talk.messages
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})

    def _spoken(self, turn: Turn, prefix: str) -> Iterator[Block]:
        recalled: list[Block] = []
        for part in turn.parts:
            if isinstance(part, Called):
                yield _call(part)
            elif part["type"] == "message":
                text = _plain_text(part["content"])
                if _is_said(text):
                    yield _text(text)
            elif self._view.recall is not None:
                # Each item of a turn has all that was thought in it so far.
                new = [b for b in self._view.recall(part, prefix) if b not in recalled]
                recalled += new
                yield from new


_THOUGHTS: Final = ("thinking", "redacted_thinking")


def _call(called: Called) -> Block:
    call = called.call
    arguments = orjson.loads(object_text(call.arguments))
    return {"type": "tool_use", "id": _id(call.call_id), "name": call.name, "input": arguments}


def _results(turn: Turn, view: View) -> Iterator[Block]:
    answered = {returned.result.call_id: returned for returned in turn.results}
    for called in turn.calls:
        id_ = called.call.call_id
        block: Block = {"type": "tool_result", "tool_use_id": _id(id_)}
        returned = answered.get(id_)
        content = _output(returned, view) if returned else [_text(_NO_RESULT)]
        if content:
            block["content"] = content
        if returned and returned.item.get("status") == "failed":
            block["is_error"] = True
        yield block


def _output(returned: Returned, view: View) -> list[Block]:
    """What a call has brought, as far as the model can take it."""
    output = returned.result.output
    if isinstance(output, str):
        return [_text(output)] if _is_said(output) else []
    if not view.images and returned.item["type"] in _MADE_HERE:
        output = [part for part in output if "text" in part]
    return list(_blocks(output))


def _orphan(returned: Returned, view: View) -> list[Block]:
    """A result whose call nobody knows: the API would refuse it as one."""
    return [_text("(A tool has returned:)"), *_output(returned, view)]


def _is_rule(step: Step) -> bool:
    return isinstance(step, Said) and step.item["role"] != "user"


def _said(item: Item) -> list[Block]:
    """A message of the user, or a later one of the system or the developer."""
    if item["role"] == "user":
        return list(_blocks(item["content"]))
    text = _plain_text(item["content"])
    return [_text(_RULE.format(role=item["role"], text=text))] if _is_said(text) else []


def _blocks(parts: Iterable[Part]) -> Iterator[Block]:
    for part in parts:
        block = _block(seen_of(part))
        if block["type"] != "text" or _is_said(block["text"]):
            yield block


def _block(part: Part) -> Block:
    """One content part; what the API has no place for was filled."""
    match part["type"]:
        case "input_image" if part.get("image_url"):
            return {"type": "image", "source": _image(part["image_url"], "input")}
        case "input_file" if part.get("file_data"):
            return _document(part)
        case "input_image" | "input_file":
            raise unsupported("input", "This image or file can be taken inline only")
        case "input_audio" | "input_video":
            raise unsupported("input", "This model backend takes texts, images and files")
        case _:
            return _text(part.get("text") or part.get("refusal") or "")


def _image(url: str, path: str) -> Block:
    if url[:5].lower() != "data:":
        return {"type": "url", "url": url}
    media_type, start = _inline_image(url, path)
    return {"type": "base64", "media_type": media_type, "data": url[start:]}


def _inline_image(url: str, path: str) -> tuple[str, int]:
    """The media type of an image in a URL, and where its base64 begins."""
    inline = _INLINE.match(url)
    media_type = inline[1].lower().replace("image/jpg", "image/jpeg") if inline else ""
    if inline is None or media_type not in _IMAGES:
        raise unsupported(path, "This model backend takes JPEG, PNG, GIF and WebP as base64")
    return media_type, inline.end()


def _document(part: Part) -> Block:
    """Only PDF comes here: of other files the model gets the text."""
    inline = _INLINE.match(part["file_data"])
    start = inline.end() if inline else 0
    if inline and inline[1].lower() != _PDF:
        raise unsupported("input", "This model backend takes PDF files only")
    source = {"type": "base64", "media_type": _PDF, "data": part["file_data"][start:]}
    title = {"title": part["filename"]} if part.get("filename") else {}
    return {"type": "document", "source": source, **title}


def _plain_text(parts: Sequence[Part]) -> str:
    seen = [seen_of(part) for part in parts]
    for part in seen:
        if part["type"] in _MEDIA:
            raise unsupported("input", "This model backend takes media in user messages only")
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in seen)


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _is_said(text: str) -> bool:
    return bool(text) and not text.isspace()


def _id(call_id: str) -> str:
    return short_id(call_id) if _NOT_IN_IDS.search(call_id) else call_id
