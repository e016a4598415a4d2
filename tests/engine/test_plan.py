"""What a plan is asked of the backend and of prompt templates (decision 0006)."""

from typing import Any

import pytest

from antiphon.errors import InvalidRequestError, NotFoundError
from antiphon.protocol.request import CreateResponse
from antiphon.store.base import PromptRow
from antiphon.testing import ScriptedBackend
from tests.engine.bench import HELLO, Bench

PROMPT = "pmpt_" + "0" * 48


class Picky(ScriptedBackend):
    """Takes no images by id."""

    def check(self, request: CreateResponse, model: str) -> list[str]:
        for index, item in enumerate(request.input):
            for part in item["content"]:
                if part.get("file_id"):
                    raise InvalidRequestError(
                        "No file ids.", param=f"input[{index}]", code="unsupported_value"
                    )
        return super().check(request, model)


async def bench_with(template: dict[str, Any]) -> Bench:
    bench = Bench(HELLO)
    bench.backend = bench.engine.router.backend = Picky(HELLO)  # type: ignore[attr-defined]
    await bench.store.prompts.add(PromptRow(PROMPT, "p", "greeting", 1, 1), template)
    return bench


def message(part: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [part]}


@pytest.mark.parametrize("background", [False, True])
async def test_what_a_template_brings_is_checked_before_anything_is_accepted(
    background: bool,
) -> None:
    image = message({"type": "input_image", "file_id": "file-1"})
    bench = await bench_with({"model": "m", "input": [image]})
    with pytest.raises(InvalidRequestError) as caught:
        await bench.engine.start(
            CreateResponse(prompt={"id": PROMPT}, background=background), "p", b"{}"
        )
    assert (caught.value.param, caught.value.code) == ("prompt", "unsupported_value")


async def test_the_messages_of_a_template_stand_before_everything_and_are_not_stored() -> None:
    said = message({"type": "input_text", "text": "I am {{who}}."})
    bench = await bench_with({"model": "m", "instructions": "Be {{how}}.", "input": [said]})
    prompt = {"id": PROMPT, "variables": {"who": "Ada", "how": "brief"}}
    run, task, _ = await bench.start(prompt=prompt, input="Hello")
    await task
    [seen] = bench.backend.prompts
    texts = [item["content"][0]["text"] for item in seen.items]
    assert (seen.request.instructions, texts) == ("Be brief.", ["I am Ada.", "Hello"])
    row = await bench.store.get("p", run.id)
    assert row is not None
    assert b"Ada" not in row.input


async def test_another_projects_prompt_is_unknown() -> None:
    """R-30."""
    bench = await bench_with({"model": "m", "instructions": "x"})
    for id_ in (PROMPT, "pmpt_" + "1" * 48):
        with pytest.raises(NotFoundError) as caught:
            await bench.engine.start(CreateResponse(prompt={"id": id_}, input="x"), "q")
        assert caught.value.message == f"Prompt with id '{id_}' not found."
