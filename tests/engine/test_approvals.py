"""Calls that need the user's yes (spec §3.3; reliability R-124, R-125)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from antiphon.engine.approvals import VALID
from antiphon.errors import APIError, InvalidRequestError, NotFoundError
from antiphon.protocol.deltas import Finish, TextDelta, ToolCallDelta
from antiphon.store.memory import MemoryStore
from antiphon.testing import ScriptedTool, Step, assert_valid_log
from antiphon.tools.base import Call, CallItem, HostedFunction, Outcome
from tests.engine.bench import Bench

Json = dict[str, Any]
ARGUMENTS = '{"city": "Rome"}'
MCP: Json = {"type": "mcp", "server_label": "s", "server_url": "https://x"}
ANSWER: Sequence[Step] = [[TextDelta("Done."), Finish()]]
FORECAST = HostedFunction("forecast", "", {}, needs_approval=True, fingerprint="one")


def asks(arguments: str = ARGUMENTS, name: str = "forecast") -> Sequence[Step]:
    return [[ToolCallDelta(0, arguments, name), Finish()]]


class Remote(ScriptedTool):
    """An MCP server that says what it was asked."""

    item_type = "mcp_call"

    def __init__(self, function: HostedFunction = FORECAST) -> None:
        super().__init__(None, function)

    def begin(self, call: Call) -> Json:
        return {
            "approval_request_id": call.approval_request_id,
            "arguments": "",
            "error": None,
            "name": call.function,
            "output": None,
            "server_label": "s",
        }

    def failed(self, call: Call, reason: str) -> Outcome:
        content = [{"type": "text", "text": reason}]
        error = {"type": "mcp_tool_execution_error", "content": content}
        return Outcome({"error": error}, "failed")

    async def run(self, call: Call, item: CallItem) -> Outcome:
        self.calls.append(call)
        return Outcome({"arguments": call.arguments, "output": "sun"})


class World:
    """An engine with one MCP server, and what it is asked."""

    def __init__(self, *turns: Sequence[Step], store: MemoryStore | None = None) -> None:
        self.tool = Remote()
        self.bench = Bench(*turns, tools={"mcp": self.tool}, store=store)

    async def ask(self, project: str = "p", **fields: Any) -> Json:
        """The final Response."""
        await self.bench.engine.open()
        _, events = await self.bench.events(**{"tools": [MCP], **fields})
        return assert_valid_log(events)

    async def refused(self, **fields: Any) -> APIError:
        with pytest.raises(APIError) as caught:
            await self.ask(**fields)
        return caught.value

    def shown(self, turn: int = -1) -> list[Json]:
        return self.bench.backend.prompts[turn].items


def request_of(final: Json) -> Json:
    """The one approval request with which it ended."""
    assert final["status"] == "completed"
    item: Json = final["output"][-1]
    assert item["type"] == "mcp_approval_request"
    return item


def says(request: Json, *, approve: bool = True, reason: str | None = None) -> Json:
    answer = {"type": "mcp_approval_response", "approval_request_id": request["id"]}
    return {**answer, "approve": approve, **({"reason": reason} if reason else {})}


async def test_the_user_is_asked_and_the_response_ends() -> None:
    world = World(asks())
    final = await world.ask()
    request = request_of(final)
    assert request == {
        "id": request["id"],
        "type": "mcp_approval_request",
        "arguments": ARGUMENTS,
        "name": "forecast",
        "server_label": "s",
    }
    assert request["id"].startswith("mcpr_")
    assert len(request["id"]) == len("mcpr_") + 48
    assert world.tool.calls == []


@pytest.mark.parametrize("how", ["chain", "by hand", "by id only"])
async def test_what_was_approved_is_run_before_the_model_is_asked(how: str) -> None:
    world = World(asks(), ANSWER)
    first = await world.ask()
    request = request_of(first)
    more: Json = {
        "chain": {"previous_response_id": first["id"], "input": [says(request)]},
        "by hand": {
            "input": [{"role": "user", "content": "hi"}, request, says(request)],
            "store": False,
        },
        "by id only": {"input": [says(request)]},
    }[how]
    final = await world.ask(**more)
    call, message = final["output"]
    assert (call["type"], call["approval_request_id"]) == ("mcp_call", request["id"])
    assert (call["arguments"], call["output"], call["status"]) == (ARGUMENTS, "sun", "completed")
    assert message["content"][0]["text"] == "Done."
    (asked,) = world.tool.calls
    assert asked == Call("forecast", ARGUMENTS, request["id"])
    kinds = [item["type"] for item in world.shown()]
    assert kinds == (["mcp_call"] if how == "by id only" else ["message", "mcp_call"])


async def test_what_was_denied_is_told_to_the_model() -> None:
    world = World(asks(), ANSWER)
    first = await world.ask()
    answer = says(request_of(first), approve=False, reason="Too dear.")
    final = await world.ask(previous_response_id=first["id"], input=[answer])
    assert [item["type"] for item in final["output"]] == ["message"]
    assert world.tool.calls == []
    _, call, output = world.shown()
    assert (call["name"], call["arguments"]) == ("forecast", ARGUMENTS)
    assert output["call_id"] == call["call_id"]
    assert "did not approve" in output["output"]
    assert "Too dear." in output["output"]


async def test_an_unanswered_request_is_not_in_the_way() -> None:
    world = World(asks(), ANSWER)
    first = await world.ask()
    final = await world.ask(previous_response_id=first["id"], input="Never mind.")
    assert final["output_text"] == "Done."
    assert [item["type"] for item in world.shown()] == ["message", "message"]


async def test_an_approval_is_good_once() -> None:
    """R-124: in another branch it is used up; where its call is in the context it was heard."""
    world = World(asks(), ANSWER, ANSWER)
    first = await world.ask()
    answer = says(request_of(first))
    second = await world.ask(previous_response_id=first["id"], input=[answer])
    error = await world.refused(previous_response_id=first["id"], input=[answer])
    assert isinstance(error, InvalidRequestError)
    assert (error.param, "answered before" in error.message) == ("input", True)
    history = [*first["output"], answer, *second["output"], {"role": "user", "content": "And?"}]
    await world.ask(input=history, store=False)
    assert len(world.tool.calls) == 1


@pytest.mark.parametrize("sent", [["mcp_call", "message"], ["message"]], ids=["call", "no call"])
async def test_an_answer_before_what_a_model_said_is_history(sent: list[str]) -> None:
    """Clients send a call again without its request's id, or not at all."""
    world = World(asks(), ANSWER, ANSWER)
    first = await world.ask(store=False)
    answered: list[Json] = [*first["output"], says(request_of(first))]
    second = await world.ask(input=answered, store=False)
    for item in second["output"]:
        item.pop("approval_request_id", None)
    said = [item for item in second["output"] if item["type"] in sent]
    await world.ask(input=[*answered, *said, {"role": "user", "content": "And?"}], store=False)
    assert [item["type"] for item in world.shown()] == [*sent, "message"]
    assert len(world.tool.calls) == 1


async def test_of_two_responses_with_one_approval_one_runs_the_call() -> None:
    """R-124, where both were accepted at the same time."""
    world = World(asks(), ANSWER)
    first = await world.ask()
    request = request_of(first)
    await world.bench.store.approvals.use("p", request["id"], "resp_other", 2**40)
    world.bench.store.approvals.user = _nobody  # type: ignore[method-assign]
    final = await world.ask(previous_response_id=first["id"], input=[says(request)])
    assert final["output"][0]["status"] == "failed"
    assert "was used before" in str(final["output"][0]["error"])
    assert world.tool.calls == []


async def _nobody(project: str, id: str) -> str | None:  # noqa: A002
    return None


@pytest.mark.parametrize(
    "change",
    [{"arguments": '{"city": "Oslo"}'}, {"arguments": '{"city":"Rome"}'}, {"name": "drop"}],
)
async def test_a_call_that_was_changed_is_asked_for_again(change: Json) -> None:
    """R-124: the approval is for these arguments, character by character."""
    world = World(asks())
    world.tool.functions = [FORECAST, replace(FORECAST, name="drop")]
    request = {**request_of(await world.ask()), **change}
    final = await world.ask(input=[request, says(request)], store=False)
    again = request_of(final)
    assert again["id"] != request["id"]
    assert (again["arguments"], again["name"]) == (request["arguments"], request["name"])
    assert (world.tool.calls, len(world.bench.backend.prompts)) == ([], 1)


async def test_a_definition_that_was_changed_is_asked_for_again() -> None:
    """R-125, a rug pull: what the user said yes to is not what there is now."""
    world = World(asks())
    first = await world.ask()
    world.tool.functions = [replace(FORECAST, fingerprint="two")]
    answer = says(request_of(first))
    request_of(await world.ask(previous_response_id=first["id"], input=[answer]))
    assert world.tool.calls == []


async def test_an_old_approval_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(asks(), asks())
    first = await world.ask()
    answer = says(request_of(first))
    monkeypatch.setattr("antiphon.engine.approvals.VALID", -1)
    request_of(await world.ask(previous_response_id=first["id"], input=[answer]))
    assert world.tool.calls == []
    assert VALID > 0


async def test_a_forged_id_is_asked_for_again() -> None:
    world = World()
    request = {
        "type": "mcp_approval_request",
        "id": "mcpr_" + "0" * 48,
        "name": "forecast",
        "arguments": ARGUMENTS,
        "server_label": "s",
    }
    for id_ in (request["id"], "mcpr_x", "anything"):
        forged = {**request, "id": id_}
        final = await world.ask(input=[forged, says(forged)], store=False)
        assert request_of(final)["id"] != id_
    assert world.tool.calls == []


async def test_an_unknown_request_is_not_found() -> None:
    """R-30: another project's, too (tests/api/test_tenancy.py)."""
    world = World()
    error = await world.refused(input=[says({"id": "mcpr_" + "0" * 48})])
    assert isinstance(error, NotFoundError)
    assert error.param == "input"


async def test_a_server_that_is_gone_is_named() -> None:
    world = World(asks())
    first = await world.ask()
    answer = says(request_of(first))
    other = {**MCP, "server_label": "t"}
    error = await world.refused(previous_response_id=first["id"], input=[answer], tools=[other])
    assert (error.status, error.param) == (400, "tools")


async def test_a_tool_that_is_gone_is_told_to_the_model() -> None:
    world = World(asks(), ANSWER)
    first = await world.ask()
    world.tool.functions = []
    final = await world.ask(previous_response_id=first["id"], input=[says(request_of(first))])
    assert [item["type"] for item in final["output"]] == ["message"]
    assert "no function 'forecast'. There are: none." in world.shown()[-1]["output"]


async def test_what_needs_no_yes_is_run_beside_what_does() -> None:
    turn: Sequence[Step] = [
        [ToolCallDelta(0, "{}", "look"), ToolCallDelta(1, ARGUMENTS, "forecast"), Finish()]
    ]
    world = World(turn)
    look = HostedFunction("look", "", {})
    world.tool.functions = [look, FORECAST]
    final = await world.ask()
    assert [item["type"] for item in final["output"]] == ["mcp_call", "mcp_approval_request"]
    assert [call.function for call in world.tool.calls] == ["look"]
    assert len(world.bench.backend.prompts) == 1


async def test_several_answers_at_once() -> None:
    turn: Sequence[Step] = [
        [
            ToolCallDelta(0, '{"n": 1}', "forecast"),
            ToolCallDelta(1, '{"n": 2}', "forecast"),
            ToolCallDelta(2, '{"n": 3}', "forecast"),
            Finish(),
        ]
    ]
    world = World(turn, ANSWER)
    first = await world.ask()
    one, two, three = first["output"]
    answers = [says(one), says(two, approve=False), says(three)]
    final = await world.ask(previous_response_id=first["id"], input=answers)
    assert [item["type"] for item in final["output"]] == ["mcp_call", "mcp_call", "message"]
    assert [call.arguments for call in world.tool.calls] == ['{"n": 1}', '{"n": 3}']


async def test_yes_and_no_is_no() -> None:
    world = World(asks(), ANSWER)
    first = await world.ask()
    request = request_of(first)
    answers = [says(request), says(request, approve=False)]
    await world.ask(previous_response_id=first["id"], input=answers)
    assert world.tool.calls == []


async def test_arguments_that_are_no_json_are_not_asked_for() -> None:
    world = World(asks("{oops"), ANSWER)
    final = await world.ask()
    assert [item["type"] for item in final["output"]] == ["mcp_call", "message"]


async def test_an_approved_call_counts() -> None:
    """Spec §1 `max_tool_calls`."""
    world = World(asks(), asks(), ANSWER)
    first = await world.ask()
    final = await world.ask(
        previous_response_id=first["id"],
        input=[says(request_of(first))],
        max_tool_calls=1,
        tools=[{**MCP, "require_approval": "never"}],
    )
    assert orjson.dumps(final["output"]).count(b'"mcp_call"') == 1
