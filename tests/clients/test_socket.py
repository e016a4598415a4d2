"""WebSocket mode with the official client: ``client.responses.connect()`` of openai-python."""

import orjson
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.lib.responses_websocket import ResponsesWebSocketLimits, ResponsesWebSocketSession
from websockets.exceptions import InvalidStatus

from tests.backends.upstream import ChatUpstream, Reply
from tests.live import KEY, LiveServer


def of(server: LiveServer, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=key, max_retries=0)


def test_turns_of_a_chat(server: LiveServer, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("One"), Reply.chat("Two"))
    with of(server).responses.connect() as connection:
        connection.response.create(model="m", input="A", store=False)
        text, response = "", None
        for event in connection:
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.completed":
                response = event.response
                break
        assert response is not None
        assert text == response.output_text == "One"
        connection.response.create(
            model="m", input="B", store=False, previous_response_id=response.id
        )
        for event in connection:
            if event.type == "response.completed":
                assert event.response.output_text == "Two"
                break
    said = [message["content"] for message in upstream.requests[-1].json["messages"]]
    assert said == ["A", "One", "B"]


def test_lanes_errors_and_warm_ups(server: LiveServer) -> None:
    with of(server).responses.connect() as connection:
        create = connection.response.create
        create(model="simulator", input="Hi", stream_id="a", previous_response_id="resp_none")
        error = connection.recv()
        assert error.type == "error"
        assert (error.status, error.stream_id) == (400, "a")
        assert error.error.code == "previous_response_not_found"
        create(model="simulator", input="Hi", generate=False, stream_id="a")
        for event in connection:
            if event.type == "response.completed":
                assert (event.stream_id, event.response.output) == ("a", [])
                break
        connection.response.steer(input="Wait", previous_response_id="resp_none")
        event = connection.recv()
        assert event.type == "response.steer.failed"
        assert event.error.code == "steering_not_supported"


def test_a_failed_response_is_not_that_of_the_next_request(
    server: LiveServer, upstream: ChatUpstream
) -> None:
    """The SDK's own session: whatever comes after an `error` is taken for the next response."""
    upstream.script(Reply.json({"error": {"message": "no"}}, 400), Reply.chat("Two"))
    limits = ResponsesWebSocketLimits(4, 999, 999, 1 << 20, 1 << 20)
    with (
        of(server).responses.connect() as connection,
        ResponsesWebSocketSession(connection, limits=limits) as session,
    ):
        lane = session.lane("a")
        lane.send({"type": "response.create", "model": "m", "input": "A"})
        assert lane.get_final_response(timeout=10).status == "failed"
        lane.send({"type": "response.create", "model": "m", "input": "B"})
        assert lane.get_final_response(timeout=10).output_text == "Two"


def test_events_by_their_names(server: LiveServer) -> None:
    seen: list[str] = []
    with of(server).responses.connect() as connection:

        def end(_: object) -> None:
            seen.append("completed")
            connection.close()

        connection.on("response.completed", end)
        connection.on("response.output_text.delta", lambda _: seen.append("delta"))
        connection.response.create(model="simulator", input="Hi")
        connection.dispatch_events()
    assert seen[-1] == "completed"
    assert "delta" in seen


async def test_asynchronously(server: LiveServer) -> None:
    async with (
        AsyncOpenAI(base_url=server.base_url, api_key=KEY) as client,
        client.responses.connect() as connection,
    ):
        for _ in range(2):
            await connection.response.create(model="simulator", input="Hi")
            types = []
            async for event in connection:
                types.append(event.type)
                if event.type == "response.completed":
                    break
            assert types[0] == "response.created"


def test_a_wrong_key(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused, of(server, "sk-wrong").responses.connect():
        pass
    assert refused.value.response.status_code == 401
    error = orjson.loads(refused.value.response.body or b"")["error"]
    assert error["code"] == "invalid_api_key"
