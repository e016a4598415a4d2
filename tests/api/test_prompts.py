"""``/v1/prompts`` against a live server: templates, drafts and versions (spec §1, `prompt`)."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from antiphon.store.base import PromptRow
from antiphon.store.sql import SqliteStore
from tests.api.talk import Json, client_of, error_of
from tests.live import OTHER_KEY, LiveServer, serve

UNKNOWN: Final = "pmpt_" + "0" * 48
PROMPTS: Final = "/v1/prompts"
FIRST: Final = "first"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with serve(tmp_path_factory.mktemp("prompts")) as server:
        yield server


@pytest.fixture
def plain(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client
        while found := ok(client.get(PROMPTS, params={"limit": 100}))["data"]:
            for prompt in found:
                ok(client.delete(f"{PROMPTS}/{prompt['id']}"))


def ok(reply: httpx2.Response) -> Json:
    assert reply.status_code == 200, reply.text
    body: Json = reply.json()
    return body


def made(client: httpx2.Client, said: str = "Hi {{name}}", **body: Any) -> Json:
    return ok(client.post(PROMPTS, json={"template": {"instructions": said}, **body}))


def listed(prompt: Json) -> Json:
    """It as lists show it: R-118, nothing that may be large or has to be read from what is."""
    return {key: value for key, value in prompt.items() if key not in ("variables", "draft")}


def long(text: str) -> list[Json]:
    part = {"type": "input_text", "text": text}
    return [{"type": "message", "role": "user", "content": [part]}]


def test_a_prompt_is_made_read_and_deleted(plain: httpx2.Client) -> None:
    template = {"model": "simulator", "instructions": "Hi {{b}}", "input": "{{a}} {{b}}"}
    prompt = ok(plain.post(PROMPTS, json={"name": "Greeting", "template": template}))
    assert re.fullmatch(r"pmpt_[0-9a-f]{48}", prompt["id"])
    assert prompt == {
        "id": prompt["id"],
        "object": "prompt",
        "name": "Greeting",
        "created_at": prompt["created_at"],
        "updated_at": prompt["created_at"],
        "default_version": "1",
        "latest_version": "1",
        "variables": ["b", "a"],
        "draft": None,
    }
    path = f"{PROMPTS}/{prompt['id']}"
    assert ok(plain.get(path)) == prompt
    assert ok(plain.get(f"{path}/versions/1")) == {
        "id": "1",
        "object": "prompt.version",
        "prompt_id": prompt["id"],
        "version": "1",
        "created_at": prompt["created_at"],
        "variables": ["b", "a"],
        "template": {**template, "input": long("{{a}} {{b}}")},
    }
    gone = {"id": prompt["id"], "object": "prompt.deleted", "deleted": True}
    assert ok(plain.delete(path)) == gone
    for suffix in ("", "/versions", "/versions/1"):
        assert plain.get(path + suffix).status_code == 404
    assert plain.delete(path).status_code == 404


def test_a_version_stays_as_it_is(plain: httpx2.Client) -> None:
    prompt = made(plain, "one {{a}}")
    path = f"{PROMPTS}/{prompt['id']}"
    first = ok(plain.get(f"{path}/versions/1"))
    second = ok(plain.post(f"{path}/versions", json={"template": {"instructions": "two {{b}}"}}))
    assert (second["version"], second["variables"]) == ("2", ["b"])
    third = ok(
        plain.post(
            f"{path}/versions", json={"template": {"instructions": "three"}, "default": False}
        )
    )
    shown = ok(plain.get(path))
    assert (shown["default_version"], shown["latest_version"]) == ("2", "3")
    assert shown["variables"] == ["b"]
    assert shown["updated_at"] >= prompt["updated_at"]
    in_list = [
        {key: version[key] for key in ("id", "object", "prompt_id", "version", "created_at")}
        for version in (third, second, first)
    ]
    assert ok(plain.get(f"{path}/versions"))["data"] == in_list
    back = ok(plain.post(path, json={"default_version": "1", "name": "Old"}))
    assert (back["default_version"], back["latest_version"]) == ("1", "3")
    assert (back["name"], back["variables"]) == ("Old", ["a"])
    assert ok(plain.post(path, json={"name": None, "default_version": None})) == {
        **back,
        "updated_at": ok(plain.get(path))["updated_at"],
    }


def test_a_draft_changes_until_it_is_published(plain: httpx2.Client) -> None:
    prompt = made(plain, "one")
    path = f"{PROMPTS}/{prompt['id']}"
    missing = plain.post(f"{path}/versions")
    assert (missing.status_code, error_of(missing)["param"]) == (400, "template")
    for text in ("draft", "better {{x}}"):
        shown = ok(plain.post(path, json={"draft": {"input": text}}))
        assert shown["draft"] == {"input": long(text)}
        assert (shown["latest_version"], shown["variables"]) == ("1", [])
    assert ok(plain.post(path, json={"name": "n"}))["draft"] == {"input": long("better {{x}}")}
    # A version of its own leaves the draft alone.
    ok(plain.post(f"{path}/versions", json={"template": {"instructions": "two"}}))
    assert ok(plain.get(path))["draft"] is not None
    published = ok(plain.post(f"{path}/versions", json={"default": False}))
    assert published["version"] == "3"
    assert published["template"] == {"input": long("better {{x}}")}
    shown = ok(plain.get(path))
    assert (shown["draft"], shown["default_version"]) == (None, "2")
    ok(plain.post(path, json={"draft": {}}))
    assert ok(plain.get(path))["draft"] == {}
    assert ok(plain.post(path, json={"draft": None}))["draft"] is None


def test_lists_are_pages_newest_first(plain: httpx2.Client) -> None:
    prompts = [listed(made(plain, name=str(number))) for number in range(5)][::-1]
    assert ok(plain.get(PROMPTS))["data"] == prompts
    page = ok(plain.get(PROMPTS, params={"limit": 2, "after": prompts[1]["id"]}))
    assert page == {
        "object": "list",
        "data": prompts[2:4],
        "first_id": prompts[2]["id"],
        "last_id": prompts[3]["id"],
        "has_more": True,
    }
    path = f"{PROMPTS}/{prompts[0]['id']}/versions"
    for _ in range(4):
        ok(plain.post(path, json={"template": {}}))
    page = ok(plain.get(path, params={"limit": 2, "after": "4"}))
    assert [version["version"] for version in page["data"]] == ["3", "2"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("3", "2", True)
    for url in (PROMPTS, path):
        for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "7"}):
            refused = plain.get(url, params=query)
            assert (refused.status_code, error_of(refused)["param"]) == (400, next(iter(query)))


def refused_at_the_limit(reply: httpx2.Response) -> str:
    assert (reply.status_code, error_of(reply)["type"]) == (400, "invalid_request_error")
    return str(error_of(reply)["message"])


async def fill(url: str, id_: str) -> None:
    """999 more prompts for the project, and all but one of the versions that one may have."""
    store = SqliteStore(url)
    await store.open()
    await asyncio.gather(
        *(store.prompts.publish(FIRST, id_, {}, 2, default=False) for _ in range(999 - 21)),
        *(store.prompts.add(PromptRow(f"pmpt_{n}", FIRST, "", 1, 1), {}) for n in range(999)),
    )
    await store.close()


def test_a_project_has_a_thousand_prompts_and_a_prompt_as_many_versions(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """R-09, R-24; with full templates the lists are small (R-118)."""
    folder = tmp_path_factory.mktemp("full")
    with serve(folder) as server, client_of(server) as client:
        id_ = made(client)["id"]
        path = f"{PROMPTS}/{id_}"
        large = {"instructions": "x" * 1_000_000}
        for _ in range(20):
            ok(client.post(path + "/versions", json={"template": large}))
        ok(client.post(path, json={"draft": large}))
        for url in (PROMPTS, path + "/versions"):
            assert len(client.get(url, params={"limit": 100}).content) < 10_000
        asyncio.run(fill(f"sqlite+aiosqlite:///{folder}/antiphon.db", id_))
        ok(client.post(path + "/versions", json={"template": {}}))
        said = refused_at_the_limit(client.post(path + "/versions", json={"template": {}}))
        assert said.startswith("This prompt has 1000 versions, which is the limit.")
        assert ok(client.get(path))["latest_version"] == "1000"
        said = refused_at_the_limit(client.post(PROMPTS, json={"template": {}}))
        assert said.startswith("This project has 1000 prompts, which is the limit.")
        ok(client.delete(path))
        made(client)


BAD: Final[list[tuple[str, str, Any, str | None, str]]] = [
    ("POST", "", {}, "template", "missing_required_parameter"),
    ("POST", "", {"template": None}, "template", "invalid_type"),
    ("POST", "", {"template": {}, "id": "pmpt_1"}, "id", "unknown_parameter"),
    ("POST", "", {"template": {}, "name": 1}, "name", "invalid_type"),
    ("POST", "", {"template": {}, "name": "x" * 513}, "name", "string_above_max_length"),
    ("POST", "", {"template": {}, "name": "\0"}, "name", "invalid_value"),
    ("POST", "", {"template": {"stream": True}}, "template.stream", "unknown_parameter"),
    ("POST", "", {"template": {"input": [{}]}}, "template.input[0].type", ""),
    ("POST", "", {"template": {"instructions": "x" * 2**20}}, "template", "template_too_large"),
    ("POST", "", [], None, "invalid_type"),
    ("POST", "/ID", {"draft": {"store": True}}, "draft.store", "unknown_parameter"),
    ("POST", "/ID", {"draft": {"tools": 1}}, "draft.tools", "invalid_type"),
    ("POST", "/ID", {"draft": {"model": ""}}, "draft.model", "model_not_found"),
    ("POST", "/ID", {"default_version": 1}, "default_version", "invalid_type"),
    ("POST", "/ID", {"variables": []}, "variables", "unknown_parameter"),
    ("POST", "/ID/versions", {"template": {"user": "u"}}, "template.user", "unknown_parameter"),
    ("POST", "/ID/versions", {"default": "yes"}, "default", "invalid_type"),
]


@pytest.mark.parametrize(("method", "path", "body", "param", "code"), BAD)
def test_what_is_wrong_is_named(
    method: str, path: str, body: Any, param: str | None, code: str, plain: httpx2.Client
) -> None:
    """R-02; nothing is stored."""
    prompt = made(plain)
    url = PROMPTS + path.replace("ID", prompt["id"])
    refused = plain.request(method, url, json=body)
    assert refused.status_code == 400
    error = error_of(refused)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert code in ("", error["code"])
    assert ok(plain.get(PROMPTS))["data"] == [listed(prompt)]


@pytest.mark.parametrize("version", ["0", "2", "01", "-1", "1.0", "latest", "9" * 400])
def test_a_version_that_is_not_there(version: str, plain: httpx2.Client) -> None:
    prompt = made(plain)
    url = f"{PROMPTS}/{prompt['id']}"
    for reply, param in (
        (plain.get(f"{url}/versions/{version}"), None),
        (plain.post(url, json={"default_version": version}), "default_version"),
    ):
        assert reply.status_code == 404
        error = error_of(reply)
        assert error["param"] == param
        assert error["message"].startswith(f"Version '{version[:100]}")
        assert len(error["message"]) < 300
    assert ok(plain.get(url)) == prompt


@pytest.mark.parametrize("id_", ["resp_1", "pmpt-1", "pmpt_\u00e4", "pmpt_" + "a" * 600])
def test_what_is_no_id_is_said(id_: str, plain: httpx2.Client) -> None:
    refused = plain.get(f"{PROMPTS}/{id_}")
    assert refused.status_code == 400
    error = error_of(refused)
    assert (error["param"], error["code"]) == ("prompt_id", "invalid_value")
    assert "Expected an ID that begins with 'pmpt'." in error["message"]


CALLS: Final[list[tuple[str, str, Any]]] = [
    ("GET", "", None),
    ("POST", "", {"name": "mine"}),
    ("DELETE", "", None),
    ("GET", "/versions", None),
    ("POST", "/versions", {"template": {}}),
    ("POST", "/versions", None),
    ("GET", "/versions/1", None),
]


@pytest.mark.parametrize(("method", "suffix", "body"), CALLS)
def test_another_projects_prompt_is_like_an_unknown_one(
    method: str, suffix: str, body: Any, plain: httpx2.Client, live: LiveServer
) -> None:
    """R-29, R-30."""
    prompt = made(plain, "xylophone-4712")
    with client_of(live, OTHER_KEY) as other:
        one, two = (
            other.request(method, f"{PROMPTS}/{id_}{suffix}", json=body)
            for id_ in (prompt["id"], UNKNOWN)
        )
        assert one.status_code == two.status_code == 404
        assert one.text.replace(prompt["id"], UNKNOWN) == two.text
        assert error_of(one)["message"] == f"Prompt with id '{prompt['id']}' not found."
        listed = ok(other.get(PROMPTS))
        assert (listed["data"], listed["first_id"]) == ([], None)
        after = other.get(PROMPTS, params={"after": prompt["id"]})
        assert after.status_code == 400
    assert ok(plain.get(f"{PROMPTS}/{prompt['id']}")) == prompt


@pytest.mark.parametrize(("method", "suffix", "body"), [*CALLS, ("POST", "", {"template": {}})])
def test_nobody_without_a_key(
    method: str, suffix: str, body: Any, live: LiveServer, plain: httpx2.Client
) -> None:
    """R-27."""
    prompt = made(plain)
    with client_of(live, None) as nobody:
        for path in (f"{PROMPTS}/{prompt['id']}{suffix}", PROMPTS):
            assert nobody.request(method, path, json=body).status_code in (401, 405)


def test_a_large_body_is_not_read(plain: httpx2.Client) -> None:
    """R-19."""
    refused = plain.post(PROMPTS, json={"template": {"instructions": "x" * 9 * 1024 * 1024}})
    assert refused.status_code == 413


def test_many_functions_are_checked_while_others_work(plain: httpx2.Client) -> None:
    """R-118: a template of full size is taken."""
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(100)}}
    tools = [{"type": "function", "name": f"f{n}", "parameters": schema} for n in range(128)]
    prompt = ok(plain.post(PROMPTS, json={"template": {"tools": tools, "instructions": "ä" * 999}}))
    version = ok(plain.get(f"{PROMPTS}/{prompt['id']}/versions/1"))
    assert version["template"]["tools"] == tools


def test_prompts_survive_the_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("restarted")
    with serve(folder) as server, client_of(server) as client:
        prompt = made(client)
    with serve(folder) as server, client_of(server) as client:
        assert ok(client.get(f"{PROMPTS}/{prompt['id']}")) == prompt
