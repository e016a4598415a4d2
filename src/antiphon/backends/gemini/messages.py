"""Items (spec App. B, C) → the `contents` and the system instruction of a Gemini request. Pure.

Rules
1. Everything that the model said in one turn (`antiphon.backends.transcript`) is one content of
   the role ``model``; the results of its calls are one content of the role ``user`` right after
   it, one `functionResponse` for each call, in their order: Gemini counts them.
2. Instructions, and the messages of system and developer before all else, are the system
   instruction. Later ones stand where they were said, as words of the user with their role around
   them: Gemini has no role for them.
3. A signature goes back on the part that it came on (`signatures.py`). Reasoning of another
   deployment or model is not shown: Gemini has no place for thoughts that it did not sign.
4. The first call of each content of the current turn has to be signed where a model insists on it;
   a foreign one gets the word that Google's documentation has for that.
5. Media in results stand in the result where the model takes them there, else in a content of the
   user after all results.
6. Images that tools of this server made are for models that see; others read that they are there.
7. A conversation begins and ends with the user, and says something: what is missing is put there. A
   text of the model at the end would be taken for the beginning of its answer.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.gemini.signatures import SIGNATURE, Signatures
from antiphon.backends.gemini.traits import Traits
from antiphon.backends.origins import Origin
from antiphon.backends.transcript import Called, Returned, Said, Step, Turn, transcript
from antiphon.errors import InvalidRequestError
from antiphon.protocol.items.base import Item, object_text
from antiphon.protocol.items.content import seen_of
from antiphon.protocol.items.reading import is_rule

Json: TypeAlias = dict[str, Any]

#: Parts that are no text.
MEDIA: Final = frozenset({"input_audio", "input_file", "input_image", "input_video"})
#: Items with images that this server made.
_MADE_HERE: Final = frozenset({"image_generation_call"})
#: What stands for the signature of a call that another model made (Google, "Thought signatures").
_UNSIGNED: Final = "skip_thought_signature_validator"
_USER_ONLY: Final = "This model backend takes media in user messages only"
_INLINE_ONLY: Final = "This model backend takes media inline only, as base64"
_BEGINNING: Final = "(The conversation begins with what you said.)"
_GO_ON: Final = "Continue."
#: Words of the system or the developer where there is no place for them but among the user's.
_RULE: Final = "<{role}_message>\n{text}\n</{role}_message>"
_NO_RESULT: Final = {"error": "There is no result."}


@dataclass(frozen=True, slots=True)
class Target:
    """The model that is asked: its name at the upstream, what it can do, where it is; `sees`: it is
    shown the images that tools of this server make."""

    model: str
    traits: Traits
    origin: Origin
    sees: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request says: the texts of its system instruction, and its `contents`."""

    rules: list[str]
    contents: list[Json]


def conversation(instructions: str | None, items: Sequence[Item], target: Target) -> Conversation:
    """Raises `InvalidRequestError` for parts that no request can carry."""
    steps = transcript(items)
    front = next((i for i, step in enumerate(steps) if not _is_rule(step)), len(steps))
    said = [_plain_text(step.item["content"]) for step in steps[:front] if isinstance(step, Said)]
    rules = [text for text in (instructions, *said) if text]
    last = max((i for i, step in enumerate(steps) if not isinstance(step, Turn)), default=-1)
    contents: list[Json] = []
    for i, step in enumerate(steps[front:], front):
        match step:
            case Said():
                contents += _content("user", _user_parts(step.item))
            case Turn():
                _add(contents, _spoken(step, target, is_current=i > last))
            case Returned():
                contents += _content("user", _stray(step, target))
    if not contents:
        return Conversation([], [{"role": "user", "parts": [{"text": "\n\n".join(rules) or " "}]}])
    if contents[0]["role"] == "model":
        contents.insert(0, {"role": "user", "parts": [{"text": _BEGINNING}]})
    if contents[-1]["role"] == "model":
        contents.append({"role": "user", "parts": [{"text": _GO_ON}]})
    return Conversation(rules, contents)


def check_part(part: Json, path: str, *, text_only: bool) -> None:
    """Raise `InvalidRequestError` for a part that is no text where no content can carry it."""
    if part["type"] not in MEDIA:
        return
    if text_only:
        raise _unsupported(path, _USER_ONLY)
    if part["type"] == "input_video" and not part["video_url"].startswith("data:"):
        raise _unsupported(f"{path}.video_url", _INLINE_ONLY)


def rule_part(role: str, text: str) -> Json:
    """What the system or the developer says, as a part of what the user does."""
    return {"text": _RULE.format(role=role, text=text)}


# -- who says what -------------------------------------------------------------------------------


def _is_rule(step: Step) -> bool:
    return isinstance(step, Said) and is_rule(step.item)


def _content(role: str, parts: list[Json]) -> list[Json]:
    """A content, if there is something in it: an empty one is an error."""
    return [{"role": role, "parts": parts}] if parts else []


def _add(contents: list[Json], spoken: list[Json]) -> None:
    """A turn of the model; what it said before, if nobody has said anything since, goes on: a call
    that follows another content of the model is refused."""
    if spoken and contents and contents[-1]["role"] == "model":
        contents[-1]["parts"] += spoken[0]["parts"]
        spoken = spoken[1:]
    contents += spoken


def _user_parts(item: Item) -> list[Json]:
    if is_rule(item):
        role, text = item["role"], _plain_text(item["content"])
        return [rule_part(role, text)] if text else []
    return [part for part in map(_part, item["content"]) if part != {"text": ""}]


def _spoken(turn: Turn, target: Target, *, is_current: bool) -> list[Json]:
    """The model's content and the results of its calls; nothing of a turn that is reasoning
    alone."""
    parts: list[Json] = []
    signatures = Signatures(target.origin)
    has_said = False
    for part in turn.parts:
        if isinstance(part, Called):
            parts.append(signatures.sign_call(_call(part)))
        elif part["type"] == "reasoning":
            signatures.read(part, parts)
            continue
        elif text := _plain_text(part["content"]):
            parts.append({"text": text})
        else:
            continue
        has_said = True
    if not has_said:
        return []
    first = next((part for part in parts if "functionCall" in part), None)
    if first is not None and is_current and target.traits.signed:
        first.setdefault(SIGNATURE, _UNSIGNED)
    return [{"role": "model", "parts": parts}, *_results(turn, target)]


def _call(called: Called) -> Json:
    call = called.call
    arguments = orjson.loads(object_text(call.arguments))
    return {"functionCall": {"id": call.call_id, "name": call.name, "args": arguments}}


def _results(turn: Turn, target: Target) -> list[Json]:
    waiting = deque(turn.results)
    responses: list[Json] = []
    beside: list[Json] = []
    for called in turn.calls:
        call = called.call
        response: Json = {"id": call.call_id, "name": call.name, "response": _NO_RESULT}
        if waiting and waiting[0].result.call_id == call.call_id:
            text, media = _brought(waiting.popleft(), target)
            response["response"] = {"output": text}
            if media and target.traits.result_media:
                response["parts"] = media
            else:
                beside += media
        responses.append({"functionResponse": response})
    return _content("user", responses) + _content("user", beside)


def _brought(returned: Returned, target: Target) -> tuple[str, list[Json]]:
    """The text and the media of a result, as far as the model can take them (rule 6)."""
    output = returned.result.output
    if isinstance(output, str):
        return output, []
    blind = not target.sees and returned.item["type"] in _MADE_HERE
    parts = [_part(part) for part in output if not (blind and "text" not in part)]
    text = "\n".join(part["text"] for part in parts if "text" in part)
    media = [part for part in parts if "text" not in part]
    if media and not text:
        inside = target.traits.result_media
        text = "(see the attached content)" if inside else "(see the content that follows)"
    return text, media


def _stray(returned: Returned, target: Target) -> list[Json]:
    """A result of which nobody knows the call: Gemini would refuse it as one."""
    text, media = _brought(returned, target)
    return [{"text": f"The result of an earlier call:\n{text}"}, *media]


# -- parts ---------------------------------------------------------------------------------------


def _part(part: Json) -> Json:
    """One content part as Gemini knows it; what it has no place for was filled."""
    part = seen_of(part)
    match part["type"]:
        case "input_image" if part.get("image_url"):
            return _inline(part["image_url"])
        case "input_video":
            return _inline(part["video_url"])
        case "input_file" if part.get("file_data"):
            return _inline(part["file_data"])
        case "input_file" | "input_image":
            raise _unsupported("input", _INLINE_ONLY)
        case "input_audio":
            audio = part["input_audio"]
            return _blob(f"audio/{audio['format']}", audio["data"])
        case _:
            return {"text": part.get("text") or part.get("refusal") or ""}


def _inline(url: str) -> Json:
    """A data URL."""
    head, comma, encoded = url.partition(",")
    scheme, _, described = head.partition(":")
    media_type, *parameters = described.split(";")
    if not comma or scheme.lower() != "data" or "base64" not in parameters or not media_type:
        raise _unsupported("input", _INLINE_ONLY)
    return _blob(media_type, encoded)


def _blob(media_type: str, encoded: str) -> Json:
    return {"inlineData": {"mimeType": media_type, "data": encoded}}


def _plain_text(parts: Sequence[Json]) -> str:
    seen = [seen_of(part) for part in parts]
    for part in seen:
        check_part(part, "input", text_only=True)
    return "\n".join(part.get("text") or part.get("refusal") or "" for part in seen)


def _unsupported(param: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"Unsupported value at '{param}'. {hint}.", param=param, code="unsupported_value"
    )
