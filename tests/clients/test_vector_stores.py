"""Official clients with vector stores and `file_search` (issue 6/8, must show 1)."""

import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from agents import Agent, FileSearchTool, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import FileSearchToolParam, Response, ResponseFileSearchToolCall
from openai.types.responses.response_output_text import AnnotationFileCitation

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.test_openai_agents import CONFIG
from tests.live import KEY, LiveServer

CATS, DOGS = ("cats.md", b"# Cats\nCats purr and sleep."), ("dogs.md", b"# Dogs\nDogs bark loudly.")
CALL = '[[call=file_search {"queries": ["dogs bark"]}]]'


@pytest.fixture
def sdk(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def model(server: LiveServer) -> AsyncIterator[OpenAIResponsesModel]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield OpenAIResponsesModel("m", client)


@pytest.fixture(scope="module")
def pets(server: LiveServer) -> str:
    """A store about cats and dogs."""
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        store = client.vector_stores.create(name="pets").id
        for name, content in (CATS, DOGS):
            kind = {"kind": name.removesuffix("s.md"), "year": 2026}
            client.vector_stores.files.upload_and_poll(
                vector_store_id=store,
                file=(name, content),
                attributes=kind,  # type: ignore[arg-type]
                poll_interval_ms=20,
            )
        return store


def searching(store: str, **more: Any) -> FileSearchToolParam:
    return {"type": "file_search", "vector_store_ids": [store], **more}  # type: ignore[typeddict-item]


# -- stores --------------------------------------------------------------------------------------


def test_the_way_of_a_store(sdk: OpenAI) -> None:
    file = sdk.files.create(file=DOGS, purpose="assistants")
    store = sdk.vector_stores.create(
        name="x", file_ids=[file.id], expires_after={"anchor": "last_active_at", "days": 1}
    )
    assert store.expires_at == store.last_active_at + 86_400  # type: ignore[operator]
    polled = sdk.vector_stores.files.poll(file.id, vector_store_id=store.id)
    assert (polled.status, polled.last_error) == ("completed", None)
    there = sdk.vector_stores.retrieve(store.id)
    assert (there.status, there.file_counts.completed) == ("completed", 1)
    changed = sdk.vector_stores.update(store.id, name="y", metadata={"a": "b"}, expires_after=None)
    assert (changed.name, changed.metadata, changed.expires_at) == ("y", {"a": "b"}, None)
    assert store.id in [one.id for one in sdk.vector_stores.list(limit=1)]
    content = sdk.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert [page.text for page in content] == ["# Dogs\nDogs bark loudly."]
    again = sdk.vector_stores.files.create_and_poll(
        file.id, vector_store_id=store.id, attributes={"n": 1}, poll_interval_ms=20
    )
    assert (again.status, again.attributes) == ("completed", {"n": 1})
    marked = sdk.vector_stores.files.update(
        file.id, vector_store_id=store.id, attributes={"n": 2, "ok": True}
    )
    assert marked.attributes == {"n": 2, "ok": True}
    assert [one.id for one in sdk.vector_stores.files.list(store.id, filter="completed")] == [
        file.id
    ]
    assert sdk.vector_stores.files.delete(file.id, vector_store_id=store.id).deleted
    assert sdk.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"Vector store with id '{store.id}' not found"):
        sdk.vector_stores.retrieve(store.id)
    sdk.files.delete(file.id)


def test_a_batch_with_a_bad_file(sdk: OpenAI) -> None:
    """R-101: with the names of what failed."""
    store = sdk.vector_stores.create().id
    files: list[Any] = [CATS, DOGS, ("x.exe", b"\x7fELF\x00\x01" * 99), io.BytesIO(b"A stream.")]
    batch = sdk.vector_stores.file_batches.upload_and_poll(store, files=files)
    assert batch.status == "completed"
    assert (batch.file_counts.completed, batch.file_counts.failed) == (3, 1)
    (failed,) = sdk.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store, filter="failed"
    )
    assert failed.last_error is not None
    assert failed.last_error.code == "unsupported_file"
    assert sdk.files.retrieve(failed.id).filename == "x.exe"
    again = sdk.vector_stores.file_batches.create_and_poll(
        store, files=[{"file_id": failed.id}], poll_interval_ms=20
    )
    assert again.status == "failed"
    cancelled = sdk.vector_stores.file_batches.cancel(again.id, vector_store_id=store)
    assert cancelled.file_counts.total == 1


def test_pages(sdk: OpenAI) -> None:
    made = [sdk.vector_stores.create(name=str(number)).id for number in range(5)]
    found = [one.id for one in sdk.vector_stores.list(limit=2, order="asc", after=made[0])]
    assert found == made[1:]
    for one in made:
        sdk.vector_stores.delete(one)


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (None, ["cats.md", "dogs.md"]),
        ({"type": "eq", "key": "kind", "value": "dog"}, ["dogs.md"]),
        ({"type": "in", "key": "kind", "value": ["cat", "cow"]}, ["cats.md"]),
        ({"type": "gt", "key": "year", "value": 2026}, []),
        (
            {
                "type": "and",
                "filters": [
                    {"type": "gte", "key": "year", "value": 2026},
                    {"type": "ne", "key": "kind", "value": "cat"},
                ],
            },
            ["dogs.md"],
        ),
    ],
    ids=str,
)
def test_a_search_with_filters(sdk: OpenAI, pets: str, filters: Any, names: list[str]) -> None:
    given = openai.omit if filters is None else filters
    found = sdk.vector_stores.search(
        pets,
        query=["dogs bark", "cats purr"],
        filters=given,
        max_num_results=5,
        ranking_options={"ranker": "auto", "score_threshold": 0.01},
    )
    assert sorted(one.filename for one in found) == names
    assert all(0 < one.score <= 1 and one.content[0].type == "text" for one in found)


# -- the tool ------------------------------------------------------------------------------------


def cited(made: Response) -> list[AnnotationFileCitation]:
    """The citations of the answer."""
    part = made.output[-1].content[0]  # type: ignore[union-attr, index]
    return [one for one in part.annotations if isinstance(one, AnnotationFileCitation)]  # type: ignore[union-attr]


def check(made: Response, *, results: bool) -> None:
    """A search of the one file about dogs, and an answer that names it."""
    call = made.output[0]
    assert isinstance(call, ResponseFileSearchToolCall)
    assert (call.status, call.queries) == ("completed", ["dogs bark"])
    assert bool(call.results) is results
    if call.results:
        assert call.results[0].filename == "dogs.md"
        assert call.results[0].attributes == {"kind": "dog", "year": 2026}
        assert "bark" in (call.results[0].text or "")
    assert made.output_text == "Dogs bark. Loudly."
    (citation,) = cited(made)
    assert (citation.filename, citation.index) == ("dogs.md", len("Dogs bark"))


def script(upstream: ChatUpstream) -> None:
    upstream.script(
        Reply.calls(("file_search", {"queries": ["dogs bark"]})),
        Reply.chat("Dogs bark【", "1】. Loudly."),
    )


@pytest.mark.parametrize("results", [False, True])
def test_a_response(sdk: OpenAI, upstream: ChatUpstream, pets: str, *, results: bool) -> None:
    script(upstream)
    made = sdk.responses.create(
        model="m",
        input="What do dogs do?",
        tools=[searching(pets, max_num_results=1)],
        include=["file_search_call.results"] if results else [],
    )
    check(made, results=results)
    assert [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]] == [
        "file_search"
    ]
    told = upstream.requests[1].json["messages"][-1]["content"]
    assert "Dogs bark loudly." in told
    assert pets not in str(upstream.requests[0].json), "the model chooses queries only"


def test_a_stream(sdk: OpenAI, upstream: ChatUpstream, pets: str) -> None:
    script(upstream)
    with sdk.responses.stream(
        model="m",
        input="Dogs?",
        tools=[searching(pets, max_num_results=1)],
        include=["file_search_call.results"],
    ) as stream:
        seen = [event.type for event in stream]
        final = stream.get_final_response()
    check(final, results=True)
    assert seen.count("response.file_search_call.searching") == 1
    assert seen.count("response.output_text.annotation.added") == 1


def test_in_the_background(sdk: OpenAI, upstream: ChatUpstream, pets: str) -> None:
    script(upstream)
    made = sdk.responses.create(
        model="m",
        input="Dogs?",
        tools=[searching(pets, max_num_results=1)],
        include=["file_search_call.results"],
        background=True,
    )
    for _ in sdk.responses.retrieve(made.id, stream=True):
        pass
    check(sdk.responses.retrieve(made.id), results=True)


def test_the_simulator_searches(sdk: OpenAI, pets: str) -> None:
    tool = searching(pets, filters={"type": "eq", "key": "kind", "value": "cat"})
    made = sdk.responses.create(
        model="simulator", input=CALL, tools=[tool], include=["file_search_call.results"]
    )
    call = made.output[0]
    assert isinstance(call, ResponseFileSearchToolCall)
    assert call.results == [], "the filter is the request's, whatever is asked"


def test_a_store_that_is_not_there(sdk: OpenAI, upstream: ChatUpstream) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.responses.create(model="m", input="Hi", tools=[searching("vs_" + "0" * 32)])
    assert caught.value.param == "tools[0].vector_store_ids[0]"
    assert upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_agents(
    model: OpenAIResponsesModel, upstream: ChatUpstream, pets: str, *, streamed: bool
) -> None:
    script(upstream)
    tool = FileSearchTool(
        vector_store_ids=[pets],
        max_num_results=3,
        include_search_results=True,
        ranking_options={"ranker": "auto", "score_threshold": 0.1},
        filters={"type": "eq", "key": "kind", "value": "dog"},
    )
    agent = Agent("reader", model=model, tools=[tool])
    if streamed:
        result: Any = Runner.run_streamed(agent, "Dogs?", run_config=CONFIG)
        async for _ in result.stream_events():
            pass
    else:
        result = await Runner.run(agent, "Dogs?", run_config=CONFIG)
    assert result.final_output == "Dogs bark. Loudly."
    call = result.raw_responses[0].output[0]
    assert isinstance(call, ResponseFileSearchToolCall)
    assert [found.filename for found in call.results or ()] == ["dogs.md"]
    # What the SDK sends back of it is taken.
    upstream.script(Reply.chat("Again."))
    given = [*result.to_input_list(), {"role": "user", "content": "Again?"}]
    again = await Runner.run(agent, given, run_config=CONFIG)
    assert again.final_output == "Again."
