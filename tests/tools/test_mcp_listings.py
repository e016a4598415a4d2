"""What MCP servers list, and what of it is used: R-89, R-123."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp.tool import Mcp
from tests.tools.mcp_world import SCHEMA, Answer, Json, Raw, Staged, hosting, opened, result


@pytest.fixture
async def mcp() -> AsyncIterator[Mcp]:
    async with hosting() as made:
        yield made


def tools(*more: object, count: int = 0, **fields: object) -> Answer:
    """A list of `count` tools, and of what else there is."""
    made = [{"name": f"t{n}", "inputSchema": SCHEMA, **fields} for n in range(count)]
    return result({"tools": [*made, *more]})


async def test_unusable_tools_are_left_out_and_the_others_stay(mcp: Mcp) -> None:
    deep: Json = {"type": "object"}
    for _ in range(40):
        deep = {"type": "object", "properties": {"a": deep}}
    bad = [
        7,
        {"name": "no schema"},
        {"inputSchema": SCHEMA},
        {"name": "", "inputSchema": SCHEMA},
        {"name": "n" * 257, "inputSchema": SCHEMA},
        {"name": "a\nb", "inputSchema": SCHEMA},
        {"name": "\u202ea", "inputSchema": SCHEMA},
        {"name": "list", "inputSchema": [1]},
        {"name": "text", "inputSchema": {"type": "string"}},
        {"name": "properties", "inputSchema": {"type": "object", "properties": []}},
        {"name": "a property", "inputSchema": {"type": "object", "properties": {"a": 5}}},
        {"name": "required", "inputSchema": {**SCHEMA, "required": "x"}},
        {"name": "a required one", "inputSchema": {**SCHEMA, "required": [1]}},
        {"name": "dialect", "inputSchema": {**SCHEMA, "$schema": 5}},
        {"name": "long", "inputSchema": {**SCHEMA, "title": "x" * 70_000}},
        {"name": "huge number", "inputSchema": {**SCHEMA, "maxProperties": 10**30}},
        {"name": "deep", "inputSchema": deep},
        {"name": "odd hints", "inputSchema": SCHEMA, "annotations": {"readOnlyHint": "yes"}},
        {"name": "odd text", "inputSchema": SCHEMA, "description": 7, "outputSchema": 7},
        {"name": "odd text", "inputSchema": SCHEMA, "description": "twice"},
        {"name": "no type", "inputSchema": {}, "description": "a\u200bb\x00\tc\U000e0041"},
        {"name": "any", "inputSchema": {"properties": {"a": True}, "required": None}},
        {"name": "hides", "inputSchema": {"title": "a\u202e\U000e0041b", "default": "\n"}},
    ]
    async with Raw(tools_list=tools(*bad)) as server:
        tool, stage = opened(mcp, server.url), Staged()
        await tool.prepare(stage)
        names = [function.name for function in tool.functions]
        assert names == ["odd hints", "odd text", "no type", "any", "hides"]
        assert [function.description for function in tool.functions] == ["", "", "ab\tc", "", ""]
        assert tool.functions[2].parameters == {"type": "object"}
        hides = {"type": "object", "title": "ab", "default": "\n"}
        assert tool.functions[4].parameters == hides
        assert not tool.functions[0].repeatable
        assert "description" not in stage.begun[0].fields["tools"][0]


async def test_all_pages_are_read(mcp: Mcp) -> None:
    async def page(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        cursor = (message.get("params") or {}).get("cursor")
        listed: Json = {"tools": [{"name": f"t{cursor}", "inputSchema": SCHEMA}]}
        if cursor != "2":
            listed["nextCursor"] = "1" if cursor is None else "2"
        await result(listed)(head, message, writer)

    async with Raw(tools_list=page) as server:
        tool = opened(mcp, server.url)
        await tool.prepare(Staged())
        assert [function.name for function in tool.functions] == ["tNone", "t1", "t2"]


@pytest.mark.parametrize(
    ("listing", "fits"),
    [
        (tools(count=128), True),
        (tools(count=129), False),
        (tools(count=63, description="x" * 16_000), True),
        (tools(count=70, description="x" * 16_000), False),
        (tools(count=2_500), False),
        (result({"tools": [], "nextCursor": "again"}), False),
    ],
)
async def test_more_than_a_model_can_be_shown_is_refused(
    mcp: Mcp, listing: Answer, fits: bool
) -> None:
    """R-89: 128 tools, 1 MiB of descriptions."""
    async with Raw(tools_list=listing) as server:
        tool = opened(mcp, server.url)
        if fits:
            await tool.prepare(Staged())
            assert tool.functions
        else:
            with pytest.raises(ExternalConnectorError) as caught:
                await tool.prepare(Staged())
            assert "'allowed_tools'" in caught.value.message


async def test_a_list_without_end_is_not_read_to_its_end(mcp: Mcp) -> None:
    async def page(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        number = server.asked("tools/list")
        listed = [{"name": f"t{number}-{n}", "inputSchema": SCHEMA} for n in range(1000)]
        await result({"tools": listed, "nextCursor": str(number)})(head, message, writer)

    async with Raw(tools_list=page) as server:
        with pytest.raises(ExternalConnectorError):
            await opened(mcp, server.url).prepare(Staged())
        assert server.asked("tools/list") == 3


async def test_only_allowed_tools_count(mcp: Mcp) -> None:
    async with Raw(tools_list=tools(count=500)) as server:
        tool = opened(mcp, server.url, allowed_tools={"tool_names": ["t1", "t499", "none"]})
        await tool.prepare(Staged())
        assert [function.name for function in tool.functions] == ["t1", "t499"]
