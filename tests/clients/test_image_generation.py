"""openai-agents with its ImageGenerationTool: made, shown, changed in the next turn."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
from agents import Agent, ImageGenerationTool, OpenAIResponsesModel, RunConfig, Runner
from openai import AsyncOpenAI
from openai.types.responses.response_output_item import ImageGenerationCall

from tests.backends.upstream import ChatUpstream, Reply
from tests.images.image_server import files, made, picture
from tests.live import CHAT_TOML, KEY, LiveServer, serve

CONFIG: Final = RunConfig(tracing_disabled=True)
TOML: Final = '\n[image_generation]\nkind = "openai"\nbase_url = "{base_url}"\nmodel = "drawer"\n'
OTTER, HAT = picture("png"), picture("png", colour=(0, 0, 200))


@pytest.fixture(scope="module")
def painter() -> Iterator[ChatUpstream]:
    with ChatUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream, painter: ChatUpstream
) -> Iterator[LiveServer]:
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    toml += TOML.format(base_url=painter.base_url)
    with serve(tmp_path_factory.mktemp("agents"), toml) as server:
        yield server


@pytest.fixture
async def client(live: LiveServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=live.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("streamed", [False, True], ids=["run", "run_streamed"])
async def test_an_agent_draws_and_changes(
    client: AsyncOpenAI, upstream: ChatUpstream, painter: ChatUpstream, *, streamed: bool
) -> None:
    upstream.script(
        Reply.calls(("image_generation", {"prompt": "An otter", "action": "generate"})),
        Reply.chat("Here."),
        Reply.calls(("image_generation", {"prompt": "A hat", "action": "edit"})),
        Reply.chat("Changed."),
    )
    painter.requests.clear()
    painter.script(made(OTTER), made(HAT))
    tool = ImageGenerationTool({"type": "image_generation", "quality": "low", "size": "auto"})
    agent = Agent("artist", model=OpenAIResponsesModel("m", client), tools=[tool])
    if streamed:
        running = Runner.run_streamed(agent, "Draw an otter", run_config=CONFIG)
        async for _ in running.stream_events():
            pass
        history = running.to_input_list()
        output = running.raw_responses[-1].output
    else:
        first = await Runner.run(agent, "Draw an otter", run_config=CONFIG)
        history, output = first.to_input_list(), first.raw_responses[-1].output
    (image,) = [item for item in output if isinstance(item, ImageGenerationCall)]
    assert base64.b64decode(image.result or "") == OTTER
    second = await Runner.run(
        agent, [*history, {"role": "user", "content": "With a hat"}], run_config=CONFIG
    )
    assert second.final_output == "Changed."
    assert files(painter.requests[1]) == [("image", "image/png", OTTER)]
    assert painter.requests[0].json["quality"] == "low"
