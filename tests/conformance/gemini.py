"""The Gemini API, as Google's documentation has it (``v1beta``): see `tests.conformance.wire`.

Rules
1. Signatures stand where Gemini puts them: on the first of the calls, else on the last thought,
   else on an empty text at the end.
2. A wrong key is a 400 there, and how long to wait stands in the body of a 429.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from tests.backends.upstream import Reply, Request, Step, sse
from tests.conformance.wire import Asked, Break, Json, Message, Refusal, Remote, Turn

#: What stands for a signature that nobody has made.
UNSIGNED: Final = "skip_thought_signature_validator"
_FINISH: Final = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "filter": "SAFETY",
    "refusal": "PROHIBITED_CONTENT",
}
_CHOICES: Final = {"AUTO": "auto", "VALIDATED": "auto", "NONE": "none", "ANY": "required"}
_RETRY: Final = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
_BAD_KEY: Final = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}
_TOO_LONG: Final = (
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576). SECRET"
)
#: Seconds between what was said and the reset of the connection, which unsays what was not read.
_MOMENT: Final = 0.05
#: Refusal → status, status in words, message, details.
_ERRORS: Final[Mapping[str, tuple[int, str, str, Sequence[Json]]]] = {
    "rate": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. SECRET", [_RETRY]),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. SECRET", []),
    "broken": (500, "INTERNAL", "An internal error has occurred. SECRET", []),
    "key": (400, "INVALID_ARGUMENT", "API key not valid. SECRET", [_BAD_KEY]),
    "forbidden": (403, "PERMISSION_DENIED", "Your project was denied access. SECRET", []),
    "too_long": (400, "INVALID_ARGUMENT", _TOO_LONG, []),
    "no_model": (404, "NOT_FOUND", "models/x is not found for API version. SECRET", []),
    "refused": (400, "INVALID_ARGUMENT", "Request contains an invalid argument. SECRET", []),
}


def chunk(*parts: Json, finish: str | None = None, **more: Any) -> Json:
    """A `GenerateContentResponse`; `more` are its other keys."""
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r1", **more}


def error(status: int, word: str, message: str, details: Sequence[Json] = ()) -> Json:
    """An error body of Google's."""
    said: Json = {"code": status, "message": message, "status": word}
    return {"error": {**said, **({"details": list(details)} if details else {})}}


class GeminiWire(Remote):
    """A `Wire`."""

    name = "gemini"
    kind = "gemini"
    settings = ""
    path = "/v1beta"
    schemas = True
    thoughts_back = False  # without a signature they are nothing to it
    signatures = True
    images = True
    filters = True

    def reply(self, turn: Turn) -> Reply:
        """See `Wire.reply`."""
        incoming, cached, outgoing, thoughts = turn.usage
        counts = {
            "promptTokenCount": incoming,
            "candidatesTokenCount": outgoing - thoughts,
            "totalTokenCount": incoming + outgoing,
            "cachedContentTokenCount": cached,
            "thoughtsTokenCount": thoughts,
        }
        usage = {key: count for key, count in counts.items() if count}  # as protobuf's JSON
        body: list[Step] = []
        for part in _parts(turn):
            body.append(sse(chunk(part, usageMetadata={"promptTokenCount": incoming})))
            if turn.pause:
                body.append(turn.pause)
        end = chunk({"text": ""}, finish=_FINISH[turn.finish], usageMetadata=usage)
        return Reply(body=[*body, sse(end)])

    def fault(self, fault: Refusal | Break) -> Reply:
        """See `Wire.fault`."""
        hello = sse(chunk({"text": "Hel"}))
        match fault:
            case "error":
                failed = error(500, "INTERNAL", "An internal error has occurred. SECRET")
                return Reply(body=[hello, sse(failed)])
            case "cut" | "stall":
                step: Literal["cut", "stall"] = fault
                return Reply(body=[hello, _MOMENT, step])
            case "early":
                return Reply(body=[hello])
            case "noise":
                return Reply(body=[hello, b"data: {SECRET\n\n"])
            case "web_page":
                html = {"content-type": "text/html"}
                return Reply(body=[b"<!DOCTYPE html><html>SECRET</html>"], headers=html)
            case "garbage":
                return Reply.json({"hello": "SECRET"})
            case _:
                status, word, message, details = _ERRORS[fault]
                return Reply.json(error(status, word, message, details), status)

    def asked(self, request: Request) -> Asked:
        """See `Wire.asked`."""
        body = request.json
        config = body.get("generationConfig", {})
        schema = None
        if config.get("responseMimeType") == "application/json":
            schema = config.get("responseJsonSchema", {})
        functions = [
            function for tool in body.get("tools", ()) for function in tool["functionDeclarations"]
        ]
        model, _, method = request.path.rpartition("/models/")[2].partition(":")
        assert method == "streamGenerateContent?alt=sse"
        return Asked(
            model=model,
            messages=[message for content in body["contents"] for message in _messages(content)],
            system="\n".join(part["text"] for part in _system(body)),
            tools={function["name"]: _schema_of(function) for function in functions},
            choice=_choice(body.get("toolConfig", {}).get("functionCallingConfig")),
            schema=schema,
            temperature=config.get("temperature"),
            most_tokens=config.get("maxOutputTokens"),
            key=request.headers.get("x-goog-api-key"),
        )

    def models(self, *names: str) -> Reply:
        """See `Wire.models`."""
        rows = [
            {
                "name": f"models/{name}",
                "version": "001",
                "displayName": name,
                "inputTokenLimit": 1_048_576,
                "outputTokenLimit": 65_536,
                "supportedGenerationMethods": ["generateContent", "countTokens"],
                "thinking": True,
            }
            for name in names
        ]
        return Reply.json({"models": rows})


def _parts(turn: Turn) -> list[Json]:
    """What the model says; rule 1."""
    thoughts: list[Json] = [{"text": text, "thought": True} for text in turn.thoughts]
    calls: list[Json] = [
        {"functionCall": {"id": f"fc{place}", "name": name, "args": arguments}}
        for place, (name, arguments) in enumerate(turn.calls)
    ]
    texts: list[Json] = [{"text": text} for text in turn.text]
    if turn.signature is not None:
        if not (calls or thoughts):
            texts.append({"text": ""})
        signed = calls[0] if calls else thoughts[-1] if thoughts else texts[-1]
        signed["thoughtSignature"] = turn.signature
    return [*thoughts, *texts, *calls]


def _system(body: Json) -> list[Json]:
    parts: list[Json] = body.get("systemInstruction", {}).get("parts", [])
    return parts


def _schema_of(function: Json) -> Json:
    """Google's own SDK writes some keys as protobuf has them: its JSON may be read either way."""
    camel, snake = "parametersJsonSchema", "parameters_json_schema"
    schema: Json = function[camel if camel in function else snake]
    return schema


def _choice(config: Json | None) -> str | None:
    if config is None:
        return None
    allowed = config.get("allowedFunctionNames", [])
    return allowed[0] if len(allowed) == 1 else _CHOICES[config["mode"]]


def _messages(content: Json) -> list[Message]:
    """One for each result, else one."""
    parts: list[Json] = content["parts"]
    answers = [part["functionResponse"] for part in parts if "functionResponse" in part]
    if answers:
        assert len(answers) == len(parts)
        return [_answer(answer) for answer in answers]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    signed = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    real = [signature for signature in signed if signature != UNSIGNED]
    return [
        Message(
            role={"user": "user", "model": "assistant"}[content["role"]],
            text="".join(_texts(parts, thought=False)),
            images=_inline(parts, "image/"),
            files=tuple(url[5:].partition(";")[0] for url in _inline(parts, "application/")),
            calls=tuple((call["name"], call["args"]) for call in calls),
            thoughts="".join(_texts(parts, thought=True)),
            signature=real[0] if real else None,
        )
    ]


def _answer(answer: Json) -> Message:
    response = answer["response"]
    images = _inline(answer.get("parts", ()), "image/")
    return Message("tool", str(response.get("output", response.get("error"))), images)


def _texts(parts: Sequence[Json], *, thought: bool) -> list[str]:
    return [
        part["text"] for part in parts if "text" in part and bool(part.get("thought")) == thought
    ]


def _inline(parts: Sequence[Json], kind: str) -> tuple[str, ...]:
    blobs = [part["inlineData"] for part in parts if "inlineData" in part]
    return tuple(
        f"data:{blob['mimeType']};base64,{blob['data']}"
        for blob in blobs
        if blob["mimeType"].startswith(kind)
    )
