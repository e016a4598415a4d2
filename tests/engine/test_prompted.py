"""Answers by a schema where the backend cannot be told one (spec §8)."""

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from antiphon.backends.base import Media, Prompt
from antiphon.engine.prompted import Prompted, telling
from antiphon.errors import UpstreamError
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.response import Usage
from antiphon.protocol.schemas import check_schemas
from antiphon.testing import ScriptedBackend, Step
from tests.backends.asking import prompt

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "name": "w", "schema": SCHEMA, "strict": True}
GOOD, BAD = '{"city": "Bern"}', '{"town": "Bern"}'


class Without(ScriptedBackend):
    """Cannot be told a schema."""

    def media(self, model: str) -> Media:
        super().media(model)
        return Media(schemas=False)


def says(*texts: str, finish: FinishReason = "stop", usage: Usage | None = None) -> list[Step]:
    deltas: list[Step] = [[TextDelta(text)] for text in texts]
    return [[], *deltas, [UsageReport(usage or Usage(10, 2, 5, 1)), Finish(finish)]]


async def answer(
    *turns: Sequence[Step], form: Any = FORM, **parameters: Any
) -> tuple[list[list[Delta]], list[Prompt]]:
    """All lists of deltas, and what the model was asked."""
    inner = ScriptedBackend(*turns)
    asked = prompt(text={"format": form}, **{"input": "As JSON", **parameters})
    backend = Prompted(inner, check_schemas(asked.request))
    async with aclosing(backend.generate(asked)) as turn:
        lists = [deltas async for deltas in turn]
    return lists, inner.prompts


def whole(lists: list[list[Delta]]) -> list[Delta]:
    return [delta for deltas in lists for delta in deltas]


async def test_the_model_is_told_in_words() -> None:
    lists, (asked,) = await answer(says('{"city":', ' "Bern"}'), instructions="Be kind.")
    assert lists[0] == [], "the upstream has accepted the prompt"
    assert whole(lists) == [TextDelta(GOOD), UsageReport(Usage(10, 2, 5, 1)), Finish()]
    instructions = asked.request.instructions or ""
    assert instructions.startswith("Be kind.\n\n")
    assert '"required":["city"]' in instructions
    assert asked.request.text is None


async def test_what_does_not_match_goes_back_once() -> None:
    lists, (first, second) = await answer(says(BAD), says(GOOD))
    assert whole(lists) == [TextDelta(GOOD), UsageReport(Usage(20, 4, 10, 2)), Finish()]
    said, wish = second.items[len(first.items) :]
    assert (said["role"], said["content"][0]["text"]) == ("assistant", BAD)
    assert "does not match the schema" in wish["content"][0]["text"]
    assert second.request.tool_choice == "none"
    lists, asked = await answer(says("x"), says(BAD))
    assert whole(lists)[0] == TextDelta(BAD), "who looks at it then says so"
    assert len(asked) == 2


async def test_the_tier_is_that_of_the_last_answer_that_says_it() -> None:
    first, second = says(BAD), says(GOOD)
    first[-1] = [UsageReport(Usage(1, 0, 1, 0), "flex"), Finish()]
    lists, _ = await answer(first, second)
    assert whole(lists)[-2] == UsageReport(Usage(11, 2, 6, 1), "flex")


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{GOOD}\n```",
        f"Here you are:\n```\n{GOOD}\n```\nBye.",
        f"Sure! {GOOD} Anything else?",
    ],
)
async def test_json_is_taken_out_of_other_text(text: str) -> None:
    lists, asked = await answer(says(text))
    assert whole(lists)[0] == TextDelta(GOOD)
    assert len(asked) == 1


async def test_any_object_is_a_form_too() -> None:
    lists, asked = await answer(says("[1]"), says('{"a": 1}'), form={"type": "json_object"})
    assert whole(lists)[0] == TextDelta('{"a": 1}')
    assert "JSON Schema" not in (asked[0].request.instructions or "")
    loose = {"type": "json_schema", "name": "w", "schema": SCHEMA, "description": "A place."}
    lists, asked = await answer(says(BAD), form=loose)
    assert whole(lists)[0] == TextDelta(BAD), "not strict: any object is one"
    assert "It is: A place." in (asked[0].request.instructions or "")


@pytest.mark.parametrize(
    ("turn", "deltas"),
    [
        (says("{", finish="length"), [TextDelta("{")]),
        ([[], [RefusalDelta("No.")], [Finish()]], [RefusalDelta("No.")]),
        (
            [[], [TextDelta("Hm."), ToolCallDelta(0, "{}", "f", "c")], [Finish()]],
            [ToolCallDelta(0, "{}", "f", "c"), TextDelta("Hm.")],
        ),
    ],
)
async def test_what_is_no_answer_is_left_as_it_is(turn: list[Step], deltas: list[Delta]) -> None:
    lists, asked = await answer(turn)
    said = [one for one in whole(lists) if not isinstance(one, UsageReport | Finish)]
    assert said == deltas
    assert len(asked) == 1


async def test_reasoning_comes_as_it_is_thought() -> None:
    turn: list[Step] = [[], [ReasoningDelta("Hm.")], *says(GOOD)[1:]]
    lists, _ = await answer(turn)
    assert lists[:2] == [[], [ReasoningDelta("Hm.")]]


async def test_a_failure_is_one() -> None:
    with pytest.raises(UpstreamError):
        await answer([[], UpstreamError()])
    with pytest.raises(UpstreamError):
        await answer(says(BAD), [[], UpstreamError()])


async def test_text_and_summaries_are_none_of_its_business() -> None:
    lists, (asked,) = await answer(says("Hello"), form={"type": "text"})
    assert whole(lists)[0] == TextDelta("Hello")
    assert asked.request.instructions is None


def test_when_it_is_needed() -> None:
    with_schemas, without = ScriptedBackend(), Without()
    for form, is_told in ((FORM, True), ({"type": "json_object"}, True), ({"type": "text"}, False)):
        request = prompt(text={"format": form}, input="As JSON").request
        assert telling(with_schemas, "m", request, None) is with_schemas
        assert isinstance(telling(without, "m", request, None), Prompted) is is_told
    assert telling(without, "m", prompt().request, None) is without


async def test_the_rest_is_the_backends() -> None:
    inner = ScriptedBackend(name="one", tokens=lambda asked: len(asked.request.instructions or ""))
    backend = Prompted(inner, None)
    asked = prompt(text={"format": FORM})
    assert (backend.name, await backend.window("m")) == ("one", None)
    assert (await backend.count(asked) or 0) > 100
    assert backend.check(asked.request, "m") == []
    assert backend.media("m") == Media()
    assert [model.id for model in await backend.models()] == ["one"]
    await backend.aclose()


async def test_many_lines_are_read_in_no_time() -> None:
    """R-118: a loop of line breaks in a fence that never ends."""
    began = time.monotonic()
    await answer(says("```" + "\n" * 50_000), says("```\n" * 50_000))
    assert time.monotonic() - began < 1.0


async def test_what_the_second_answer_is_besides_text() -> None:
    refused: list[Step] = [[], [RefusalDelta("No.")], [Finish()]]
    lists, _ = await answer(says(BAD), refused)
    assert RefusalDelta("No.") in whole(lists)
    with pytest.raises(UpstreamError) as caught:
        await answer(says(BAD), says())
    assert caught.value.should_retry is False
    with pytest.raises(UpstreamError) as caught:
        await answer(says(BAD), [UpstreamError()])
    assert caught.value.should_retry is False, "the first answer was paid for (R-52)"
