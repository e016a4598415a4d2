"""Calls that the engine takes when the turn of the model is over."""

from dataclasses import dataclass, field

from antiphon.protocol.streamed_calls import StreamedWriter


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call that said nothing yet: the name of the function, and what the model wrote: JSON
    arguments, or the free text of a custom tool. `call_id` is the upstream's, if it can serve;
    `index`: the place of its item, if it is announced."""

    name: str
    arguments: str
    call_id: str | None = None
    index: int | None = None


@dataclass(slots=True)
class SilentCall:
    """A `HeldCall` in the making."""

    name: str
    call_id: str | None
    text: list[str] = field(default_factory=list)
    writer: StreamedWriter | None = None

    def call(self) -> HeldCall:
        """As the engine takes it."""
        arguments = "".join(self.text)
        if self.writer is None:
            return HeldCall(self.name, arguments, self.call_id)
        settled = self.writer.settled(arguments)
        return HeldCall(self.name, settled, self.call_id, self.writer.output_index)
