"""What a request and the configuration may say about MCP servers (R-87, R-88, R-124, R-132)."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from antiphon.config import ConfigError, McpServerConfig, load_config
from antiphon.egress import Policy
from antiphon.errors import InvalidRequestError
from antiphon.tools.base import Scope
from antiphon.tools.mcp.filters import is_allowed, needs_approval
from antiphon.tools.mcp.servers import Local, Remote, configured
from antiphon.tools.mcp.tool import Mcp
from tests.tools.mcp_world import Json, Staged, opened

URL = "https://example.com/mcp"
REMOTE = McpServerConfig(name="box", url="http://10.0.0.1/mcp", headers={"X-Team": "blue"})
LOCAL = McpServerConfig(name="local", command=["cat"])
KEYED = McpServerConfig(name="keyed", url="http://10.0.0.1/mcp", authorization_env="T")


def made() -> Mcp:
    return Mcp(Policy(), configured([REMOTE, LOCAL, KEYED], {"T": "t"}))


async def checked(**tool: Any) -> list[str]:
    """What has no effect."""
    return await made().check({"type": "mcp", "server_label": "l", **tool}, "tools[2]", "p")


@pytest.mark.parametrize(
    "tool",
    [
        {"server_url": URL},
        {"server_url": URL, "authorization": "t", "headers": {"X-Key": "a b\tc", "Cookie": "a=b"}},
        {"server_url": URL, "authorization": "", "headers": {"Authorization": "Bearer t"}},
        {"server_url": URL, "headers": {"Accept": "application/json"}, "allowed_tools": []},
        {"connector_id": "box", "authorization": "t", "headers": {"X-Other": "1"}},
        {"connector_id": "local", "server_url": None},
    ],
)
async def test_what_can_be_honoured_is_accepted(tool: Json) -> None:
    assert await checked(**tool) == []


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"server_url": "nope"}, "server_url"),
        ({"server_url": "ftp://example.com/"}, "server_url"),
        ({"server_url": "http://user:pw@example.com/"}, "server_url"),
        ({"server_url": "http://127.0.0.1/mcp"}, "server_url"),
        ({"server_url": "http://localhost:9000/mcp"}, "server_url"),
        ({"server_url": "http://10.0.0.1/mcp"}, "server_url"),
        ({"server_url": "http://[::1]/mcp"}, "server_url"),
        ({"server_url": "http://169.254.169.254/"}, "server_url"),
        ({"server_url": "http://0x7f.1/"}, "server_url"),
        ({}, "server_url"),
        ({"connector_id": "other"}, "connector_id"),
        ({"connector_id": "connector_gmail"}, "connector_id"),
        ({"tunnel_id": "t"}, "tunnel_id"),
        ({"server_url": URL, "authorization": "a\r\nX: b"}, "authorization"),
        ({"server_url": URL, "authorization": "ä"}, "authorization"),
        ({"server_url": URL, "authorization": "a" * 20_000}, "authorization"),
        ({"server_url": URL, "headers": {"X Y": "1"}}, "headers"),
        ({"server_url": URL, "headers": {"": "1"}}, "headers"),
        ({"server_url": URL, "headers": {"X:": "1"}}, "headers"),
        ({"server_url": URL, "headers": {"Ü": "1"}}, "headers"),
        ({"server_url": URL, "headers": {"X": "1\n2"}}, "headers"),
        ({"server_url": URL, "headers": {"X": "1\x00"}}, "headers"),
        ({"server_url": URL, "headers": {"X": "ä"}}, "headers"),
        ({"server_url": URL, "headers": {"X": "1", "x": "2"}}, "headers"),
        ({"server_url": URL, "headers": {f"X{n}": "1" for n in range(65)}}, "headers"),
        ({"server_url": URL, "headers": {"X": "1" * 20_000}}, "headers"),
        ({"server_url": URL, "authorization": "t", "headers": {"Authorization": "u"}}, "headers"),
        ({"connector_id": "box", "headers": {"x-team": "red"}}, "headers"),
        ({"connector_id": "keyed", "headers": {"Authorization": "mine"}}, "headers"),
        *(
            ({"server_url": URL, "headers": {name: "1"}}, "headers")
            for name in (
                "Host",
                "content-length",
                "Transfer-Encoding",
                "Connection",
                "Keep-Alive",
                "TE",
                "Trailer",
                "Upgrade",
                "Expect",
                "Proxy-Authorization",
                "proxy-connection",
                "Content-Encoding",
                "Accept-Encoding",
                "Mcp-Session-Id",
                "MCP-Protocol-Version",
                "Mcp-Param-x",
                "Last-Event-ID",
            )
        ),
    ],
)
async def test_what_cannot_be_honoured_is_a_400_with_its_place(tool: Json, param: str) -> None:
    """R-87: no value is repeated, for it may be a secret."""
    with pytest.raises(InvalidRequestError) as caught:
        await checked(**tool)
    assert (caught.value.status, caught.value.param) == (400, f"tools[2].{param}")
    values = [tool.get("authorization"), *(tool.get("headers") or {}).values()]
    long = [value for value in values if value and len(value) > 3]
    assert not any(value in caught.value.message for value in long)


@pytest.mark.parametrize(
    ("tool", "ignored"),
    [
        ({"server_url": URL, "allowed_callers": ["direct"]}, ["allowed_callers"]),
        ({"server_url": URL, "allowed_callers": None}, []),
        ({"connector_id": "keyed", "authorization": "mine"}, ["authorization"]),
        (
            {"connector_id": "local", "authorization": "t", "headers": {"X": "1"}},
            ["authorization", "headers"],
        ),
    ],
)
async def test_what_has_no_effect_is_named(tool: Json, ignored: list[str]) -> None:
    assert await checked(**tool) == ignored


async def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-133."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InvalidRequestError) as caught:
        await Mcp(Policy(), {}).check({"server_label": "l", "server_url": URL}, "tools[2]", "p")
    assert "antiphon[mcp]" in caught.value.message
    assert caught.value.param == "tools[2]"


def test_a_connector_that_is_gone_is_an_error_when_it_is_opened() -> None:
    """Another process may go on with a run, with another configuration."""
    with pytest.raises(InvalidRequestError):
        made().open({"type": "mcp", "server_label": "l", "connector_id": "gone"}, Scope("p"))


# -- filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "reading", "writing"),
    [
        (None, True, True),
        ([], False, False),
        (["read"], True, False),
        ({}, True, True),
        ({"tool_names": None, "read_only": None}, True, True),
        ({"tool_names": []}, False, False),
        ({"tool_names": ["write"]}, False, True),
        ({"read_only": True}, True, False),
        ({"read_only": False}, True, True),
        ({"read_only": True, "tool_names": ["write"]}, False, False),
        ({"read_only": False, "tool_names": ["read"]}, True, False),
    ],
)
def test_allowed_tools(allowed: Any, reading: bool, writing: bool) -> None:
    assert is_allowed(allowed, "read", read_only=True) is reading
    assert is_allowed(allowed, "write", read_only=False) is writing


@pytest.mark.parametrize(
    ("required", "reading", "writing"),
    [
        (None, True, True),
        ("always", True, True),
        ("never", False, False),
        ({}, True, True),
        ({"never": None, "always": None}, True, True),
        ({"never": {}}, True, True),
        ({"never": {"read_only": False}}, True, True),
        ({"never": {"read_only": True}}, False, True),
        ({"never": {"tool_names": ["write"]}}, True, False),
        ({"never": {"tool_names": ["write"], "read_only": True}}, True, True),
        ({"always": {"tool_names": ["write"]}}, True, True),
        ({"always": {"tool_names": ["write"]}, "never": {"tool_names": ["read"]}}, False, True),
        ({"always": {"read_only": True}, "never": {"tool_names": ["read", "write"]}}, True, False),
        ({"always": {}, "never": {"tool_names": ["read", "write"]}}, False, False),
    ],
)
def test_approval_is_asked_for_unless_never_is_said(
    required: Any, reading: bool, writing: bool
) -> None:
    """R-124: `always` is the default; of both, the careful one counts."""
    assert needs_approval(required, "read", read_only=True) is reading
    assert needs_approval(required, "write", read_only=False) is writing


async def test_the_model_sees_of_a_list_what_is_allowed_and_what_needs_approval() -> None:
    tools = [
        {"name": name, "input_schema": {}, "annotations": {"read_only": name == "read"}}
        for name in ("read", "write", "hidden")
    ]
    listed = {"type": "mcp_list_tools", "server_label": "tickets", "tools": tools}
    tool = opened(
        made(),
        URL,
        allowed_tools=["read", "write"],
        require_approval={"never": {"read_only": True}},
        defer_loading=True,
    )
    await tool.prepare(Staged([listed]))
    seen = [(f.name, f.needs_approval, f.repeatable) for f in tool.functions]
    assert seen == [("read", False, True), ("write", True, False)]
    assert tool.defer_loading
    tool.close()


async def test_a_fingerprint_changes_with_the_server_and_the_definition_only() -> None:
    """R-125."""

    async def print_of(url: str = URL, more: Json | None = None, **changes: object) -> str:
        tool = {"name": "t", "description": "d", "input_schema": {"type": "object", "a": 1, "b": 2}}
        listed = {"type": "mcp_list_tools", "server_label": "tickets", "tools": [tool | changes]}
        server = more or {"server_url": url}
        made_tool = opened(made(), None, **server)
        await made_tool.prepare(Staged([listed]))
        made_tool.close()
        return made_tool.functions[0].fingerprint

    same = await print_of()
    assert len(same) == 64
    assert same == await print_of(input_schema={"b": 2, "type": "object", "a": 1})
    assert same == await print_of(annotations={"read_only": True})
    assert same == await print_of(more={"server_url": URL, "server_description": "x"})
    others = [
        await print_of("https://example.com/other"),
        await print_of(more={"connector_id": "box"}),
        await print_of(more={"connector_id": "keyed"}),
        await print_of(name="u"),
        await print_of(description="e"),
        await print_of(input_schema={"type": "object", "a": 1, "b": 3}),
    ]
    assert len({same, *others}) == 7


# -- configuration ---------------------------------------------------------------------------------


def read(tmp_path: Path, text: str) -> McpServerConfig:
    path = tmp_path / "antiphon.toml"
    path.write_text("[[mcp_servers]]\n" + text, encoding="utf-8")
    config = load_config(path)
    assert config is not None
    return config.mcp_servers[0]


def test_a_server_at_a_url_has_headers_from_the_file_and_the_environment(tmp_path: Path) -> None:
    entry = read(
        tmp_path,
        'name = "tickets"\nurl = "http://10.0.0.1:9000/mcp"\nauthorization_env = "TOKEN"\n'
        'headers = {X-Team = "blue"}\nheaders_env = {X-Key = "KEY"}\ndescription = "All"\n',
    )
    server = configured([entry], {"TOKEN": "t", "KEY": "k"})["tickets"]
    assert isinstance(server.target, Remote)
    assert str(server.target.url) == "http://10.0.0.1:9000/mcp"
    assert server.target.headers == {"authorization": "Bearer t", "x-team": "blue", "x-key": "k"}
    assert server.target.policy.allows("10.0.0.1")
    assert not server.target.policy.allows("10.0.0.2")
    assert server.description == "All"


def test_a_server_that_is_a_program_has_an_environment(tmp_path: Path) -> None:
    """R-88."""
    entry = read(
        tmp_path, 'name = "l"\ncommand = ["cat", "-u"]\ncwd = "/srv"\nenv = {TOKEN = "T"}\n'
    )
    assert configured([entry], {"T": "t", "U": "u"})["l"].target == Local(
        ("cat", "-u"), {"TOKEN": "t"}, "/srv", "l"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"', "either a url or a command"),
        ('name = "a"\nurl = "http://x/"\ncommand = ["x"]', "either a url or a command"),
        ('name = "a b"\nurl = "http://x/"', "mcp_servers.0.name"),
        ('name = "a"\nurl = "ftp://x/"', "mcp_servers.0.url"),
        ('name = "a"\nurl = "http://x/"\nsurprise = 1', "mcp_servers.0.surprise"),
        ('name = "a"\nurl = "http://x/"\nauthorization = "t"', "mcp_servers.0.authorization"),
        ('name = "a"\nurl = "http://x/"\nauthorization_env = "A B"', "authorization_env"),
        ('name = "a"\nurl = "http://x/"\nheaders = {"A B" = "1"}', "'A B' has characters"),
        ('name = "a"\nurl = "http://x/"\nheaders_env = {"A B" = "C"}', "'A B' has characters"),
        ('name = "a"\nurl = "http://x/"\nheaders = {a = "1"}\nheaders_env = {A = "B"}', "two"),
        ('name = "a"\nurl = "http://x/"\nenv = {A = "B"}', "go with a command"),
        ('name = "a"\nurl = "http://x/"\ncwd = "/"', "go with a command"),
        ('name = "a"\ncommand = []', "mcp_servers.0.command"),
        ('name = "a"\ncommand = [""]', "no program"),
        ('name = "a"\ncommand = "run -x"', "mcp_servers.0.command"),
        ('name = "a"\ncommand = ["x"]\nheaders = {a = "1"}', "go with a url"),
        ('name = "a"\ncommand = ["x"]\nauthorization_env = "A"', "go with a url"),
        ('name = "a"\ncommand = ["x"]\nenv = {"A B" = "C"}', "mcp_servers.0.env"),
        (
            'name = "a"\ncommand = ["x"]\n[[mcp_servers]]\nname = "a"\ncommand = ["x"]',
            "the same name",
        ),
    ],
)
def test_an_entry_that_cannot_be_used_says_where(tmp_path: Path, text: str, says: str) -> None:
    """R-132."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "environ", "says"),
    [
        ({"url": URL, "authorization_env": "T"}, {}, "variable T is not set"),
        ({"url": URL, "headers_env": {"X": "T"}}, {"T": ""}, "variable T is not set"),
        ({"command": ["x"], "env": {"A": "T"}}, {}, "variable T is not set"),
        ({"url": URL, "authorization_env": "T"}, {"T": "a\nb"}, "'authorization' has characters"),
        ({"url": "http://u:p@example.com/"}, {}, "its url cannot be used"),
        ({"url": "http://127.1/"}, {}, "its url cannot be used"),
        ({"url": URL, "headers": {"Mcp-Session-Id": "1"}}, {}, "'mcp-session-id' cannot be set"),
        ({"url": URL, "headers_env": {"Host": "T"}}, {"T": "t"}, "'host' cannot be set"),
        ({"url": URL, "headers": {"X": "x" * 20_000}}, {}, "too long headers"),
        ({"command": ["no-such-program"]}, {}, "there is no program 'no-such-program'"),
        ({"command": ["/nowhere/at/all"]}, {}, "there is no program '/nowhere/at/all'"),
        ({"command": ["./cat"], "cwd": "/"}, {}, "there is no program './cat'"),
        ({"command": ["cat"], "cwd": "/nowhere"}, {}, "its cwd is not there"),
        ({"command": ["cat"], "env": {"PATH": "T"}}, {"T": "/nowhere"}, "there is no program"),
    ],
)
def test_a_server_that_could_not_be_used_is_refused_at_the_start(
    fields: Json, environ: dict[str, str], says: str
) -> None:
    entry = McpServerConfig.model_validate({"name": "box", **fields})
    with pytest.raises(ValueError, match="MCP server 'box'") as caught:
        configured([entry], environ)
    assert says in str(caught.value)
    assert "a\nb" not in str(caught.value)


def test_a_program_is_looked_for_where_it_will_be_started() -> None:
    entry = McpServerConfig(name="box", command=["bin/cat"], cwd="/")
    assert configured([entry], {})["box"].target == Local(("bin/cat",), {}, "/", "box")


def test_servers_without_the_extra_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert configured([], {}) == {}
    with pytest.raises(ValueError, match=r"the extra 'mcp'"):
        configured([REMOTE], {})


def test_an_entry_is_strict() -> None:
    with pytest.raises(ValidationError):
        McpServerConfig.model_validate({"name": 1, "url": URL})
