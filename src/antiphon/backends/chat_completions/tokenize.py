"""Tokens of a prompt, by the upstream's own tokenizer.

Rules
1. What is asked is what `generate` would send: the same messages, the same tools.
2. Counting is a courtesy: it has one short deadline, never raises, and never counts against the
   upstream's circuit breaker. What goes wrong is logged, and somebody else counts.
3. A server that does not answer, or has no tokenizer, is left in peace for a while: who waits for a
   count waits in vain once, not each time.
4. A count that leaves out images, sounds or files is worse than an estimate: then there is none.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson

from antiphon.backends.answers import Answer, read_up_to
from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.request import chat_body
from antiphon.backends.profiles import Profile
from antiphon.backends.weight import is_heavy
from antiphon.errors import APIError

Json: TypeAlias = dict[str, Any]

#: Seconds for all of it.
DEADLINE: Final = 5.0
#: Seconds for which a server is not asked again.
REST: Final = 30.0
#: Bytes of an answer: servers list all tokens, a million of them in some 8 MB.
_MOST: Final = 32 * 1024 * 1024
#: Bytes above which an answer is parsed in a thread (R-118).
_LARGE: Final = 128 * 1024
#: Bytes of an error that are read.
_ERROR_BODY: Final = 2_000
#: There is no such endpoint.
_MISSING: Final = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Question:
    """A POST below the root of the server; `optional`: the answer is None if there is no such
    endpoint."""

    path: str
    body: Json
    optional: bool = False


#: Asks questions, is sent the answers (None, or parsed JSON), and returns the number of tokens.
Counting: TypeAlias = Generator[Question, Any, int | None]


def ask_vllm(chat: Json) -> Counting:
    """vLLM: ``/tokenize`` applies the chat template; an image is one token there, so it is not
    asked about images."""
    if _has_media(chat):
        return None
    answer = yield Question("/tokenize", {**_said(chat), "add_generation_prompt": True})
    return _number(answer["count"])


def ask_llama_cpp(chat: Json) -> Counting:
    """llama.cpp: newer servers count a whole chat request, images too. Older ones (2025) render the
    template and tokenize the text, with the flags that they use themselves."""
    said = _said(chat)
    answer = yield Question("/v1/chat/completions/input_tokens", said, optional=True)
    if answer is not None:
        return _number(answer["input_tokens"])
    if _has_media(chat):
        return None
    rendered = yield Question("/apply-template", said)
    whole = {"model": chat["model"], "content": rendered["prompt"]}
    answer = yield Question("/tokenize", {**whole, "add_special": True, "parse_special": True})
    return len(answer["tokens"])


_WAYS: Final[Mapping[str, Callable[[Json], Counting]]] = {
    "vllm": ask_vllm,
    "llama.cpp": ask_llama_cpp,
}


class Tokenizer:
    """Counts with the tokenizer of one upstream."""

    def __init__(
        self,
        base_url: str,
        ask: Callable[[str, bytes], Awaitable[Answer]],
        tell: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` posts to a URL; `tell` logs an event and what happened."""
        self._root = root_of(base_url)
        self._ask_at = ask
        self._tell = tell
        self._clock = clock
        self._resting_until = 0.0

    async def count(self, prompt: Prompt, profile: Profile) -> int | None:
        """Tokens of the prompt; None when the upstream does not say."""
        if profile.counts is None or self._clock() < self._resting_until:
            return None
        way, heavy = _WAYS[profile.counts], is_heavy(prompt)
        try:
            async with asyncio.timeout(DEADLINE):
                if heavy:
                    chat = await asyncio.to_thread(chat_body, prompt, profile)
                else:
                    chat = chat_body(prompt, profile)
                return await self._ask(way(chat), in_thread=heavy)
        except _NoTokenizerError as exc:
            self._rest(f"HTTP {exc.status}")
        except OSError as exc:
            self._rest(f"{type(exc).__name__}: {exc}")
        except (ValueError, KeyError, TypeError) as exc:
            self._tell("upstream_count_failed", f"{type(exc).__name__}: {exc}")
        except APIError as exc:
            self._tell("upstream_count_failed", exc.message)
        return None

    async def _ask(self, counting: Counting, *, in_thread: bool) -> int | None:
        answer: Any = None
        while True:
            try:
                question = counting.send(answer)
            except StopIteration as end:
                count: int | None = end.value
                return count
            if in_thread:
                body = await asyncio.to_thread(orjson.dumps, question.body)
            else:
                body = orjson.dumps(question.body)
            answer = await self._post(question, body)

    async def _post(self, question: Question, body: bytes) -> Any:
        with closing(await self._ask_at(self._root + question.path, body)) as response:
            if response.status in _MISSING:
                if question.optional:
                    return None
                raise _NoTokenizerError(response.status)
            if response.status != 200:
                said = (await read_up_to(response, _ERROR_BODY)).decode(errors="replace")
                raise ValueError(f"{question.path} answered with HTTP {response.status}: {said}")
            raw = await read_up_to(response, _MOST + 1)
            if len(raw) > _MOST:
                raise ValueError("the answer is too long")
        if len(raw) > _LARGE:
            return await asyncio.to_thread(orjson.loads, raw)
        return orjson.loads(raw)

    def _rest(self, why: str) -> None:
        self._resting_until = self._clock() + REST
        self._tell("upstream_count_failed", f"{why}; not asked again for {REST:.0f} seconds")


class _NoTokenizerError(Exception):
    """The server has no such endpoint."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def root_of(base_url: str) -> str:
    """The address of a server without the version of the API."""
    return re.sub(r"/v\d+$", "", base_url.rstrip("/"))


def _said(chat: Json) -> Json:
    """What of a chat request becomes part of the prompt."""
    return {key: chat[key] for key in ("model", "messages", "tools") if key in chat}


def _has_media(chat: Json) -> bool:
    return any(
        isinstance(message["content"], list)
        and any(part["type"] != "text" for part in message["content"])
        for message in chat["messages"]
    )


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("the number of tokens is none")
    return value
