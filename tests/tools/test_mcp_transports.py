"""How the tool `mcp` reaches servers: transports, addresses, redirects. R-83 to R-94."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from antiphon.config import McpServerConfig
from antiphon.egress import Policy
from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp.servers import Local, Server, configured
from antiphon.tools.mcp.tool import Mcp
from tests.test_egress import Names
from tests.tools.mcp_world import (
    HELLO,
    PROGRAM,
    ROOT,
    Json,
    Raw,
    Running,
    Staged,
    call,
    call_item,
    hosting,
    http,
    is_alive,
    opened,
    result,
    says,
)

UNREACHED = (
    "Error retrieving tool list from MCP server: 'tickets'. The server could not be reached."
)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("sse") / "log", "sse") as running:
        yield running


@pytest.fixture
def sse(_server: Running) -> Running:
    """A server of the old transport, at ``/sse``."""
    _server.forget()
    return _server


def program(log: Path) -> Mcp:
    """A tool with the connector ``local``, a program that is started with our environment's
    ``SOME_TOKEN`` as ``TOKEN``."""
    entry = McpServerConfig(
        name="local",
        command=[*PROGRAM, "stdio", "--log", str(log)],
        cwd=str(ROOT),
        env={"TOKEN": "SOME_TOKEN"},
        description="Local tickets",
    )
    return Mcp(Policy(), configured([entry], {"SOME_TOKEN": "t-1"}))


# -- HTTP with SSE -------------------------------------------------------------------------------


async def test_a_path_that_ends_in_sse_is_of_the_old_transport(sse: Running) -> None:
    async with hosting() as mcp:
        tool = opened(mcp, sse.url)
        stage = Staged()
        await tool.prepare(stage)
        assert len(tool.functions) == 14
        calls = [tool.run(call("echo", {"text": str(n)}), call_item()) for n in range(5)]
        outputs = [outcome.fields["output"] for outcome in await asyncio.gather(*calls)]
        assert outputs == ["0", "1", "2", "3", "4"]
        assert sse.log()[0]["http"] == "GET"
        assert (sse.asked("initialize"), sse.asked("tools/list")) == (1, 1)


async def test_the_old_transport_is_found_when_the_new_one_is_refused(tmp_path: Path) -> None:
    """MCP's backwards compatibility: initialize is answered with 405."""
    with Running(tmp_path / "log", "sse", "--path", "/mcp") as server:
        async with hosting() as mcp:
            tool = opened(mcp, server.url.replace("/sse", "/mcp"))
            await tool.prepare(Staged())
            assert len(tool.functions) == 14
        assert [entry["http"] for entry in server.log()[1:3]] == ["POST", "GET"]


async def test_a_call_of_the_old_transport_can_be_cancelled(sse: Running) -> None:
    """R-34, R-58."""
    async with hosting() as mcp:
        tool = opened(mcp, sse.url)
        doomed = asyncio.create_task(tool.run(call("slow", {"seconds": 60}), call_item()))
        await sse.until(began="slow")
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        await sse.until(cancelled="slow")
        outcome = await tool.run(call("echo", {"text": "on"}), call_item())
        assert outcome.fields["output"] == "on"
        assert sse.asked("initialize") == 1


async def test_a_server_of_the_old_transport_that_dies_is_connected_to_anew(
    tmp_path: Path,
) -> None:
    """R-90."""
    with Running(tmp_path / "log", "sse") as server:
        async with hosting() as mcp:
            tool = opened(mcp, server.url)
            outcome = await tool.run(call("die"), call_item())
            assert outcome.told == "The connection to the server was lost."
            outcome = await tool.run(call("echo", {"text": "a"}), call_item())
            assert outcome.told == "The server could not be reached."
            server.restart()
            outcome = await tool.run(call("echo", {"text": "a"}), call_item())
            assert outcome.fields["output"] == "a"


# -- programs --------------------------------------------------------------------------------------


async def test_a_program_of_the_configuration_is_started_and_ends_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-88, R-92: it sees nothing of our environment but what the operator names."""
    monkeypatch.setenv("ANTIPHON_API_KEYS", "sk-ours")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    log = tmp_path / "log"
    async with hosting(program(log)) as mcp:
        tool = opened(mcp, connector_id="local")
        await tool.prepare(Staged())
        assert tool.functions[0].description.startswith("[Local tickets] Add")
        outcome = await tool.run(call("environment"), call_item())
        seen: Json = json.loads(str(outcome.fields["output"]))
        assert seen["TOKEN"] == "t-1"
        assert set(seen) <= {"TOKEN", "MCP_TEST_LOG", "PATH", "HOME", "LOGNAME", "SHELL"} | {
            "TERM",
            "USER",
            "LC_CTYPE",
            "PWD",
        }
        outcome = await tool.run(call("who_runs"), call_item())
        pid = int(str(outcome.fields["output"]))
        assert is_alive(pid)
        tool.close()
    assert not is_alive(pid)


async def test_a_program_that_ends_in_the_middle_is_started_again(tmp_path: Path) -> None:
    """R-90."""
    log = tmp_path / "log"
    async with hosting(program(log)) as mcp:
        tool = opened(mcp, connector_id="local")
        outcome = await tool.run(call("die"), call_item())
        assert outcome.told == "The connection to the server was lost."
        outcome = await tool.run(call("echo", {"text": "a"}), call_item())
        assert outcome.fields["output"] == "a"
    assert log.read_text().count("started") == 2


async def test_a_call_of_a_program_can_be_cancelled(tmp_path: Path) -> None:
    """R-34, R-58."""
    async with hosting(program(tmp_path / "log")) as mcp:
        tool = opened(mcp, connector_id="local")
        await tool.run(call("echo", {"text": "a"}), call_item())
        doomed = asyncio.create_task(tool.run(call("slow", {"seconds": 60}), call_item()))
        await asyncio.sleep(0.2)
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        outcome = await tool.run(call("echo", {"text": "on"}), call_item())
        assert outcome.fields["output"] == "on"
    assert '"cancelled": "slow"' in (tmp_path / "log").read_text()


@pytest.mark.parametrize("command", [["/nowhere/at/all"], ["/bin/true"], ["/bin/echo", "hello"]])
async def test_a_program_that_does_not_speak_is_a_failed_list(command: list[str]) -> None:
    local = Server("local", Local(tuple(command)))
    async with hosting(Mcp(Policy(), {"local": local})) as mcp:
        stage = Staged()
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, connector_id="local").prepare(stage)
        assert caught.value.message == UNREACHED
        assert stage.begun[0].status == "failed"


LEAVES_A_CHILD = """
import json, os, subprocess, sys
child = subprocess.Popen(["sleep", "300"])
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        said = {"content": [{"type": "text", "text": f"{os.getpid()} {child.pid}"}]}
        said = %s if asked["method"] == "initialize" else said
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": said}), flush=True)
"""


async def test_nothing_that_a_program_started_outlives_it() -> None:
    """It ended by itself, with its input."""
    command = (sys.executable, "-c", LEAVES_A_CHILD % json.dumps(HELLO))
    with structlog.testing.capture_logs() as logged:
        async with hosting(Mcp(Policy(), {"local": Server("local", Local(command))})) as mcp:
            tool = opened(mcp, connector_id="local")
            outcome = await tool.run(call("t"), call_item())
            pids = [int(pid) for pid in str(outcome.fields["output"]).split()]
            assert all(map(is_alive, pids))
            tool.close()
    async with asyncio.timeout(1):  # it was killed, and is not yet gone
        while any(map(is_alive, pids)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert logged == []


async def test_the_log_says_how_a_program_ended_and_what_it_said_last() -> None:
    """Without the values that only the program was to know."""
    script = "import os, sys; sys.exit('x' * 9_000 + os.environ['KEY'] + ' is no\\x1b key')"
    program = Local((sys.executable, "-c", script), {"KEY": "key-s3cret"}, None, "tickets")
    with structlog.testing.capture_logs() as logged:
        async with hosting(Mcp(Policy(), {"tickets": Server("tickets", program)})) as mcp:
            with pytest.raises(ExternalConnectorError):
                await opened(mcp, connector_id="tickets").prepare(Staged())
    [ended] = [entry for entry in logged if entry["event"] == "mcp_program_failed"]
    assert (ended["connector"], ended["status"], ended["log_level"]) == ("tickets", 1, "warning")
    assert ended["said"].rstrip().endswith("xxx[removed] is no key")
    assert len(ended["said"]) <= 2_000
    [failed] = [entry for entry in logged if entry["event"] == "mcp_server_failed"]
    assert failed["connector"] == "tickets"


# -- where nobody may go ---------------------------------------------------------------------------


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to() -> None:
    """R-83, R-86: whatever it resolved to before."""
    names = Names(["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["::1"])
    async with Raw() as canary:
        async with hosting(Mcp(Policy(["127.0.0.2"]), {}, resolver=names)) as mcp:
            for _ in range(30):
                tool = opened(mcp, f"http://rebound.example:{canary.port}/mcp")
                with pytest.raises(ExternalConnectorError) as caught:
                    await tool.prepare(Staged())
                assert caught.value.message == UNREACHED
                tool.close()
        assert canary.got == []
    assert names.asked >= 30


async def test_an_address_is_judged_again_for_each_connection() -> None:
    """R-86: the first answer is allowed, the next is not."""

    async def once(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": HELLO}).encode()
        writer.write(http(200, body, more="connection: close\r\n"))

    async with Raw(initialize=once, tools_list=result({"tools": []})) as server:
        names = Names(["127.0.0.1"], ["127.0.0.3"], ["127.0.0.3"], ["127.0.0.3"])
        async with hosting(Mcp(Policy(["127.0.0.1"]), {}, resolver=names)) as mcp:
            with pytest.raises(ExternalConnectorError) as caught:
                await opened(mcp, f"http://rebound.example:{server.port}/mcp").prepare(Staged())
        assert caught.value.message == UNREACHED
        assert [method for _, method in server.got] == ["initialize"]


async def test_nobody_can_tell_a_refused_address_from_a_dead_port() -> None:
    """R-94."""
    texts = set()
    names = Names(["127.0.0.1"])
    async with Raw() as listening, hosting(Mcp(Policy(["127.0.0.2"]), {}, resolver=names)) as mcp:
        for url in (
            f"http://a.example:{listening.port}/mcp",
            "http://a.example:1/mcp",
            "http://127.0.0.2:1/mcp",
        ):
            stage = Staged()
            with pytest.raises(ExternalConnectorError) as caught:
                await opened(mcp, url).prepare(stage)
            assert stage.begun[0].fields["error"] == caught.value.message
            texts.add(caught.value.message)
    assert texts == {UNREACHED}


async def test_a_server_may_be_at_an_address_of_ipv6() -> None:
    async with Raw("::1", tools_list=result({"tools": []})) as server, hosting() as mcp:
        await opened(mcp, server.url).prepare(Staged())
        assert f"\r\nhost: [::1]:{server.port}\r\n" in server.got[0][0].lower()
        entry = McpServerConfig(name="box", url=server.url)
        async with hosting(Mcp(Policy(), configured([entry], {}))) as other:
            await opened(other, connector_id="box").prepare(Staged())
        assert server.asked("tools/list") == 2


async def test_the_host_of_a_connector_may_be_private(tmp_path: Path) -> None:
    """The operator vouches for it, and only for it."""
    with Running(tmp_path / "log", "http", "--token", "t-1") as server:
        entry = McpServerConfig(
            name="box",
            url=server.url.replace("127.0.0.1", "localhost"),
            authorization_env="T",
            headers={"X-Team": "blue"},
        )
        mcp = Mcp(Policy(), configured([entry], {"T": "t-1"}))
        async with hosting(mcp):
            tool = opened(mcp, connector_id="box", headers={"x-user": "u"}, authorization="mine")
            await tool.prepare(Staged())
            assert len(tool.functions) == 14
        headers = server.log()[1]["headers"]
        assert headers["authorization"] == "Bearer t-1"
        assert (headers["x-team"], headers["x-user"]) == ("blue", "u")


# -- redirects -------------------------------------------------------------------------------------


def _to(location: str, status: int = 307) -> bytes:
    return http(status, more=f"location: {location}\r\n")


async def test_a_redirect_within_the_origin_is_followed() -> None:
    """R-85."""
    async with Raw(tools_list=result({"tools": []})) as server:
        hello = server.answers["initialize"]

        async def moved(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
            if head.startswith("POST /mcp "):
                writer.write(_to("/mcp/"))
            else:
                await hello(head, message, writer)

        server.answers["initialize"] = moved
        async with hosting() as mcp:
            await opened(mcp, server.url).prepare(Staged())
        assert server.asked("initialize") == 2


@pytest.mark.parametrize("location", ["http://127.0.0.2:{}/mcp", "//evil.example/", "http://[", ""])
async def test_no_other_redirect_is_followed(location: str) -> None:
    """R-85."""
    async with Raw() as canary, Raw() as server:
        server.answers["initialize"] = says(_to(location.format(canary.port)))
        async with hosting() as mcp:
            with pytest.raises(ExternalConnectorError) as caught:
                await opened(mcp, server.url).prepare(Staged())
        assert "Http status code: 307 (Temporary Redirect)" in caught.value.message
        assert canary.got == []


async def test_redirects_end() -> None:
    """R-85: at most three."""
    async with Raw(initialize=says(_to("/mcp"))) as server:
        async with hosting() as mcp:
            with pytest.raises(ExternalConnectorError):
                await opened(mcp, server.url).prepare(Staged())
        assert server.asked("initialize") == 4


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-85."""
    async with Raw() as proxy, Raw(tools_list=result({"tools": []})) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with hosting() as mcp:
            await opened(mcp, server.url).prepare(Staged())
        assert proxy.got == []


async def test_no_cookie_is_kept_and_no_compression_asked_for() -> None:
    """R-85, R-89."""
    cookie = "set-cookie: a=secret; Path=/\r\n"
    async with Raw(tools_list=result({"tools": []})) as server:
        server.answers["notifications/initialized"] = says(http(202, more=cookie))
        async with hosting(Mcp(Policy(["localhost"]), {})) as mcp:
            await opened(mcp, server.url.replace("127.0.0.1", "localhost")).prepare(Staged())
        heads = [head.lower() for head, _ in server.got]
        assert not any("\ncookie:" in head for head in heads)
        assert all("accept-encoding: identity" in head for head in heads)
        assert any("user-agent: antiphon/" in head for head in heads)


async def test_a_server_without_a_handshake_is_spoken_to_without_one() -> None:
    """MCP 2026-07-28 has no initialize."""
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "Method not found"}}
    discovered = {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    listed = {
        "tools": [{"name": "t", "inputSchema": {"type": "object"}}],
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    async with Raw(tools_list=result(listed)) as server:
        server.answers["initialize"] = says(http(404, json.dumps(error).encode()))
        server.answers["server/discover"] = result(discovered)
        async with hosting() as mcp:
            tool = opened(mcp, server.url)
            await tool.prepare(Staged())
            assert [function.name for function in tool.functions] == ["t"]
            answer = {"content": [{"type": "text", "text": "ok"}], "resultType": "complete"}
            server.answers["tools/call"] = result(answer)
            assert (await tool.run(call("t"), call_item())).fields["output"] == "ok"
            asks = {"resultType": "input_required", "requestState": "s"}
            server.answers["tools/call"] = result(asks)
            outcome = await tool.run(call("t"), call_item())
            assert "cannot be given here" in str(outcome.told)
        assert "mcp-protocol-version: 2026-07-28" in server.got[-1][0].lower()


async def test_the_end_of_the_server_waits_for_connections_but_not_for_ever(
    tmp_path: Path,
) -> None:
    mcp = program(tmp_path / "log")
    tool = opened(mcp, connector_id="local")
    outcome = await tool.run(call("who_runs"), call_item())
    begin = time.monotonic()
    await mcp.aclose()
    assert time.monotonic() - begin < 8
    assert not is_alive(int(str(outcome.fields["output"])))
