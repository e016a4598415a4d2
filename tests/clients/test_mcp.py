"""Official clients and a real MCP server: calls and approvals (issue 5/8, must show 2)."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from agents import Agent, HostedMCPTool, MCPToolApprovalRequest, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from openai.types.responses.response_output_item import McpApprovalRequest, McpCall, McpListTools
from openai.types.responses.tool_param import Mcp

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.test_openai_agents import CONFIG
from tests.live import CHAT_TOML, KEY, LiveServer, serve
from tests.tools.mcp_world import Running


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("mcp") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream) -> Iterator[LiveServer]:
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    env = {"ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
    with serve(tmp_path_factory.mktemp("server"), toml, env) as server:
        yield server


@pytest.fixture
def client(live: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def model(live: LiveServer) -> AsyncIterator[OpenAIResponsesModel]:
    async with AsyncOpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield OpenAIResponsesModel("m", client)


def server(tickets: Running, **more: Any) -> Mcp:
    return {"type": "mcp", "server_label": "t", "server_url": tickets.url, **more}  # type: ignore[typeddict-item]


def shown(made: Response) -> list[str]:
    return [item.type for item in made.output]


def test_openai_python_lists_and_calls(
    client: OpenAI, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(Reply.calls(("add", {"a": 2, "b": 2})), Reply.chat("Four."))
    tool = server(tickets, require_approval="never")
    made = client.responses.create(model="m", input="2+2?", tools=[tool])
    assert shown(made) == ["mcp_list_tools", "mcp_call", "message"]
    listed, call, _ = made.output
    assert isinstance(listed, McpListTools)
    assert isinstance(call, McpCall)
    assert {tool.name for tool in listed.tools} >= {"add", "echo"}
    assert "4" in (call.output or "")
    assert made.output_text == "Four."


def test_openai_python_streams(client: OpenAI, upstream: ChatUpstream, tickets: Running) -> None:
    upstream.script(Reply.calls(("echo", {"text": "x"})), Reply.chat("It said x."))
    tool = server(tickets, require_approval="never")
    with client.responses.stream(model="m", input="Say x.", tools=[tool]) as stream:
        seen = [event.type for event in stream]
        final = stream.get_final_response()
    assert "response.mcp_call_arguments.done" in seen
    assert shown(final) == ["mcp_list_tools", "mcp_call", "message"]


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("stored", [True, False])
def test_openai_python_approves(
    client: OpenAI, upstream: ChatUpstream, tickets: Running, *, approve: bool, stored: bool
) -> None:
    tickets.forget()
    upstream.script(Reply.calls(("write", {"text": "it"})), Reply.chat("Fine."))
    tool = server(tickets)
    first = client.responses.create(model="m", input="Write it.", tools=[tool], store=stored)
    request = first.output[-1]
    assert isinstance(request, McpApprovalRequest)
    answer: Any = {
        "type": "mcp_approval_response",
        "approve": approve,
        "approval_request_id": request.id,
    }
    more: Any = (
        {"previous_response_id": first.id, "input": [answer]}
        if stored
        else {"input": ["Write it.", *first.output, answer][1:], "store": False}
    )
    second = client.responses.create(model="m", tools=[tool], **more)
    assert shown(second) == (["mcp_call", "message"] if approve else ["message"])
    assert ({"wrote": "it"} in tickets.log()) is approve


def test_openai_python_hears_of_a_list_that_cannot_be_had(
    client: OpenAI, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("x"))
    tool: Mcp = {"type": "mcp", "server_label": "t", "server_url": "http://127.0.0.1:9/mcp"}
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.create(model="m", input="Hi", tools=[tool])
    assert caught.value.status_code == 424
    assert upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize("chained", [True, False])
async def test_openai_agents_approves(
    model: OpenAIResponsesModel,
    upstream: ChatUpstream,
    tickets: Running,
    *,
    streamed: bool,
    approve: bool,
    chained: bool,
) -> None:
    """`HostedMCPTool` asks its callback and goes on with the answer by itself."""
    tickets.forget()
    upstream.script(Reply.calls(("write", {"text": "it"})), Reply.chat("Fine."))
    asked: list[str] = []

    def decide(request: MCPToolApprovalRequest) -> Any:
        asked.append(request.data.name)
        return {"approve": approve, "reason": "because"}

    tool = HostedMCPTool(tool_config=server(tickets), on_approval_request=decide)
    agent = Agent("writer", model=model, tools=[tool])
    if streamed:
        result: Any = Runner.run_streamed(
            agent, "Write it.", run_config=CONFIG, auto_previous_response_id=chained
        )
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(
            agent, "Write it.", run_config=CONFIG, auto_previous_response_id=chained
        )
    assert result.final_output == "Fine."
    assert asked == ["write"]
    assert ({"wrote": "it"} in tickets.log()) is approve
    told = [m["content"] for m in upstream.requests[1].json["messages"] if m["role"] == "tool"]
    assert len(told) == 1
    assert ("written" in told[0]) is approve
    assert ("did not approve" in told[0]) is not approve
