"""Conversations as the official SDKs use them (issue 4/8, must show 2)."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import openai
import pytest
from agents import Agent, OpenAIConversationsSession, OpenAIResponsesModel, RunConfig, Runner
from openai import AsyncOpenAI, OpenAI
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter

from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import TWO_CALLS
from tests.clients.test_openai_agents import messages_of, weather
from tests.live import KEY, OTHER_KEY, LiveServer

OFFICIAL: Final[TypeAdapter[Any]] = TypeAdapter(ConversationItem)
#: The SDK's tracing would call OpenAI.
CONFIG: Final = RunConfig(tracing_disabled=True)


def client_of(server: LiveServer, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


@pytest.fixture
def client(server: LiveServer) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def text_of(item: ConversationItem) -> str:
    assert item.type == "message"
    [part] = item.content
    assert part.type in ("input_text", "output_text")
    return part.text


# -- openai-python -------------------------------------------------------------------------------


def test_the_life_of_a_conversation(client: OpenAI) -> None:
    made = client.conversations.create(metadata={"topic": "demo"}, items=[said("Hi")])
    assert made.object == "conversation"
    assert client.conversations.retrieve(made.id) == made
    changed = client.conversations.update(made.id, metadata={"topic": "other"})
    assert changed.metadata == {"topic": "other"}
    assert (changed.id, changed.created_at) == (made.id, made.created_at)
    gone = client.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    with pytest.raises(openai.NotFoundError) as caught:
        client.conversations.retrieve(made.id)
    assert f"Conversation with id '{made.id}' not found." in caught.value.message


def test_items_are_created_listed_read_and_deleted(client: OpenAI) -> None:
    made = client.conversations.create()
    answer: Any = {"role": "assistant", "content": "Hello"}
    call: Any = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    kept = client.conversations.items.create(
        made.id,
        items=[said("Hi"), answer, call],
        include=["message.input_image.image_url"],
    )
    assert (kept.object, kept.has_more) == ("list", False)
    assert [item.type for item in kept.data] == ["message", "message", "function_call"]
    assert [text_of(item) for item in kept.data[:2]] == ["Hi", "Hello"]
    for item in kept.data:
        OFFICIAL.validate_python(item.model_dump(exclude_unset=True))
    first = kept.data[0].id
    assert first == kept.first_id
    assert first is not None
    assert client.conversations.items.retrieve(first, conversation_id=made.id) == kept.data[0]
    assert client.conversations.items.delete(first, conversation_id=made.id) == made
    left = client.conversations.items.list(made.id, order="asc").data
    assert left == kept.data[1:]
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(first, conversation_id=made.id)


def test_a_list_goes_on_over_all_pages(client: OpenAI) -> None:
    made = client.conversations.create(items=[said(str(number)) for number in range(20)])
    client.conversations.items.create(made.id, items=[said(str(number)) for number in (20, 21)])
    texts = [str(number) for number in range(22)]
    newest_first = [text_of(item) for item in client.conversations.items.list(made.id)]
    assert newest_first == texts[::-1]
    oldest_first = client.conversations.items.list(made.id, order="asc", limit=7)
    assert [text_of(item) for item in oldest_first] == texts


def test_too_many_items(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.conversations.create(items=[said("Hi")] * 21)
    assert (caught.value.code, caught.value.param) == ("array_above_max_length", "items")


def test_what_was_said_elsewhere_is_kept(client: OpenAI, upstream: ChatUpstream) -> None:
    """The output of a response, whole and by reference, for use in another request."""
    response = client.responses.create(model="m", input="one")
    whole: list[Any] = [item.model_dump() for item in response.output]
    reference: Any = {"type": "item_reference", "id": response.output[0].id}
    for items in (whole, [reference]):
        made = client.conversations.create(items=items)
        [item] = client.conversations.items.list(made.id)
        assert item.id == response.output[0].id
        assert text_of(item) == "Hello"
        again: Any = item.model_dump(exclude_unset=True)
        client.responses.create(model="m", input=[again, said("two")])
        assert [message["content"] for message in messages_of(upstream)[-1]] == ["Hello", "two"]


def test_another_project_sees_nothing(server: LiveServer, client: OpenAI) -> None:
    """R-29."""
    made = client.conversations.create(items=[said("Hi")])
    [item] = client.conversations.items.list(made.id)
    assert item.id is not None
    with client_of(server, OTHER_KEY) as other:
        for call in (
            lambda: other.conversations.retrieve(made.id),
            lambda: other.conversations.update(made.id, metadata={}),
            lambda: other.conversations.delete(made.id),
            lambda: other.conversations.items.list(made.id),
            lambda: other.conversations.items.create(made.id, items=[said("x")]),
            lambda: other.conversations.items.retrieve(str(item.id), conversation_id=made.id),
            lambda: other.conversations.items.delete(str(item.id), conversation_id=made.id),
        ):
            with pytest.raises(openai.NotFoundError) as caught:
                call()
            assert f"Conversation with id '{made.id}' not found." in caught.value.message
    assert client.conversations.items.list(made.id).data == [item]


# -- openai-agents -------------------------------------------------------------------------------


@pytest.fixture
async def agents_client(server: LiveServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def session(agents_client: AsyncOpenAI) -> OpenAIConversationsSession:
    return OpenAIConversationsSession(openai_client=agents_client)


async def test_a_session_adds_pops_and_clears(
    session: OpenAIConversationsSession, agents_client: AsyncOpenAI
) -> None:
    """More than a request holds, which the SDK sends in several."""
    assert await session.get_items() == []
    conversation = session.session_id
    await session.add_items([said(str(number)) for number in range(45)])
    items: list[Any] = list(await session.get_items())
    assert [item["content"][0]["text"] for item in items] == [str(n) for n in range(45)]
    assert await session.get_items(limit=3) == items[-3:]
    assert await session.pop_item() == items[-1]
    assert await session.get_items() == items[:-1]
    await session.add_items([items[-1]])
    assert await session.get_items() == items
    await session.clear_session()
    with pytest.raises(openai.NotFoundError):
        await agents_client.conversations.retrieve(conversation)
    assert await session.pop_item() is None


async def test_a_session_replays_what_the_server_said(
    session: OpenAIConversationsSession, agents_client: AsyncOpenAI, upstream: ChatUpstream
) -> None:
    """The SDK keeps our items in a conversation, reads them there, and sends them back whole."""
    upstream.script(TWO_CALLS, Reply.chat("Both are sunny."), Reply.chat("You are welcome."))
    agent = Agent("forecaster", model=OpenAIResponsesModel("m", agents_client), tools=[weather])
    await Runner.run(agent, "Paris and Rome?", run_config=CONFIG, session=session)
    result = await Runner.run(agent, "Thanks", run_config=CONFIG, session=session)
    assert result.final_output == "You are welcome."
    user, turn, *rest = messages_of(upstream)[2]
    assert user == {"role": "user", "content": "Paris and Rome?"}
    assert [call["id"] for call in turn["tool_calls"]] == ["call_a", "call_b"]
    assert [message["role"] for message in rest] == ["tool", "tool", "assistant", "user"]
    kept = [item.type async for item in agents_client.conversations.items.list(session.session_id)]
    calls = ["function_call_output"] * 2 + ["function_call"] * 2
    assert kept == ["message"] * 3 + calls + ["message"]
