"""Amazon Bedrock's ConverseStream, as its documentation has it: see `tests.conformance.wire`.

Rules
1. Events are frames of ``application/vnd.amazon.eventstream``: lengths, headers, checksums.
2. The key is the access key of a signature: a bearer token wants HTTPS.
3. What is read from the cache is not in `inputTokens`.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import orjson

from tests.backends.upstream import Reply, Request, Step
from tests.conformance.library import LibraryWire
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Turn

_HEADERS: Final = {"content-type": "application/vnd.amazon.eventstream"}
#: Refusal → status, type, message.
_ERRORS: Final[Mapping[str, tuple[int, str, str]]] = {
    "rate": (429, "ThrottlingException", "Too many tokens, please wait. SECRET"),
    "overloaded": (503, "ServiceUnavailableException", "Bedrock is unable to answer. SECRET"),
    "broken": (500, "InternalServerException", "The system encountered an error. SECRET"),
    "key": (403, "UnrecognizedClientException", "The security token is invalid. SECRET"),
    "forbidden": (403, "AccessDeniedException", "You don't have access to it. SECRET"),
    "too_long": (400, "ValidationException", "Input is too long for requested model. SECRET"),
    "no_model": (400, "ValidationException", "The provided model identifier is invalid. SECRET"),
    "refused": (400, "ValidationException", "The request is not valid. SECRET"),
}
_FINISH: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "filter": "content_filtered",
    "refusal": "guardrail_intervened",
}


def frame(headers: Mapping[str, str], said: Json) -> bytes:
    """One message of an event stream."""
    payload = orjson.dumps(said)
    head = b"".join(
        bytes([len(name)])
        + name.encode()
        + b"\x07"
        + len(value).to_bytes(2, "big")
        + value.encode()
        for name, value in headers.items()
    )
    total = 12 + len(head) + len(payload) + 4
    prelude = total.to_bytes(4, "big") + len(head).to_bytes(4, "big")
    whole = prelude + zlib.crc32(prelude).to_bytes(4, "big") + head + payload
    return whole + zlib.crc32(whole).to_bytes(4, "big")


def _header(name: str, value: str) -> bytes:
    """Its value is a text (7)."""
    return bytes([len(name)]) + name.encode() + b"\x07\0" + bytes([len(value)]) + value.encode()


def event(type_: str, **said: Any) -> bytes:
    """One event."""
    kind = {":event-type": type_, ":content-type": "application/json", ":message-type": "event"}
    return frame(kind, said)


def failure(type_: str, message: str) -> bytes:
    """An exception within a stream."""
    headers = {":exception-type": type_, ":content-type": "application/json"}
    return frame({**headers, ":message-type": "exception"}, {"message": message})


def block(index: int, begin: Json | None, *deltas: Json) -> list[bytes]:
    """A block of content; only calls have a beginning."""
    starts = [event("contentBlockStart", start=begin, contentBlockIndex=index)] if begin else []
    more = [event("contentBlockDelta", delta=delta, contentBlockIndex=index) for delta in deltas]
    return [*starts, *more, event("contentBlockStop", contentBlockIndex=index)]


class BedrockWire(LibraryWire):
    """A `Wire`; see `tests.conformance.wire`."""

    name = "any-llm, bedrock"
    settings = (
        'provider = "bedrock"\noptions = {region_name = "eu-central-1", '
        'aws_access_key_id = "key-of-the-operator", aws_secret_access_key = "wJalrXUtnFEMI"}'
    )
    schemas = False
    filters = True

    def reached(self, port: int, folder: Path) -> str:
        """See `Wire.reached`."""
        return f'base_url = "http://127.0.0.1:{port}"'

    def environment(self, port: int) -> Mapping[str, str]:
        """Its list has an address of its own."""
        address = {"AWS_ENDPOINT_URL_BEDROCK": f"http://127.0.0.1:{port}"}
        return {**super().environment(port), **address}

    def paths(self, *names: str) -> Mapping[str, Reply]:
        """The two lists."""
        rows = [{"modelId": name, "inferenceTypesSupported": ["ON_DEMAND"]} for name in names]
        profiles = "/inference-profiles?type=SYSTEM_DEFINED"
        return {
            "/foundation-models": Reply.json({"modelSummaries": rows}),
            profiles: Reply.json({"inferenceProfileSummaries": []}),
        }

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        body: list[Step] = []
        for piece in _events(turn):
            body += [piece, turn.pause] if turn.pause else [piece]
        return Reply(body=body, headers=_HEADERS)

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        if fault in _ERRORS:
            status, kind, message = _ERRORS[fault]
            headers = {"x_amzn_errortype": kind}
            if fault == "rate":
                headers["retry_after"] = "1"
            return Reply.json({"message": message}, status, **headers)
        if fault == "web_page":
            return Reply(body=[b"<html>SECRET</html>"], headers={"content-type": "text/html"})
        if fault == "garbage":
            return Reply.json({"answer": "SECRET"})
        begin = [event("messageStart", role="assistant"), *block(0, None, {"text": "Hel"})[:1]]
        ends: dict[str, list[Step]] = {
            "error": [failure("modelStreamErrorException", "SECRET")],
            "cut": [0.1, "cut"],
            "early": [event("contentBlockStop", contentBlockIndex=0)],
            "stall": ["stall"],
            "noise": [b"\0\0\0\x20\0\0\0\x10SECRET" + b"\0" * 18],
        }
        return Reply(body=[*begin, *ends[fault]], headers=_HEADERS)

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        tools = body.get("toolConfig", {})
        config = body.get("inferenceConfig", {})
        key = re.search(r"Credential=([^/]+)/", request.headers["authorization"])
        return Asked(
            model=unquote(request.path.split("/")[2]),
            messages=[m for message in body["messages"] for m in _messages(message)],
            system="\n\n".join(part["text"] for part in body.get("system", ())),
            tools={
                tool["toolSpec"]["name"]: tool["toolSpec"]["inputSchema"]["json"]
                for tool in tools.get("tools", ())
            },
            choice={"any": "required"}[next(iter(tools["toolChoice"]))]
            if "toolChoice" in tools
            else None,
            temperature=config.get("temperature"),
            most_tokens=config.get("maxTokens"),
            key=key[1] if key else None,
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`: they are at `paths`."""
        return Reply(404)


def _events(turn: Turn) -> Iterator[bytes]:
    yield event("messageStart", role="assistant")
    index = 0
    if turn.thoughts:
        deltas = [{"reasoningContent": {"text": piece}} for piece in turn.thoughts]
        signed = {"reasoningContent": {"signature": turn.signature or "c2lnbmF0dXJl"}}
        yield from block(index, None, *deltas, signed)
        index += 1
    if turn.text:
        yield from block(index, None, *({"text": piece} for piece in turn.text))
        index += 1
    for number, (name, arguments) in enumerate(turn.calls):
        written = orjson.dumps(arguments).decode()
        pieces = (written[:3], written[3:]) if arguments else ("",)
        use = {"toolUse": {"toolUseId": f"tooluse_{number}", "name": name}}
        yield from block(index, use, *({"toolUse": {"input": piece}} for piece in pieces))
        index += 1
    calls = turn.calls and turn.finish == "stop"
    yield event("messageStop", stopReason="tool_use" if calls else _FINISH[turn.finish])
    given, cached, made, _ = turn.usage
    counts = {"inputTokens": given - cached, "outputTokens": made, "totalTokens": given + made}
    usage = {**counts, "cacheReadInputTokens": cached}
    yield event("metadata", usage=usage, metrics={"latencyMs": 1})


def _messages(message: Json) -> Iterator[Message]:
    parts = message["content"]
    for result in (part["toolResult"] for part in parts if "toolResult" in part):
        texts = [str(part.get("text", part.get("json"))) for part in result["content"]]
        yield Message("tool", "\n".join(texts))
    texts = [part["text"] for part in parts if "text" in part]
    images = [_address(part["image"]) for part in parts if "image" in part]
    calls = [part["toolUse"] for part in parts if "toolUse" in part]
    if texts or images or calls:
        called = [(call["name"], call["input"]) for call in calls]
        yield Message(message["role"], "\n".join(texts), images, (), called)


def _address(image: Json) -> str:
    return f"data:image/{image['format']};base64,{image['source']['bytes']}"
