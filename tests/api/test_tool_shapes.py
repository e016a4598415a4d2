"""Each tool on the simulator and through a chat-completions server, streamed and not, and in the
background: order and keys of its events as in recordings of OpenAI's wire (issue 5/8, must show 1).

Rules
1. `SHAPES` was read from the recordings: events in order, deltas of one string once, and the keys
   of the item where an event has one. Every event has the keys of its kind (`PLACE`).
"""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import orjson
import pytest

from tests.api.shelves import Shelves
from tests.api.talk import Json, client_of, events
from tests.api.test_web_search import Web, _web  # noqa: F401
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve
from tests.sandbox_environment import sandbox_environment
from tests.tools.mcp_world import Running

_LIST: Final = "id server_label tools type"
_CALL: Final = "approval_request_id arguments error id name output server_label status type"
_ASKED: Final = "arguments id name server_label type"
_FILES: Final = "id queries results status type"
_CODE: Final = "code container_id id outputs status type"
_SHELL: Final = "action call_id id status type"
_PATCH: Final = "call_id id operation status type"
_SEARCH: Final = "arguments call_id execution id status type"
_DRAWN: Final = "result revised_prompt size status type"
_FOUND: Final = "call_id execution id status tools type"
_ADDED, _DONE = "output_item.added", "output_item.done"

#: Tool → its events, each with the keys of its item if it has one.
SHAPES: Final[dict[str, list[tuple[str, str | None]]]] = {
    "mcp": [
        (_ADDED, _LIST),
        ("mcp_list_tools.in_progress", None),
        ("mcp_list_tools.completed", None),
        (_DONE, _LIST),
        (_ADDED, _CALL),
        ("mcp_call.in_progress", None),
        ("mcp_call_arguments.delta", None),
        ("mcp_call_arguments.done", None),
        ("mcp_call.completed", None),
        (_DONE, _CALL),
    ],
    "approval": [
        (_ADDED, _LIST),
        ("mcp_list_tools.in_progress", None),
        ("mcp_list_tools.completed", None),
        (_DONE, _LIST),
        (_ADDED, _ASKED),
        (_DONE, _ASKED),
    ],
    "web_search": [
        (_ADDED, "id status type"),
        ("web_search_call.in_progress", None),
        ("web_search_call.searching", None),
        ("web_search_call.completed", None),
        (_DONE, "action id status type"),
    ],
    "file_search": [
        (_ADDED, _FILES),
        ("file_search_call.in_progress", None),
        ("file_search_call.searching", None),
        ("file_search_call.completed", None),
        (_DONE, _FILES),
    ],
    "code_interpreter": [
        (_ADDED, _CODE),
        ("code_interpreter_call.in_progress", None),
        ("code_interpreter_call_code.delta", None),
        ("code_interpreter_call_code.done", None),
        ("code_interpreter_call.interpreting", None),
        ("code_interpreter_call.completed", None),
        (_DONE, _CODE),
    ],
    # `action` is younger than the recording.
    "image_generation": [
        (_ADDED, "id status type"),
        ("image_generation_call.in_progress", None),
        ("image_generation_call.generating", None),
        ("image_generation_call.partial_image", None),
        ("image_generation_call.completed", None),
        (_DONE, f"action background id output_format quality {_DRAWN}"),
    ],
    "local_shell": [(_ADDED, _SHELL), (_DONE, _SHELL)],
    "shell": [
        (_ADDED, _SHELL),
        ("shell_call_command.added", None),
        ("shell_call_command.delta", None),
        ("shell_call_command.done", None),
        (_DONE, _SHELL),
    ],
    "apply_patch": [
        (_ADDED, _PATCH),
        ("apply_patch_call_operation_diff.delta", None),
        ("apply_patch_call_operation_diff.done", None),
        (_DONE, _PATCH),
    ],
    "delete": [(_ADDED, _PATCH), (_DONE, _PATCH)],
    "client_search": [(_ADDED, _SEARCH), (_DONE, _SEARCH)],
    "server_search": [(_ADDED, _SEARCH), (_DONE, _SEARCH), (_ADDED, _FOUND), (_DONE, _FOUND)],
    # The recording is of 2025, without a status at first and without `.done`.
    "custom": [
        (_ADDED, "call_id id input name status type"),
        ("custom_tool_call_input.delta", None),
        ("custom_tool_call_input.done", None),
        (_DONE, "call_id id input name status type"),
    ],
}
#: Event → its keys besides `type` and `sequence_number`.
PLACE: Final = {
    _ADDED: "item output_index",
    _DONE: "item output_index",
    "mcp_call_arguments.delta": "delta item_id output_index",
    "mcp_call_arguments.done": "arguments item_id output_index",
    "code_interpreter_call_code.delta": "delta item_id output_index",
    "code_interpreter_call_code.done": "code item_id output_index",
    "shell_call_command.added": "command command_index output_index",
    "shell_call_command.delta": "command_index delta output_index",
    "shell_call_command.done": "command command_index output_index",
    "apply_patch_call_operation_diff.delta": "delta item_id output_index",
    "apply_patch_call_operation_diff.done": "diff item_id output_index",
    "image_generation_call.partial_image": (
        "background item_id output_format output_index partial_image_b64 partial_image_index "
        "quality size"
    ),
    "custom_tool_call_input.delta": "delta item_id output_index",
    "custom_tool_call_input.done": "input item_id output_index",
}
_DEFERRED: Final = {"type": "function", "name": "news", "defer_loading": True, "parameters": None}
_GRAMMAR: Final = {"type": "grammar", "syntax": "regex", "definition": "[0-9]+"}
#: Tool → tools of the request, the function that the model calls, its arguments.
ASKED: Final[dict[str, tuple[list[Json], str, Any]]] = {
    "web_search": ([{"type": "web_search"}], "web_search", {"query": "otters"}),
    "image_generation": (
        [{"type": "image_generation", "partial_images": 1, "size": "64x64"}],
        "image_generation",
        {"prompt": "otters"},
    ),
    "code_interpreter": (
        [{"type": "code_interpreter", "container": {"type": "auto"}}],
        "code_interpreter",
        {"code": "6 * 7"},
    ),
    "local_shell": ([{"type": "local_shell"}], "local_shell", {"command": ["ls"]}),
    "shell": ([{"type": "shell"}], "shell", {"commands": ["ls -a"]}),
    "apply_patch": (
        [{"type": "apply_patch"}],
        "apply_patch",
        {"type": "create_file", "path": "a.md", "diff": "+hello\n"},
    ),
    "delete": ([{"type": "apply_patch"}], "apply_patch", {"type": "delete_file", "path": "a.md"}),
    "client_search": (
        [{"type": "tool_search", "execution": "client"}],
        "tool_search",
        {"query": "news"},
    ),
    "server_search": ([_DEFERRED, {"type": "tool_search"}], "tool_search", {"paths": ["news"]}),
    "custom": ([{"type": "custom", "name": "dial", "format": _GRAMMAR}], "dial", "12"),
}


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("mcp") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory,
    _upstream: ChatUpstream,
    _web: Web,  # noqa: F811
) -> Iterator[LiveServer]:
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    toml += f'\n[web_search]\nprovider = "searxng"\nurl = "{_web.url}"\n'
    toml += '\n[image_generation]\nkind = "simulator"\n'
    env = {
        "ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "ANTIPHON_SANDBOX": str(sandbox_environment()),
    }
    with serve(tmp_path_factory.mktemp("server"), toml, env) as server:
        yield server


@pytest.fixture(scope="module")
def books(live: LiveServer) -> str:
    """A vector store with a file about otters."""
    with client_of(live) as client:
        shelves = Shelves(client, live.folder)
        return shelves.full(shelves.file("Otters hold hands while they sleep.", "otters.md"))


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def request_of(tool: str, tickets: Running, books: str) -> tuple[list[Json], str, Any]:
    """See `ASKED`."""
    if tool in ASKED:
        return ASKED[tool]
    if tool == "file_search":
        found: Json = {"type": tool, "vector_store_ids": [books]}
        return [found], tool, {"queries": ["otters"]}
    server: Json = {"type": "mcp", "server_label": "t", "server_url": tickets.url}
    if tool == "mcp":
        server["require_approval"] = "never"
    return [server], "echo", {"text": "x"}


def shape(found: list[Json], model: str) -> list[tuple[str, str | None]]:
    """What an event is, for those of tools; deltas of one string once."""
    shown: list[tuple[str, str | None]] = []
    kinds: dict[int, str] = {}
    for event in found:
        name = event["type"].removeprefix("response.")
        if "output_index" not in event:
            continue
        if name == _ADDED:
            kinds[event["output_index"]] = event["item"]["type"]
        if kinds[event["output_index"]] == "message":
            continue
        keys = " ".join(sorted(event["item"])) if "item" in event else None
        if shown and shown[-1] == (name, keys) and name.endswith(".delta"):
            continue
        place = set(PLACE.get(name, "item_id output_index").split())
        assert set(event) - {"type", "sequence_number", "obfuscation"} == place, model
        shown.append((name, keys))
    return shown


@pytest.mark.parametrize("tool", SHAPES)
@pytest.mark.parametrize("model", ["simulator", "m"])
def test_every_tool_as_on_openais_wire(
    api: httpx2.Client,
    upstream: ChatUpstream,
    tickets: Running,
    books: str,
    tool: str,
    model: str,
) -> None:
    tools, name, arguments = request_of(tool, tickets, books)
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    wrapped = {"input": text} if tool == "custom" else text
    body: Json = {"model": model, "input": f"[[call={name} {text}]]", "tools": tools}

    def ask(**more: Any) -> httpx2.Response:
        upstream.script(Reply.calls((name, wrapped)), Reply.chat("Done."))
        reply = api.post("/v1/responses", json={**body, **more})
        assert reply.status_code == 200, reply.text
        return reply

    streamed = events(ask(stream=True).text)
    assert shape(streamed, model) == SHAPES[tool]
    background = events(ask(stream=True, background=True).text)
    assert shape(background, model) == SHAPES[tool]
    whole = ask().json()
    polled = ask(background=True).json()
    while polled["status"] in ("queued", "in_progress"):
        polled = api.get(f"/v1/responses/{polled['id']}").json()
    finals = [streamed[-1]["response"], background[-1]["response"], whole, polled]
    assert [final["status"] for final in finals] == ["completed"] * 4
    assert len({orjson.dumps(plain(final["output"])) for final in finals}) == 1
    again = api.get(f"/v1/responses/{whole['id']}").json()
    assert again == whole


@pytest.mark.parametrize("background", [False, True])
def test_results_and_citations_as_on_openais_wire(
    api: httpx2.Client, upstream: ChatUpstream, books: str, *, background: bool
) -> None:
    """Recording 2: keys of a result, four digits of a score, and where a citation stands."""
    upstream.script(
        Reply.calls(("file_search", {"queries": ["otters sleep", "hands"]})),
        Reply.chat("They hold hands", " 【", "1】", ". Always."),
    )
    tool: Json = {"type": "file_search", "vector_store_ids": [books]}
    body: Json = {"model": "m", "input": "Otters?", "tools": [tool], "stream": True}
    body |= {"include": ["file_search_call.results"], "background": background}
    found = events(api.post("/v1/responses", json=body).text)
    call, message = found[-1]["response"]["output"]
    (result,) = call["results"]
    assert list(result) == ["attributes", "file_id", "filename", "score", "text"]
    assert result["score"] == round(result["score"], 4)
    assert call["queries"] == ["otters sleep", "hands"]
    part = message["content"][0]
    assert part["text"] == "They hold hands. Always."
    cited = {"type": "file_citation", "file_id": result["file_id"], "filename": "otters.md"}
    assert part["annotations"] == [{**cited, "index": len("They hold hands")}]
    (added,) = [e for e in found if e["type"] == "response.output_text.annotation.added"]
    assert added["annotation"] == part["annotations"][0]
    keys = "annotation annotation_index content_index item_id output_index sequence_number type"
    assert " ".join(sorted(added)) == keys


def plain(output: list[Json]) -> list[Json]:
    """Items without what is new each time."""
    return [
        {k: value for k, value in item.items() if k not in ("id", "call_id", "container_id")}
        for item in output
    ]
