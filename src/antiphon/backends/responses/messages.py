"""Items (spec App. B, C) as another server takes them for its `input` (App. C). Pure.

Rules
1. Nothing refers to what the other server may have stored: messages and calls go without their ids.
   What it does not know, such as calls of hosted tools of ours, are function calls with outputs
   (`antiphon.backends.transcript`); what it has run itself goes back as it came (`hosted.py`).
2. What the assistant said is one string: the short form, which most servers take and which needs
   no id. Its `phase` stays where models want it back.
3. Reasoning goes back unchanged to the deployment that made it (`Origin`), once, with the blobs
   that it gave. Reasoning of others is left out, unless the server takes text
   (`Dialect.text_back`): an item without its blob is refused by OpenAI, and so is one that nothing
   follows in its turn, and any by a model that does not reason.
4. Images in results follow in a user message of their own, after all results, unless the server
   takes them in place.
5. Images that tools of this server made are for models that see; others read that they are there.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

from antiphon.backends.origins import Origin
from antiphon.backends.profiles import Profile
from antiphon.backends.responses.dialects import Dialect
from antiphon.backends.responses.hosted import given_back
from antiphon.backends.transcript import Called, Returned, Said, Turn, transcript
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Item, Result, object_text
from antiphon.protocol.items.content import seen_of

Json: TypeAlias = dict[str, Any]

#: Parts that are no text; messages of the assistant have no place for them.
MEDIA: Final = frozenset({"input_audio", "input_file", "input_image", "input_video"})
#: Of these, what is only of other APIs.
_UNKNOWN: Final = {
    "input_audio": "This model backend takes no sounds",
    "input_video": "This model backend takes no videos",
}
_NOT_BY_ASSISTANT: Final = "This model backend takes no media in messages of the assistant"
#: The output of a call that has brought no text.
_BESIDE: Final = "(see the attached content that follows)"
#: Items with images that this server made.
_MADE_HERE: Final = frozenset({"image_generation_call"})


def input_items(
    items: Sequence[Item], dialect: Dialect, origin: Origin, *, reasons: bool = True
) -> list[Json]:
    """The `input` of a request; `reasons`: the model may be shown reasoning. Raises
    `InvalidRequestError` for parts it cannot carry."""
    return _Writer(dialect, origin, reasons=reasons).write(items)


def check_part(part: Json, path: str, *, by_assistant: bool) -> None:
    """Raise `InvalidRequestError` for one of the `MEDIA` that the API has no place for."""
    reason = _NOT_BY_ASSISTANT if by_assistant else _UNKNOWN.get(part["type"])
    if reason is not None and part["type"] in MEDIA:
        raise _unsupported(path, reason)


class _Writer:
    """Writes one prompt."""

    def __init__(self, dialect: Dialect, origin: Origin, *, reasons: bool) -> None:
        self._dialect = dialect
        self._profile = dialect.profile
        self._origin = origin
        self._reasons = reasons
        #: Ids of reasoning that was given back.
        self._given: set[str] = set()

    def write(self, items: Sequence[Item]) -> list[Json]:
        written: list[Json] = []
        for step in transcript(items):
            match step:
                case Said():
                    written.append(self._said(step.item))
                case Turn():
                    written += self._spoken(step)
                case Returned():
                    written += self._returned([step], set())
        return written

    def _said(self, item: Item) -> Json:
        """A message of the user, the system or the developer: a string when all is text, as most of
        a long history is, and as some servers and chat templates want it."""
        role = item["role"]
        if role == "developer":
            role = self._profile.developer_role
        content: Any = [self._part(part) for part in item["content"]]
        if all(part["type"] == "input_text" for part in content):
            content = "\n".join(part["text"] for part in content)
        return {"type": "message", "role": role, "content": content}

    def _spoken(self, turn: Turn) -> Iterator[Json]:
        """What the model said, and the results of its calls; nothing of reasoning at its end."""
        thoughts: list[Json] = []
        custom: set[str] = set()  # ids of calls that are none of functions
        whole: set[str] = set()  # and of those that have their results in themselves
        for part in turn.parts:
            if not isinstance(part, Called) and part["type"] == "reasoning":
                thoughts += self._thought(part) if self._reasons else []
                continue
            said = self._call(part) if isinstance(part, Called) else self._message(part)
            if isinstance(part, Called) and "call_id" not in (said or {}):
                whole.add(part.call.call_id)
            if said is None:
                continue
            yield from thoughts
            yield said
            thoughts = []
            if said["type"] == "custom_tool_call":
                custom.add(said["call_id"])
        results = [one for one in turn.results if one.result.call_id not in whole]
        yield from self._returned(results, custom)

    def _thought(self, item: Item) -> list[Json]:
        """A reasoning item as its maker gave it: each state has all of its turn up to there."""
        kept = self._origin.kept(item)
        if kept is not None:
            news = [one for one in kept if one["id"] not in self._given]
            self._given.update(one["id"] for one in news)
            return news
        parts = item.get("content") or item.get("summary")
        text = "\n\n".join(part["text"] for part in parts or ())
        if not (self._dialect.text_back and text):
            return []
        content = [{"type": "reasoning_text", "text": text}]
        # An id is needed, and means nothing.
        return [{"type": "reasoning", "id": "rs_0", "summary": [], "content": content}]

    def _message(self, item: Item) -> Json | None:
        text = _plain_text(item["content"])
        if not text:
            return None
        parts = [{"type": "output_text", "text": text}]
        content = parts if self._dialect.said_in_parts else text
        message: Json = {"type": "message", "role": "assistant", "content": content}
        if self._dialect.modes and item.get("phase"):
            message["phase"] = item["phase"]
        return message

    def _call(self, called: Called) -> Json:
        item, call = called.item, called.call
        as_it_is = given_back(item, self._dialect.hosted)
        if as_it_is is not None:
            return as_it_is
        place = {"call_id": call.call_id, "name": call.name}
        if item["type"] == "custom_tool_call" and self._profile.custom_tools:
            return {"type": "custom_tool_call", **place, "input": item["input"]}
        # Servers parse the arguments of the history: what was cut is an error of vLLM.
        return {"type": "function_call", **place, "arguments": object_text(call.arguments)}

    def _returned(self, results: Sequence[Returned], custom: set[str]) -> list[Json]:
        written: list[Json] = []
        others: list[Json] = []
        for returned in results:
            result = _shown(returned, self._profile)
            output: Any = result.output
            if not isinstance(output, str):
                parts = [self._part(part) for part in output]
                beside = [part for part in parts if part["type"] != "input_text"]
                if beside and self._profile.tool_images:
                    output = parts
                else:
                    others += beside
                    output = "\n".join(p["text"] for p in parts if p["type"] == "input_text")
                    output = output or (_BESIDE if beside else "")
            kind = "custom_tool_call_output" if result.call_id in custom else "function_call_output"
            written.append({"type": kind, "call_id": result.call_id, "output": output})
        if others:
            written.append({"type": "message", "role": "user", "content": others})
        return written

    def _part(self, part: Json) -> Json:
        """One content part as an input; what has no place there was filled."""
        part = seen_of(part)
        match part["type"]:
            case "input_image" if part.get("image_url"):
                detail = part.get("detail") or "auto"
                if detail == "original" and not self._dialect.originals:
                    detail = "high"
                return {"type": "input_image", "image_url": part["image_url"], "detail": detail}
            case "input_file" if part.get("file_data"):
                filename = part.get("filename") or "file"
                return {"type": "input_file", "filename": filename, "file_data": part["file_data"]}
            case "input_file" | "input_image":
                raise _unsupported("input", "This image or file can be taken inline only")
            case "input_audio" | "input_video":
                raise _unsupported("input", _UNKNOWN[part["type"]])
            case "refusal":
                return {"type": "input_text", "text": part["refusal"]}
            case _:
                return {"type": "input_text", "text": part.get("text") or ""}


def _shown(returned: Returned, profile: Profile) -> Result:
    """What a call has brought, as far as the model can take it (rule 5)."""
    result = returned.result
    made_here = returned.item["type"] in _MADE_HERE
    if profile.vision or not made_here or isinstance(result.output, str):
        return result
    return Result(result.call_id, [part for part in result.output if "text" in part])


def _plain_text(parts: Sequence[Json]) -> str:
    seen = [seen_of(part) for part in parts]
    if any(part["type"] in MEDIA for part in seen):
        raise _unsupported("input", _NOT_BY_ASSISTANT)
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in seen)


def _unsupported(param: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Unsupported value at '{param}'. {reason}.", param=param, code="unsupported_value"
    )
