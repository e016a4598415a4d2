"""The item of a call that the model's own server runs, while it comes (spec §4.1)."""

from antiphon.protocol.deltas import HostedDelta
from antiphon.protocol.emitter import Emitter
from antiphon.protocol.writers import HostedWriter


class UpstreamCallWriter:
    """See `ItemWriter`."""

    def __init__(self, emitter: Emitter, delta: HostedDelta) -> None:
        """Announced with the fields of the first delta."""
        self._item = HostedWriter.announced(emitter, delta.item_type, delta.fields)
        #: It may end here; it has ended.
        self._is_whole = self._is_done = False

    def write(self, delta: HostedDelta) -> None:
        """See `ItemWriter`."""
        if delta.status is not None:
            self._is_whole = self._is_done = True
            self._item.close(delta.status, delta.fields)
        elif delta.event is not None:
            self._item.emit(delta.event, delta.fields)
        elif not delta.is_first:
            self._is_whole = True

    def is_whole(self) -> bool:
        """See `ItemWriter`."""
        return self._is_whole

    def close(self, status: str) -> None:
        """See `ItemWriter`: if its server never said how it ended."""
        if not self._is_done:
            self._is_done = True
            self._item.close("completed" if status == "completed" else "incomplete", {})
