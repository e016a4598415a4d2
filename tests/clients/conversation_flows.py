"""A chat over `conversation=` with whatever `openai` is importable; prints a summary as JSON.

    OPENAI_BASE_URL=… OPENAI_API_KEY=… python conversation_flows.py

Rules
1. No pytest and nothing of this repository: it runs under SDK versions that the tests do not have.
2. The upstream answers with `SCRIPT` of `test_conversation_runs`, in this order.
"""

import json
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import openai
from openai import OpenAI

E = TypeVar("E", bound=openai.APIStatusError)
WEATHER: Final[Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def caught(kind: type[E], call: Callable[[], object]) -> E:
    """The exception of type `kind` that `call` raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


class Chat:
    """One conversation, turn by turn, and what must be in it."""

    def __init__(self, client: OpenAI) -> None:
        first: Any = {"role": "user", "content": "zero"}
        self.client = client
        self.id = client.conversations.create(items=[first], metadata={"topic": "demo"}).id
        [zero] = client.conversations.items.list(self.id)
        self.ids = [zero.id]

    def took(self, response: Any, *, own: int = 1) -> Any:
        """A turn is over: it names the conversation, and its items stand at the end of it."""
        assert response.status == "completed", response
        assert response.conversation is not None
        assert response.conversation.id == self.id
        shown = list(self.client.conversations.items.list(self.id, order="asc", limit=100))
        output = [item.id for item in response.output]
        kept = [item.id for item in shown]
        assert kept[: len(self.ids)] == self.ids
        assert kept[len(self.ids) + own :] == output
        assert len(set(kept)) == len(kept)
        self.ids = kept
        return response

    def json(self) -> None:
        """Whole, by id and by object."""
        create = self.client.responses.create
        self.took(create(model="m", input="one", conversation=self.id))
        self.took(create(model="m", input="two", conversation={"id": self.id}, store=False))

    def streamed(self) -> None:
        """Each snapshot names the conversation."""
        events = list(
            self.client.responses.create(
                model="m", input="three", conversation=self.id, stream=True
            )
        )
        named: list[Any] = [event for event in events if hasattr(event, "response")]
        assert [event.type for event in named] == [
            "response.created",
            "response.in_progress",
            "response.completed",
        ]
        assert all(event.response.conversation.id == self.id for event in named)
        self.took(named[-1].response)
        with self.client.responses.stream(
            model="m", input="four", conversation=self.id, store=False
        ) as helper:
            self.took(helper.until_done().get_final_response())

    def background(self) -> None:
        """Polled; meanwhile nobody else gets in."""
        create = self.client.responses.create
        made = create(model="m", input="five", conversation=self.id, background=True)
        for attempt in (
            lambda: create(model="m", input="x", conversation=self.id),
            lambda: create(model="m", input="x", conversation=self.id, stream=True),
            lambda: self.client.conversations.items.create(
                self.id, items=[{"role": "user", "content": "x"}]
            ),
        ):
            error = caught(openai.BadRequestError, attempt)
            assert (error.code, error.param) == ("conversation_locked", "conversation")
        while made.status in ("queued", "in_progress"):
            time.sleep(0.05)
            made = self.client.responses.retrieve(made.id)
        self.took(made)

    def tools(self) -> None:
        """A call in one turn, its output in the next."""
        create = self.client.responses.create
        asked = create(model="m", input="Paris?", conversation=self.id, tools=[WEATHER])
        [call] = self.took(asked).output
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
        answer = create(model="m", input=[output], conversation=self.id, tools=[WEATHER])
        assert self.took(answer).output_text == "It is sunny."

    def repeated(self) -> None:
        """What is there already is sent again, as it was listed: only the rest is new."""
        listed = self.client.conversations.items.list(self.id, order="asc", limit=100)
        history: list[Any] = [item.to_dict() for item in listed]
        more: Any = {"role": "user", "content": "more"}
        create = self.client.responses.create
        self.took(create(model="m", input=[*history, more], conversation=self.id))

    def gone(self) -> None:
        """A deleted one is unknown, by its name."""
        self.client.conversations.delete(self.id)
        create = self.client.responses.create
        error = caught(
            openai.NotFoundError, lambda: create(model="m", input="x", conversation=self.id)
        )
        assert error.param == "conversation"


def main() -> None:
    """All turns, in order."""
    with OpenAI(max_retries=0, timeout=30) as client:
        chat = Chat(client)
        chat.json()
        chat.streamed()
        chat.background()
        chat.tools()
        chat.repeated()
        chat.gone()
        print(json.dumps({"version": openai.__version__, "items": len(chat.ids)}))


if __name__ == "__main__":
    main()
