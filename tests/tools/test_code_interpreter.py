"""The tool ``code_interpreter`` before and after its code runs."""

from collections.abc import Sequence
from typing import Any

import pytest

from antiphon.errors import InvalidRequestError, Overloaded, ToolFailed
from antiphon.protocol.code_interpreter import Executed, MadeFile
from antiphon.tools.base import Call, Json, Outcome, Scope
from antiphon.tools.code_interpreter.opened import OpenCodeInterpreter
from antiphon.tools.code_interpreter.tool import CodeInterpreter

TOOL: Json = {"type": "code_interpreter", "container": {"type": "auto"}}
OUTPUTS = frozenset({"code_interpreter_call.outputs"})
IMAGE: Json = {"type": "image", "url": "data:image/png;base64,AA=="}


def logs(text: str) -> Json:
    return {"type": "logs", "logs": text}


class FakePlace:
    """A container that does what the test says; `ran`: the codes."""

    id = "cntr_1"

    def __init__(self, done: Executed) -> None:
        self.done = done
        self.ran: list[str] = []
        self.trouble: Exception | None = None

    async def run(self, code: str) -> Executed:
        self.ran.append(code)
        if self.trouble is not None:
            raise self.trouble
        return self.done


class FakeRunning:
    """See `Running`."""

    def __init__(self, done: Executed = Executed(), reason: str | None = None) -> None:  # noqa: B008
        self.here = FakePlace(done)
        self.reason = reason
        self.checked: list[tuple[str, Any, str]] = []
        self.asked: list[tuple[str, Any, Sequence[Any]]] = []

    async def unusable(self) -> str | None:
        return self.reason

    async def check(self, project: str, wanted: Any, path: str) -> None:
        self.checked.append((project, wanted, path))

    async def place(self, project: str, wanted: Any, stage: Any) -> FakePlace:
        self.asked.append((project, wanted, stage.items))
        return self.here


class FakeItem:
    """A call's item; `said`: its events."""

    def __init__(self, *, fresh: bool = True) -> None:
        self.fresh = fresh
        self.said: list[str] = []

    def emit(self, event: str, fields: Json | None = None) -> None:
        assert fields is None
        self.said.append(event)


class FakeStage:
    """The run."""

    items: Sequence[Any] = ({"type": "message"},)
    output: Sequence[Any] = ()

    def begin(self, item_type: str, fields: Json) -> Any:
        raise AssertionError((item_type, fields))


async def opened(
    running: FakeRunning, *, include: frozenset[str] = OUTPUTS, most_text: int = 1_000
) -> OpenCodeInterpreter:
    tool = CodeInterpreter(running, 30.0)
    made = tool.open(TOOL, Scope("p", include, most_text))
    assert isinstance(made, OpenCodeInterpreter)
    await made.prepare(FakeStage())
    return made


async def ran(
    done: Executed, *, include: frozenset[str] = OUTPUTS, most_text: int = 1_000
) -> tuple[Outcome, OpenCodeInterpreter]:
    tool = await opened(FakeRunning(done), include=include, most_text=most_text)
    return await tool.run(Call("code_interpreter", '{"code": "1"}'), FakeItem()), tool


async def test_without_a_sandbox_it_is_refused() -> None:
    """R-105: with the reason, and before anything else."""
    running = FakeRunning(reason="there is none")
    with pytest.raises(InvalidRequestError) as caught:
        await CodeInterpreter(running, 30.0).check(TOOL, "tools[0]", "p")
    assert "there is none" in caught.value.message
    assert (caught.value.param, running.checked) == ("tools", [])


async def test_the_container_is_looked_at() -> None:
    running = FakeRunning()
    tool = {**TOOL, "container": "cntr_9"}
    assert await CodeInterpreter(running, 30.0).check(tool, "tools[2]", "p") == []
    assert running.checked == [("p", "cntr_9", "tools[2].container")]
    tool["allowed_callers"] = ["direct"]
    ignored = await CodeInterpreter(running, 30.0).check(tool, "tools[2]", "p")
    assert ignored == ["allowed_callers"], "there are no programs that could call it"


async def test_the_place_is_that_of_the_context() -> None:
    running = FakeRunning()
    tool = await opened(running)
    assert running.asked == [("p", {"type": "auto"}, FakeStage.items)]
    assert tool.begin(Call("code_interpreter", "")) == {
        "code": "",
        "container_id": "cntr_1",
        "outputs": [],
    }
    (function,) = tool.functions
    assert (function.streamed, function.repeatable, function.timeout) == ("code", False, 30.0)


@pytest.mark.parametrize("fresh", [True, False])
async def test_a_run(*, fresh: bool) -> None:
    """Also in the item that another process has announced: what it had begun is not run."""
    running = FakeRunning(Executed([logs("2")]))
    tool = await opened(running)
    item = FakeItem(fresh=fresh)
    outcome = await tool.run(Call("code_interpreter", '{"code": "1 + 1"}'), item)
    assert item.said == ["code_interpreter_call.interpreting"]
    assert running.here.ran == ["1 + 1"]
    assert outcome == Outcome({"outputs": [logs("2")]}, "completed", "2")


async def test_outputs_are_only_for_those_who_ask() -> None:
    outcome, tool = await ran(Executed([logs("2")]), include=frozenset())
    assert (outcome.fields, outcome.told) == ({"outputs": None}, "2")
    failed = tool.failed(Call("code_interpreter", "{}"), "It broke.")
    assert failed == Outcome({"outputs": None}, "failed", "It broke.")


@pytest.mark.parametrize("arguments", ["", "{", "[]", "{}", '{"code": 1}', '{"code": " \\n"}'])
async def test_code_that_is_none(arguments: str) -> None:
    running = FakeRunning()
    tool = await opened(running)
    with pytest.raises(ToolFailed):
        await tool.run(Call("code_interpreter", arguments), FakeItem())
    assert running.here.ran == []


async def test_code_that_is_too_long() -> None:
    tool = await opened(FakeRunning())
    call = Call("code_interpreter", f'{{"code": "{"x" * (256 * 1024 + 1)}"}}')
    with pytest.raises(ToolFailed, match="too long"):
        await tool.run(call, FakeItem())


async def test_trouble_around_it_is_no_outcome() -> None:
    running = FakeRunning()
    running.here.trouble = Overloaded("Too many.")
    tool = await opened(running)
    with pytest.raises(Overloaded):
        await tool.run(Call("code_interpreter", '{"code": "1"}'), FakeItem())


async def test_a_call_that_failed_without_a_word_says_why() -> None:
    """R-112: in the item as well; the model is told once."""
    outcome, _ = await ran(Executed(notes=["It is new.", "It has ended."], has_failed=True))
    assert outcome.status == "failed"
    assert outcome.fields == {"outputs": [logs("It is new.\nIt has ended.")]}
    assert outcome.told == "[It is new.]\n[It has ended.]"
    outcome, _ = await ran(Executed([logs("Killed")], notes=["A note."], has_failed=True))
    assert outcome.fields == {"outputs": [logs("Killed")]}
    outcome, _ = await ran(Executed(notes=["A note."]))
    assert outcome.fields == {"outputs": []}


async def test_the_model_learns_of_files_and_can_link_to_them() -> None:
    files = [MadeFile(f"cfile_{n}", f"/mnt/data/{n}.txt") for n in range(52)]
    outcome, tool = await ran(Executed([], files, ["A note."], has_failed=True))
    assert outcome.status == "failed"
    told = str(outcome.told)
    assert told.startswith("[A note.]\n[Files that were made or changed: /mnt/data/0.txt, ")
    assert told.endswith("/mnt/data/49.txt and 2 more]")
    links = tool._scope.sources.links
    assert [link.file_id for link in links] == [file.file_id for file in files]
    assert links[0].container_id == "cntr_1"


async def test_the_model_sees_some_images() -> None:
    outcome, _ = await ran(Executed([logs("a"), *[IMAGE] * 6, logs("b")]))
    assert isinstance(outcome.told, list)
    text, *images = outcome.told
    note = "[1 of the images are not shown here.]"
    assert text == {"type": "input_text", "text": f"a\nb\n{note}"}
    assert images == [{"type": "input_image", "image_url": IMAGE["url"], "detail": "auto"}] * 5
    assert len(outcome.fields["outputs"]) == 8


async def test_images_of_a_response_are_bounded() -> None:
    """R-117: each turn shows them to the model again."""
    large: Json = {"type": "image", "url": "data:" + "x" * 1_200_000}
    tool = await opened(FakeRunning(Executed([large, IMAGE])))
    call = Call("code_interpreter", '{"code": "1"}')
    first, second = [await tool.run(call, FakeItem()) for _ in range(2)]
    assert [len(outcome.told or "") for outcome in (first, second)] == [3, 2]
    assert "1 of the images are not shown here." in str(second.told)
    assert second.fields["outputs"] == [large, IMAGE], "there is more room in the items"
    for _ in range(12):
        last = await tool.run(call, FakeItem())
    assert last.fields["outputs"] == [IMAGE]


async def test_what_the_model_is_told_is_bounded() -> None:
    """R-111: the beginning and the end."""
    outcome, _ = await ran(Executed([logs("a" * 600 + "b" * 600)]), most_text=100)
    told = str(outcome.told)
    assert told == "a" * 50 + "\n[1100 characters are left out]\n" + "b" * 50
    outcome, _ = await ran(Executed())
    assert outcome.told == "[The code ran; nothing was printed.]"
