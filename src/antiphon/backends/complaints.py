"""What servers say when they fail, in any of their shapes → words that can be matched. Pure.

Rules
1. What counts are a server's own words: codes, types, the parameter. In its message there may stand
   names that a client chose, of tools, of properties: prose is matched only as a phrase of the
   server's in which no name has a place, and only where servers say nothing else.
2. A router that passes on what another server said (OpenRouter, `metadata.raw`) says that too.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

#: The words of OpenAI and llama.cpp for a prompt that does not fit.
_TOO_LONG: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
#: What others say: OpenRouter, vLLM, SGLang, llama.cpp, LM Studio, Ollama, TGI, Mistral, xAI,
#: Gemini and Anthropic.
_IS_TOO_LONG: Final = re.compile(
    r"maximum (context|model|input|prompt) length (is|of|\()"
    r"|(exceed(s|ed)?|(longer|greater) than) ((the|available|maximum|this|model's) )*"
    r"(context|model) (length|size|window|limit)"
    r"|context length of only|input length \(\d|input token count (\(?\d|is \d|exceeds)"
    r"|exceeds? the maximum number of tokens|input tokens exceed"
    r"|(prompt|input) is too long|too (long|large) (to fit into|for) (the )?model"
    r"|`?inputs`? tokens \+ `?max_new_tokens",
    re.IGNORECASE,
)
_NO_MODEL: Final = frozenset({"model_not_found", "DeploymentNotFound"})
_IS_NO_MODEL: Final = re.compile(
    r"\bmodel( \S+)? (was |does )?not (be )?(found|exist)", re.IGNORECASE
)
#: OpenAI: only money helps.
_NO_CREDIT: Final = frozenset({"insufficient_quota", "credit_balance_exhausted"})


@dataclass(frozen=True, slots=True)
class Complaint:
    """What was said. `codes`: all that a server has for programs to read."""

    message: str = ""
    codes: frozenset[str] = frozenset()
    param: str = ""

    @property
    def is_too_long(self) -> bool:
        """The prompt does not fit into the model's context."""
        return self.has(_TOO_LONG) or bool(_IS_TOO_LONG.search(self.message))

    @property
    def is_no_model(self) -> bool:
        """There is no such model."""
        return self.has(_NO_MODEL) or bool(_IS_NO_MODEL.search(self.message))

    @property
    def is_no_credit(self) -> bool:
        """It will not pass while a client waits."""
        return self.has(_NO_CREDIT)

    def has(self, codes: frozenset[str]) -> bool:
        """One of these codes was said."""
        return not self.codes.isdisjoint(codes)


def error_in(said: Any) -> dict[str, Any]:
    """The error object of a body, or of a value that is one. What is no JSON is a message."""
    if isinstance(said, bytes):
        try:
            said = orjson.loads(said)
        except orjson.JSONDecodeError:
            said = said.decode(errors="replace")
    if isinstance(said, list) and said:
        said = said[0]
    if isinstance(said, dict):
        said = said.get("error") or said
    return said if isinstance(said, dict) else {"message": str(said)}


def complaint(said: Any) -> Complaint:
    """The same, as what can be matched."""
    error = error_in(said)
    message, param = error.get("message") or error.get("detail"), error.get("param")
    codes = {str(error[key]) for key in ("code", "type", "status") if error.get(key)}
    inner = _passed_on(error)
    return Complaint(
        "\n".join(filter(None, (message if isinstance(message, str) else "", inner.message))),
        frozenset(codes) | inner.codes,
        param if isinstance(param, str) else inner.param,
    )


def _passed_on(error: dict[str, Any]) -> Complaint:
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return complaint(raw.encode(errors="replace")) if isinstance(raw, str) else Complaint()
