"""Secrets for MCP servers go to their origin and nowhere else (R-91, R-92, R-130)."""

import asyncio
import gc
import json
import logging
from pathlib import Path

import pytest
import structlog

from antiphon.config import McpServerConfig
from antiphon.egress import Policy
from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp.servers import configured
from antiphon.tools.mcp.tool import Mcp
from tests.tools.mcp_world import (
    LOOPBACK,
    Answer,
    Json,
    Raw,
    Running,
    Staged,
    call,
    call_item,
    hosting,
    http,
    opened,
    result,
    says,
)

SECRETS: Json = {"authorization": "tok-s3cret", "headers": {"X-Api-Key": "key-s3cret"}}


def chain(error: BaseException | None) -> str:
    """All that can be read of an exception and of those behind it."""
    texts = []
    while error is not None:
        texts += [repr(error), str(error), str(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


async def use(mcp: Mcp, url: str, seen: list[str]) -> None:
    """List and call, and remember all that can be seen of it."""
    tool = opened(mcp, f"{url}?key=s3cret", **SECRETS)
    stage = Staged()
    try:
        await tool.prepare(stage)
    except ExternalConnectorError as error:
        seen += [chain(error), str(error.body()), str(error.headers())]
    for name in ("echo", "broken", "die"):
        outcome = await tool.run(call(name, {"text": "a"}), call_item())
        seen.append(repr(outcome))
    seen += [repr(stage), repr(tool), repr(tool._target), repr(tool.functions), repr(mcp)]
    tool.close()


@pytest.mark.parametrize("kind", ["http", "sse", "refused", "dead", "html", "moved"])
async def test_no_secret_is_in_a_log_an_error_or_an_item(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R-91, R-130: whatever level the operator logs at."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    lies = {"html": http(200, b"<p>", "text/html"), "moved": http(308, more="location: /mcp\r\n")}
    with structlog.testing.capture_logs() as logged:
        async with hosting() as mcp:
            if kind in ("http", "sse"):
                with Running(tmp_path / "log", kind) as server:
                    await use(mcp, server.url, seen)
                    await use(mcp, server.url, seen)
                assert "Bearer tok-s3cret" in (tmp_path / "log").read_text()
            elif kind in lies:
                async with Raw(initialize=says(lies[kind])) as raw:
                    await use(mcp, raw.url, seen)
                assert any("tok-s3cret" in head for head, _ in raw.got)
            else:
                port = "1" if kind == "dead" else "1/private"
                await use(mcp, f"http://127.0.0.1:{port}/mcp", seen)
        gc.collect()
        await asyncio.sleep(0)
    everything = "\n".join([*seen, caplog.text, str(logged)])
    assert "mcp_server_failed" in everything
    assert "s3cret" not in everything


async def test_the_log_says_which_host_failed_and_why() -> None:
    with structlog.testing.capture_logs() as logged:
        async with hosting() as mcp:
            with pytest.raises(ExternalConnectorError):
                await opened(mcp, "http://127.0.0.1:1/mcp").prepare(Staged())
    [entry] = [entry for entry in logged if entry["event"] == "mcp_server_failed"]
    assert (entry["connector"], entry["where"]) == ("tickets", "127.0.0.1")
    assert entry["what"] == "Unreached"
    assert "Connect call failed" in entry["why"]


def _echoing(kind: str) -> Answer:
    """Repeats what it was sent: in an error, in an answer, or in a definition."""

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        lines = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
        told = f"I got {lines['authorization']} and {lines['x-api-key']}"
        tool = {"name": "t", "description": told, "inputSchema": {"title": told, told: 1}}
        said: dict[str, Json] = {
            "error": {"error": {"code": -32000, "message": told}},
            "failed": {"result": {"isError": True, "content": [{"type": "text", "text": told}]}},
            "text": {"result": {"content": [{"type": "text", "text": told}]}},
            "json": {"result": {"content": [{"type": "text", "text": json.dumps([told])}]}},
            "structured": {"result": {"structuredContent": {told: [told]}}},
            "link": {"result": {"content": [{"type": "resource_link", "uri": told}]}},
            "list": {"result": {"tools": [tool]}},
        }
        body = {"jsonrpc": "2.0", "id": message["id"], **said[kind]}
        writer.write(http(200, json.dumps(body).encode().replace(b"/", b"\\/")))

    return answer


@pytest.mark.parametrize("kind", ["error", "failed", "text", "json", "structured", "link"])
async def test_a_secret_that_a_server_repeats_is_in_no_item(kind: str) -> None:
    """R-91."""
    secrets: Json = {"authorization": "tok/s3cret", "headers": {"X-Api-Key": 'key-"s3cret'}}
    async with Raw(tools_call=_echoing(kind)) as server, hosting() as mcp:
        outcome = await opened(mcp, server.url, **secrets).run(call("t"), call_item())
        assert "s3cret" not in repr(outcome)
        assert "I got [removed] and [removed]" in repr(outcome)


async def test_a_secret_that_a_server_repeats_is_in_no_definition() -> None:
    async with Raw(tools_list=_echoing("list")) as server, hosting() as mcp:
        tool, stage = opened(mcp, server.url, **SECRETS), Staged()
        await tool.prepare(stage)
        assert "s3cret" not in repr([stage, tool.functions])
        assert tool.functions[0].description == "I got [removed] and [removed]"


async def test_what_a_server_says_else_stays_as_it_is() -> None:
    """Short values are words; what is no secret is none."""
    said = {"content": [{"type": "text", "text": "blue application/json"}]}
    headers = {"X-Team": "blue", "Accept": "application/json"}
    async with Raw(tools_call=result(said)) as server, hosting() as mcp:
        outcome = await opened(mcp, server.url, headers=headers).run(call("t"), call_item())
        assert outcome.fields["output"] == "blue application/json"


async def test_a_wrong_token_is_a_424_with_the_status(tmp_path: Path) -> None:
    """OpenAI's own text (spec §6)."""
    with Running(tmp_path / "log", "http", "--token", "right") as server:
        async with hosting() as mcp:
            stage = Staged()
            with pytest.raises(ExternalConnectorError) as caught:
                await opened(mcp, server.url, authorization="wrong").prepare(stage)
            assert caught.value.message == (
                "Error retrieving tool list from MCP server: 'tickets'. "
                "Http status code: 401 (Unauthorized)"
            )
            assert (caught.value.status, caught.value.code) == (424, "http_error")
            await opened(mcp, server.url, authorization="right").prepare(Staged())


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("abc", "Bearer abc"),
        (" abc ", "Bearer abc"),
        ("Bearer abc", "Bearer abc"),
        ("bearer abc", "bearer abc"),
        ("Basic dTpw", "Basic dTpw"),
    ],
)
async def test_an_authorization_gets_a_scheme_if_it_has_none(given: str, sent: str) -> None:
    async with Raw() as server, hosting() as mcp:
        with pytest.raises(ExternalConnectorError):
            await opened(mcp, server.url, authorization=given).prepare(Staged())
        assert f"\r\nauthorization: {sent}\r\n" in server.got[0][0]


async def test_nothing_is_sent_to_another_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-91: not even where the server sends us, in either transport."""
    monkeypatch.setattr("antiphon.tools.mcp.connection.OPEN_TIMEOUT", 0.5)
    async with Raw() as canary, Raw() as server:
        location = f"location: {canary.url}\r\n"

        async def elsewhere(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
            event = f"event: endpoint\ndata: {canary.url}\n\n".encode()
            writer.write(http(200, event, "text/event-stream"))

        for answer in (says(http(307, more=location)), elsewhere):
            server.answers |= {"initialize": says(http(405, more=location)), "GET": answer}
            async with hosting() as mcp:
                with pytest.raises(ExternalConnectorError):
                    await opened(mcp, server.url, **SECRETS).prepare(Staged())
        assert canary.got == []


async def test_a_server_gets_nothing_that_it_was_not_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-92: no key of ours is passed on."""
    monkeypatch.setenv("ANTIPHON_API_KEYS", "sk-ours")
    async with Raw() as server, hosting() as mcp:
        with pytest.raises(ExternalConnectorError):
            await opened(mcp, server.url).prepare(Staged())
        names = {line.split(":")[0].lower() for line in server.got[0][0].split("\r\n")[1:] if line}
        assert names == {
            "host",
            "user-agent",
            "accept",
            "accept-encoding",
            "content-type",
            "content-length",
        }


def test_secrets_of_the_configuration_are_in_no_repr() -> None:
    entry = McpServerConfig(
        name="box", url="https://example.com/s3cret?key=s3cret", authorization_env="T"
    )
    servers = configured([entry], {"T": "tok-s3cret"})
    assert "s3cret" not in repr(servers)
    local = McpServerConfig(name="box", command=["cat", "--key=s3cret"], env={"A": "T"})
    assert "s3cret" not in repr(configured([local], {"T": "tok-s3cret"}))
    assert "s3cret" not in repr(Mcp(Policy(LOOPBACK), servers))
