"""Official clients with `code_interpreter`, in front of a chat server that asks for code (issue
7/8, must show 1). The code runs in a real sandbox."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from agents import Agent, CodeInterpreterTool, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import (
    Response,
    ResponseCodeInterpreterToolCall,
    ResponseIncludable,
)
from openai.types.responses.response_output_text import AnnotationContainerFileCitation
from PIL import Image

from tests.backends.upstream import DONE as END
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.test_openai_agents import CONFIG
from tests.live import CHAT_TOML, KEY, LiveServer, serve
from tests.sandbox_environment import sandbox_environment

OUTPUTS: Final[list[ResponseIncludable]] = ["code_interpreter_call.outputs"]
PLOT: Final = """
import matplotlib.pyplot as plt
plt.figure(figsize=(4, 3), dpi=100)
plt.bar(["a", "b"], [1, 2], color=(1.0, 0.0, 0.0))
plt.title("Two bars")
plt.show()
"""


@pytest.fixture(scope="module")
def server(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """One with sandboxes, whose vision is that of the chat server."""
    toml = CHAT_TOML.format(base_url=_upstream.base_url).replace(
        'models = ["*"]', 'models = ["*"]\nvision = ["*"]', 1
    )
    env = {"ANTIPHON_SANDBOX": str(sandbox_environment())}
    with serve(tmp_path_factory.mktemp("code"), toml, env) as live:
        yield live


@pytest.fixture
def sdk(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def python(**container: Any) -> Any:
    return {"type": "code_interpreter", "container": {"type": "auto", **container}}


def script(upstream: ChatUpstream, *codes: str, says: str = "Done.") -> None:
    """A turn for each code, then the answer."""
    asked = [Reply.calls(("code_interpreter", {"code": code})) for code in codes]
    upstream.script(*asked, Reply.chat(says))


def called(made: Response) -> list[ResponseCodeInterpreterToolCall]:
    return [one for one in made.output if isinstance(one, ResponseCodeInterpreterToolCall)]


def logs(call: ResponseCodeInterpreterToolCall) -> str:
    return "".join(output.logs for output in call.outputs or () if output.type == "logs")


def told(upstream: ChatUpstream, request: int = -1) -> str:
    """What the model reads of its last call."""
    return str(upstream.requests[request].json["messages"][-1]["content"])


# -- state ---------------------------------------------------------------------------------------


def test_a_computation_over_two_responses(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """One container, whose variables stay from call to call and from response to response."""
    script(upstream, "x = 6\nx", "x *= 7\nprint('now', x)")
    first = sdk.responses.create(model="m", input="Go.", tools=[python()], include=OUTPUTS)
    assert [logs(call) for call in called(first)] == ["6", "now 42"]
    assert [call.status for call in called(first)] == ["completed"] * 2
    assert "now 42" in told(upstream)
    script(upstream, "x + 1")
    second = sdk.responses.create(
        model="m",
        input="And one more?",
        tools=[python()],
        previous_response_id=first.id,
        include=OUTPUTS,
    )
    assert logs(called(second)[0]) == "43"
    ids = {call.container_id for call in [*called(first), *called(second)]}
    assert len(ids) == 1
    assert sdk.containers.retrieve(ids.pop()).status == "running"


# See tests/api/test_compaction.py.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_a_compaction_keeps_the_container(sdk: OpenAI, upstream: ChatUpstream) -> None:
    script(upstream, "x = 6")
    first = sdk.responses.create(model="m", input="Go.", tools=[python()])
    upstream.script(Reply.chat("We set x."))
    compacted = sdk.responses.compact(model="m", previous_response_id=first.id)
    script(upstream, "x + 1")
    context: Any = compacted.output
    second = sdk.responses.create(
        model="m",
        input=[*context, {"role": "user", "content": "And one more?"}],
        tools=[python()],
        include=OUTPUTS,
    )
    assert logs(called(second)[0]) == "7"
    assert called(second)[0].container_id == called(first)[0].container_id
    assert "container_id" not in upstream.requests[-1].body.decode()


def test_outputs_are_for_those_who_ask(sdk: OpenAI, upstream: ChatUpstream) -> None:
    script(upstream, "print('secret')")
    made = sdk.responses.create(model="m", input="Go.", tools=[python()])
    assert called(made)[0].outputs is None
    assert "secret" in told(upstream)


def test_an_exception_is_the_models_to_see(sdk: OpenAI, upstream: ChatUpstream) -> None:
    script(upstream, "1 / 0", "'again'")
    made = sdk.responses.create(model="m", input="Go.", tools=[python()], include=OUTPUTS)
    assert [call.status for call in called(made)] == ["completed"] * 2
    assert "ZeroDivisionError" in logs(called(made)[0])
    assert "ZeroDivisionError" in told(upstream, 1)


def test_a_container_of_its_own(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """By its id; one that is over, and one of nobody."""
    container = sdk.containers.create(name="mine")
    tool: Any = {"type": "code_interpreter", "container": container.id}
    for code in ("x = 1", "x"):
        script(upstream, code)
        made = sdk.responses.create(model="m", input="Go.", tools=[tool], include=OUTPUTS)
        assert called(made)[0].container_id == container.id
    assert logs(called(made)[0]) == "1"
    sdk.containers.delete(container.id)
    for gone in (container.id, "cntr_" + "0" * 32):
        named: Any = {**tool, "container": gone}
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.responses.create(model="m", input="Hi", tools=[named])
        assert caught.value.param == "tools[0].container"


# -- images and files ----------------------------------------------------------------------------


def test_a_plot_comes_back_as_an_image(sdk: OpenAI, upstream: ChatUpstream, tmp_path: Path) -> None:
    """In the item, and for the model to look at."""
    script(upstream, PLOT)
    made = sdk.responses.create(model="m", input="Draw.", tools=[python()], include=OUTPUTS)
    outputs: Any = called(made)[0].outputs
    (output,) = outputs
    assert output.type == "image"
    body = base64.b64decode(output.url.removeprefix("data:image/png;base64,"), validate=True)
    (tmp_path / "plot.png").write_bytes(body)
    image = Image.open(io.BytesIO(body)).convert("RGB")
    assert image.width > 200
    colours = {colour: count for count, colour in image.getcolors(1 << 24) or ()}
    assert colours[(255, 0, 0)] > 1_000, "two red bars"
    assert output.url in str(upstream.requests[1].json["messages"])


def test_a_table_is_analysed_and_the_result_downloaded(sdk: OpenAI, upstream: ChatUpstream) -> None:
    table = sdk.files.create(
        file=("sales.csv", b"city,n\nRome,2\nOslo,5\nRome,3\n"), purpose="user_data"
    )
    code = (
        "import pandas as pd\n"
        "table = pd.read_csv('/mnt/data/sales.csv').groupby('city', as_index=False).n.sum()\n"
        "table.to_csv('/mnt/data/by city.csv', index=False)\n"
        "table"
    )
    link = "[by city](<sandbox:/mnt/data/by city.csv>)"
    script(upstream, code, says=f"Here it is: {link}.")
    made = sdk.responses.create(
        model="m", input="Sum it.", tools=[python(file_ids=[table.id])], include=OUTPUTS
    )
    call = called(made)[0]
    assert "Rome" in logs(call)
    assert "/mnt/data/by city.csv" in told(upstream)
    (citation,) = made.output[-1].content[0].annotations  # type: ignore[union-attr, index]
    assert isinstance(citation, AnnotationContainerFileCitation)
    assert (citation.container_id, citation.filename) == (call.container_id, "by city.csv")
    covered = made.output_text[citation.start_index : citation.end_index]
    assert covered == "sandbox:/mnt/data/by city.csv"
    content = sdk.containers.files.content.retrieve(
        citation.file_id, container_id=citation.container_id
    )
    assert content.read() == b"city,n\nOslo,5\nRome,5\n"
    there = {file.path: file.source for file in sdk.containers.files.list(call.container_id)}
    assert there == {"/mnt/data/sales.csv": "user", "/mnt/data/by city.csv": "assistant"}


def test_files_of_the_request_are_there(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """Those of messages, in a later turn too; what code has made of one stays."""
    file = sdk.files.create(file=("notes.txt", b"abc"), purpose="user_data")
    message: Any = {"role": "user", "content": [{"type": "input_file", "file_id": file.id}]}
    script(upstream, "print(open('/mnt/data/notes.txt').read()); open('notes.txt', 'w').write('d')")
    first = sdk.responses.create(model="m", input=[message], tools=[python()], include=OUTPUTS)
    assert logs(called(first)[0]).startswith("abc")
    script(upstream, "open('/mnt/data/notes.txt').read()")
    second = sdk.responses.create(
        model="m",
        input="And now?",
        tools=[python()],
        previous_response_id=first.id,
        include=OUTPUTS,
    )
    assert logs(called(second)[0]) == "'d'"


# -- streams -------------------------------------------------------------------------------------


def test_a_stream_has_the_code_while_it_is_written(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """The order of the recording (spec §4.1, "code")."""
    parts = ['{"code": "a =', " 1\\n", "print(a", ')"}']
    first = {"index": 0, "id": "call_0", "type": "function"}
    body: list[Any] = [
        sse(
            chunk(
                tool_calls=[
                    {**first, "function": {"name": "code_interpreter", "arguments": parts[0]}}
                ]
            )
        ),
        *(sse(chunk(tool_calls=[{"index": 0, "function": {"arguments": p}}])) for p in parts[1:]),
        sse(chunk(finish="tool_calls")),
        END,
    ]
    upstream.script(Reply(body=body), Reply.chat("One."))
    with sdk.responses.stream(
        model="m",
        input="Go.",
        tools=[python()],
        include=OUTPUTS,
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    types = [event.type.removeprefix("response.") for event in events]
    place = types.index("output_item.added")
    assert types[place : place + 10] == [
        "output_item.added",
        "code_interpreter_call.in_progress",
        *["code_interpreter_call_code.delta"] * 4,
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
        "output_item.done",
    ]
    deltas: list[Any] = [event for event in events if "code.delta" in event.type]
    assert "".join(event.delta for event in deltas) == "a = 1\nprint(a)"
    added: Any = events[place]
    assert (added.item.code, added.item.outputs, added.item.status) == ("", [], "in_progress")
    assert logs(called(final)[0]) == "1"


def test_in_the_background(sdk: OpenAI, upstream: ChatUpstream) -> None:
    script(upstream, "print('far')")
    made = sdk.responses.create(
        model="m", input="Go.", tools=[python()], include=OUTPUTS, background=True
    )
    for _ in sdk.responses.retrieve(made.id, stream=True):
        pass
    assert logs(called(sdk.responses.retrieve(made.id))[0]) == "far"


# -- what goes wrong -----------------------------------------------------------------------------


def test_a_session_that_crashes_is_a_failed_call(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """R-112: the response goes on, with the files and without the variables."""
    script(
        upstream,
        "x = 1; open('/mnt/data/kept.txt', 'w').write('kept')",
        "import os; os._exit(3)",
        "print(open('/mnt/data/kept.txt').read()); x",
    )
    made = sdk.responses.create(model="m", input="Go.", tools=[python()], include=OUTPUTS)
    assert (made.status, [call.status for call in called(made)]) == (
        "completed",
        ["completed", "failed", "completed"],
    )
    assert "variables and imports are lost" in told(upstream, 2)
    assert logs(called(made)[2]).startswith("kept")
    assert "NameError" in logs(called(made)[2])


def test_what_a_container_may_not_have(sdk: OpenAI, upstream: ChatUpstream) -> None:
    """Each named, before anything is asked."""
    allowed = {"type": "allowlist", "allowed_domains": ["a.example"]}
    for container, param in (
        ({"memory_limit": "64g"}, "memory_limit"),
        ({"network_policy": allowed}, "network_policy"),
        ({"file_ids": ["file-none"]}, "file_ids[0]"),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            sdk.responses.create(model="m", input="Hi", tools=[python(**container)])
        assert caught.value.status_code in (400, 404)
        assert caught.value.param == f"tools[0].container.{param}"
    assert upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_openai_agents(server: LiveServer, upstream: ChatUpstream, *, streamed: bool) -> None:
    script(upstream, "6 * 7", says="42.")
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        agent = Agent(
            "counter",
            model=OpenAIResponsesModel("m", client),
            tools=[CodeInterpreterTool(tool_config=python())],
        )
        if streamed:
            result: Any = Runner.run_streamed(agent, "Count.", run_config=CONFIG)
            async for _ in result.stream_events():
                pass
        else:
            result = await Runner.run(agent, "Count.", run_config=CONFIG)
        assert result.final_output == "42."
        upstream.script(Reply.chat("Again."))
        given = [*result.to_input_list(), {"role": "user", "content": "Again?"}]
        again = await Runner.run(agent, given, run_config=CONFIG)
        assert again.final_output == "Again."
