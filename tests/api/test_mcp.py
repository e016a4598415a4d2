"""MCP over real HTTP: the server, a chat-completions upstream and an MCP server are processes of
their own (spec §1.2, §4.1; reliability R-89 to R-92, R-124)."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.api.talk import Json, client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve
from tests.tools.mcp_world import Running

TOKEN = "tok-7f3a9c2e51-very-secret"
HEADER = "hdr-0b1d8e6644-very-secret"
MODES = ["json", "stream", "background", "background stream"]


@pytest.fixture(scope="module")
def tickets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("mcp") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An MCP server that wants a token."""
    with Running(tmp_path_factory.mktemp("mcp") / "log", "http", "--token", TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream, tickets: Running
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    toml += f'\n[[mcp_servers]]\nname = "desk"\nurl = "{tickets.url}"\n'
    env = {
        "ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "ANTIPHON_TOOL_TIMEOUT": "2",
        "ANTIPHON_LOG_LEVEL": "debug",
        "ANTIPHON_ACCESS_LOG": "true",
    }
    with serve(folder, toml, env) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def mcp(server: Running, **more: Any) -> Json:
    tool = {"type": "mcp", "server_label": "tickets", "server_url": server.url}
    return {**tool, "require_approval": "never", **more}


def ask(api: httpx2.Client, mode: str, **body: Any) -> tuple[Json, list[Json]]:
    """The final Response, and the events where there is a stream."""
    body = {"model": "m", "input": "Hi", **body}
    background = mode.startswith("background")
    stream = mode.endswith("stream")
    reply = api.post("/v1/responses", json={**body, "background": background, "stream": stream})
    assert reply.status_code == 200, reply.text
    if stream:
        found = events(reply.text)
        return found[-1]["response"], found
    made = reply.json()
    while made["status"] in ("queued", "in_progress"):
        made = api.get(f"/v1/responses/{made['id']}").json()
    return made, []


def kinds(made: Json) -> list[str]:
    return [item["type"] for item in made["output"]]


@pytest.mark.parametrize("mode", MODES)
def test_list_call_answer(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running, mode: str
) -> None:
    tickets.forget()
    upstream.script(Reply.calls(("add", {"a": 2, "b": 3})), Reply.chat("Five."))
    made, stream = ask(api, mode, tools=[mcp(tickets)])
    assert kinds(made) == ["mcp_list_tools", "mcp_call", "message"]
    listed, call, _ = made["output"]
    assert {tool["name"] for tool in listed["tools"]} >= {"add", "echo", "slow"}
    assert "status" not in listed
    assert call == {
        "id": call["id"],
        "type": "mcp_call",
        "status": "completed",
        "approval_request_id": None,
        "arguments": '{"a":2,"b":3}',
        "error": None,
        "name": "add",
        "output": call["output"],
        "server_label": "tickets",
    }
    assert orjson.loads(call["output"]) == {"total": 5}
    assert made["usage"]["input_tokens"] == 11 + 7
    assert tickets.asked("tools/list") == 1
    assert tickets.asked("tools/call") == 1
    assert tickets.asked("initialize") == 1, "one session for the whole response"
    assert made["tools"][0]["headers"] is None
    if stream:
        names = [event["type"] for event in stream if "delta" not in event["type"]]
        first = names.index("response.output_item.added")
        assert names[first : first + 11] == [
            "response.output_item.added",
            "response.mcp_list_tools.in_progress",
            "response.mcp_list_tools.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.mcp_call.in_progress",
            "response.mcp_call_arguments.done",
            "response.mcp_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
        ]
    second = upstream.requests[1].json["messages"]
    assert [message["role"] for message in second] == ["user", "assistant", "tool"]
    assert second[1]["tool_calls"][0]["function"]["name"] == "add"
    assert "untrusted_tool_output" in second[2]["content"]
    assert '"total": 5' in second[2]["content"]


def test_a_list_in_the_context_is_not_fetched_again(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """Spec §1.2."""
    tickets.forget()
    upstream.script(Reply.chat("Yes?"), Reply.calls(("echo", {"text": "x"})), Reply.chat("x"))
    first, _ = ask(api, "json", tools=[mcp(tickets)])
    second, _ = ask(api, "json", tools=[mcp(tickets)], previous_response_id=first["id"])
    assert kinds(second) == ["mcp_call", "message"]
    assert second["output"][0]["output"] == "x"
    history = [*first["output"], {"role": "user", "content": "And?"}]
    third, _ = ask(api, "json", tools=[mcp(tickets)], input=history, store=False)
    assert kinds(third) == ["message"]
    assert tickets.asked("tools/list") == 1


def test_parallel_calls_and_failures_in_one_turn(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(
        Reply.calls(
            ("echo", {"text": "one"}),
            ("broken", {}),
            ("slow", {"seconds": 30}),
            ("echo", {"text": "two"}),
            ("add", {"a": "no number"}),
            ("echo", "{oops"),
        ),
        Reply.chat("Done."),
    )
    made, stream = ask(api, "stream", tools=[mcp(tickets)])
    calls = made["output"][1:7]
    assert [call["status"] for call in calls] == [
        *("completed", "failed", "failed", "completed", "failed", "failed")
    ]
    assert calls[1]["error"]["type"] == "mcp_tool_execution_error"
    assert "no such ticket" in str(calls[1]["error"])
    assert "within 2 seconds" in str(calls[2]["error"])
    assert [call["output"] for call in calls] == ["one", None, None, "two", None, None]
    assert made["status"] == "completed"
    failed = [event for event in stream if event["type"] == "response.mcp_call.failed"]
    assert len(failed) == 4
    told = [m["content"] for m in upstream.requests[1].json["messages"] if m["role"] == "tool"]
    assert len(told) == 6
    assert "no such ticket" in told[1]


def test_ten_responses_at_once(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(*[Reply.calls(("slow", {"seconds": 0.3}))] * 10, Reply.chat("Done."))
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: ask(api, "json", tools=[mcp(tickets)])[0], range(10)))
    outputs = [[i.get("output") for i in one["output"] if i["type"] == "mcp_call"] for one in made]
    assert sorted(len(one) for one in outputs) == [1] * 10
    assert {text for one in outputs for text in one} == {"done"}


def test_a_server_that_dies_in_the_middle(
    api: httpx2.Client, upstream: ChatUpstream, tmp_path: Path
) -> None:
    """R-90."""
    with Running(tmp_path / "log") as mortal:
        upstream.script(Reply.calls(("die", {})), Reply.chat("It is gone."))
        made, _ = ask(api, "stream", tools=[mcp(mortal)])
        assert made["output_text"] == "It is gone."
        assert made["output"][1]["status"] == "failed"
        reply = api.post(
            "/v1/responses", json={"model": "m", "input": "Hi", "tools": [mcp(mortal)]}
        )
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (424, "tools")
        assert error["type"] == "external_connector_error"
        assert "'tickets'" in error["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_token_is_424(
    api: httpx2.Client, upstream: ChatUpstream, locked: Running, *, stream: bool
) -> None:
    """Spec §1.2, §6."""
    tool = mcp(locked, authorization="wrong")
    body = {"model": "m", "input": "Hi", "tools": [tool], "stream": stream}
    reply = api.post("/v1/responses", json=body)
    assert reply.status_code == 424
    assert error_of(reply) == {
        "message": "Error retrieving tool list from MCP server: 'tickets'. "
        "Http status code: 401 (Unauthorized)",
        "type": "external_connector_error",
        "param": "tools",
        "code": "http_error",
    }
    assert upstream.requests == []
    made, found = ask(api, "background stream", tools=[tool])
    assert (made["status"], kinds(made)) == ("failed", ["mcp_list_tools"])
    assert "401" in made["output"][0]["error"]
    assert [e["type"] for e in found if "mcp_list_tools" in e["type"]][-1].endswith(".failed")


def test_secrets_are_nowhere(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, locked: Running
) -> None:
    """R-91: not in the database while a background response waits or runs, not after it, in no log,
    no echo, no event and no item."""
    locked.forget()
    tool = mcp(locked, authorization=TOKEN, headers={"X-Extra": HEADER})
    tool["server_url"] += "?key=qry-55aa-very-secret"
    secrets = [TOKEN, HEADER, "qry-55aa"]
    seen: list[str] = []
    calling = Reply.calls(("slow", {"seconds": 0.5}))
    for mode in MODES:
        upstream.script(calling, Reply.chat("Done."))
        watch = threading.Event()
        looking = threading.Thread(target=_look, args=(live.folder, secrets, seen, watch))
        looking.start()
        made, stream = ask(api, mode, tools=[tool])
        watch.set()
        looking.join()
        assert made["output"][-2]["output"] == "done", made
        assert made["tools"][0]["server_url"] == locked.url
        shown = api.get(f"/v1/responses/{made['id']}").text
        shown += api.get(f"/v1/responses/{made['id']}/input_items").text
        for text in (shown, orjson.dumps(stream).decode(), orjson.dumps(made).decode()):
            assert not [secret for secret in secrets if secret in text]
    upstream.script(Reply.calls(("broken", {})), Reply.chat("Done."))
    made, _ = ask(api, "json", tools=[tool])
    assert "secret" not in str(made)
    assert seen == []
    assert not [secret for secret in secrets if secret in live.log()]
    assert {entry["headers"].get("x-extra") for entry in locked.log() if "headers" in entry} == {
        HEADER
    }
    sent = [message for request in upstream.requests for message in request.json["messages"]]
    assert not [secret for secret in secrets if secret in str(sent)]


def _look(folder: Path, secrets: list[str], seen: list[str], done: threading.Event) -> None:
    """Look for secrets in every file of the server until it is done, and once more."""
    while True:
        ended = done.wait(0.02)
        for path in folder.iterdir():
            if path.is_file() and path.suffix != ".toml":
                raw = path.read_bytes()
                seen += [f"{secret} in {path.name}" for secret in secrets if secret.encode() in raw]
        if ended:
            return


def test_the_job_of_a_background_response_has_no_secret_in_it(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream, locked: Running
) -> None:
    """It is sealed there, and comes out again."""
    upstream.script(Reply.calls(("slow", {"seconds": 1})), Reply.chat("Done."))
    tool = mcp(locked, authorization=TOKEN)
    body = {"model": "m", "input": "Hi", "tools": [tool], "background": True}
    made = api.post("/v1/responses", json=body).json()
    database = sqlite3.connect(f"file:{live.folder}/antiphon.db?mode=ro", uri=True)
    query = "SELECT request FROM jobs WHERE response_id = ?"
    (request,) = database.execute(query, (made["id"],)).fetchone()
    database.close()
    kept = orjson.loads(request)["tools"][0]
    assert kept["authorization"].startswith("antiphon.1.")
    assert TOKEN.encode() not in request
    while made["status"] in ("queued", "in_progress"):
        made = api.get(f"/v1/responses/{made['id']}").json()
    assert made["output"][1]["output"] == "done"


def _with_secrets(kind: str) -> list[Json]:
    """Items with tools in them, as `kind` of place takes them."""
    server: Json = {"type": "mcp", "server_label": "z", "authorization": TOKEN}
    server |= {"server_url": "https://x/mcp?k=qry-66bb-very-secret", "headers": {"X-Extra": HEADER}}
    call_id = f"call_{kind}"
    return [
        {"type": "additional_tools", "role": "developer", "tools": [server]},
        {"type": "tool_search_call", "call_id": call_id, "arguments": {}},
        {"type": "tool_search_output", "call_id": call_id, "tools": [server]},
    ]


def test_secrets_of_tools_in_items_are_nowhere(
    live: LiveServer, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """R-91: not in the database while a response waits or runs, in no list, no log and no prompt,
    though this server does not run such tools. In conversations as well."""
    secrets = [TOKEN, HEADER, "qry-66bb"]
    seen: list[str] = []
    texts: list[str] = []
    watch = threading.Event()
    looking = threading.Thread(target=_look, args=(live.folder, secrets, seen, watch))
    looking.start()
    for mode in MODES:
        upstream.script(Reply.chat("Done."))
        made, stream = ask(
            api, mode, input=[*_with_secrets(mode[:4]), {"role": "user", "content": "x"}]
        )
        assert made["status"] == "completed", made
        listed = api.get(f"/v1/responses/{made['id']}/input_items").text
        assert '"server_label":"z"' in listed
        texts += [listed, str(stream), str(made), api.get(f"/v1/responses/{made['id']}").text]
    items = _with_secrets("c")
    made = api.post("/v1/conversations", json={"items": items}).json()
    path = f"/v1/conversations/{made['id']}/items"
    added = api.post(path, json={"items": _with_secrets("d")})
    assert added.status_code == 200
    texts += [added.text, api.get(path).text]
    upstream.script(Reply.chat("Done."))
    ask(api, "json", conversation=made["id"])
    watch.set()
    looking.join()
    texts += [str(request.json) for request in upstream.requests]
    assert "server_label" in texts[-1]
    assert seen == []
    assert not [secret for secret in secrets if secret in live.log() + "".join(texts)]


def test_our_own_key_goes_to_nobody(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """R-92."""
    tickets.forget()
    upstream.script(Reply.calls(("echo", {"text": "x"})), Reply.chat("x"))
    ask(api, "json", tools=[mcp(tickets)])
    entries = [entry for entry in tickets.log() if "headers" in entry]
    assert entries
    assert not [entry for entry in entries if "authorization" in entry["headers"]]


def test_a_configured_server_is_a_connector(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    tool = {"type": "mcp", "server_label": "desk", "connector_id": "desk"}
    tool["require_approval"] = "never"
    upstream.script(Reply.calls(("echo", {"text": "x"})), Reply.chat("x"))
    made, _ = ask(api, "json", tools=[tool])
    assert made["output"][1]["output"] == "x"


def test_two_servers_with_tools_of_the_same_names(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    other = {"type": "mcp", "server_label": "desk", "connector_id": "desk"}
    tools = [
        mcp(tickets, allowed_tools=["echo"]),
        {**other, "allowed_tools": ["echo"], "require_approval": "never"},
    ]
    upstream.script(
        Reply.calls(("desk__echo", {"text": "d"}), ("tickets__echo", {"text": "t"})),
        Reply.chat("x"),
    )
    made, _ = ask(api, "json", tools=tools)
    calls = [item for item in made["output"] if item["type"] == "mcp_call"]
    assert [(call["server_label"], call["name"], call["output"]) for call in calls] == [
        ("desk", "echo", "d"),
        ("tickets", "echo", "t"),
    ]
    sent = upstream.requests[1].json["messages"][1]["tool_calls"]
    assert [call["function"]["name"] for call in sent] == ["desk__echo", "tickets__echo"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (
            {"type": "mcp", "server_label": "tickets", "name": "echo"},
            {"type": "function", "function": {"name": "echo"}},
        ),
        ({"type": "mcp", "server_label": "tickets"}, "required"),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "mcp", "server_label": "tickets", "name": "echo"}],
            },
            "auto",
        ),
    ],
)
def test_choices_of_tools_of_a_server(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running, choice: Json, sent: Any
) -> None:
    upstream.script(Reply.chat("x"))
    tool = mcp(tickets, allowed_tools=["echo", "add"])
    made, _ = ask(api, "json", tools=[tool], tool_choice=choice)
    assert made["tool_choice"] == choice
    body = upstream.requests[0].json
    assert body["tool_choice"] == sent
    limited = choice["type"] == "allowed_tools"
    assert len(body["tools"]) == (1 if limited else 2)


def test_an_approval_goes_round(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """R-124: always, unless the request says otherwise; streamed and in the background as well."""
    tool = mcp(tickets, require_approval=None)
    for mode in MODES:
        tickets.forget()
        upstream.script(Reply.calls(("write", {"text": mode})), Reply.chat("Done."))
        first, stream = ask(api, mode, tools=[tool])
        request = first["output"][-1]
        assert kinds(first) == ["mcp_list_tools", "mcp_approval_request"]
        if stream:
            assert [event["type"] for event in stream[-3:]] == [
                *("response.output_item.added", "response.output_item.done"),
                "response.completed",
            ]
        assert tickets.asked("tools/call") == 0
        answer = {"type": "mcp_approval_response", "approval_request_id": request["id"]}
        more: Json = {"previous_response_id": first["id"], "tools": [tool]}
        made, _ = ask(api, mode, **more, input=[{**answer, "approve": True}])
        assert kinds(made) == ["mcp_call", "message"]
        assert made["output"][0]["approval_request_id"] == request["id"]
        assert {"wrote": mode} in tickets.log()
        reply = api.post(
            "/v1/responses", json={"model": "m", **more, "input": [{**answer, "approve": True}]}
        )
        assert (reply.status_code, error_of(reply)["param"]) == (400, "input")
        assert tickets.asked("tools/call") == 1


def test_the_operator_can_switch_all_of_it_off(
    tmp_path: Path, upstream: ChatUpstream, tickets: Running
) -> None:
    """R-95: what the configuration names stays."""
    toml = CHAT_TOML.format(base_url=upstream.base_url) + (
        f'\n[[mcp_servers]]\nname = "tickets"\nurl = "{tickets.url}"\n'
    )
    env = {"ANTIPHON_EGRESS": "false", "ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1"}
    with serve(tmp_path, toml, env) as closed, client_of(closed) as api:
        body = {"model": "m", "input": "Hi", "tools": [mcp(tickets)]}
        reply = api.post("/v1/responses", json=body)
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (400, "tools[0].server_url")
        assert "ANTIPHON_EGRESS" in error["message"]
        hook = {"name": "h", "url": "https://example.com/", "event_types": ["response.completed"]}
        reply = api.post("/v1/webhook_endpoints", json=hook)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "url")
        upstream.script(Reply.chat("Done."))
        named = {"type": "mcp", "server_label": "t", "connector_id": "tickets"}
        made = api.post("/v1/responses", json={**body, "tools": [named]}).json()
        assert [item["type"] for item in made["output"]] == ["mcp_list_tools", "message"]


def test_a_private_server_needs_one_line_of_settings(
    tmp_path: Path, upstream: ChatUpstream, tickets: Running
) -> None:
    """R-83: ``ANTIPHON_ALLOW_PRIVATE_HOSTS=127.0.0.1`` is that line."""
    toml = CHAT_TOML.format(base_url=upstream.base_url)
    with serve(tmp_path, toml) as closed, client_of(closed) as api:
        body = {"model": "m", "input": "Hi", "tools": [mcp(tickets)]}
        reply = api.post("/v1/responses", json=body)
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (400, "tools[0].server_url")
        assert "ANTIPHON_ALLOW_PRIVATE_HOSTS" in error["message"]
