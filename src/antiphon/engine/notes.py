"""The output of a run as its model sees it: with what it was told beside it (decision 0007)."""

from collections.abc import Iterator, Sequence

from antiphon.engine.progress import Note, Progress
from antiphon.protocol.items.base import Item, Seen, object_text


def seen(output: list[Item], progress: Progress) -> Iterator[Item]:
    """Items, each with its turn and what the model was told of it, and notes where they belong."""
    notes: dict[str, list[tuple[int, Note]]] = {}
    for number, note in enumerate(progress.notes):
        notes.setdefault(note.after or "", []).append((number, note))
    yield from _noted(notes.get("", ()))
    for item in output:
        turn = progress.turn_of.get(item["id"], progress.turns)
        yield Seen(item, turn, progress.told.get(item["id"]))
        yield from _noted(notes.get(item["id"], ()))


def _noted(notes: Sequence[tuple[int, Note]]) -> Iterator[Item]:
    """Calls and what was said to them, for the model only."""
    for number, note in notes:
        arguments = object_text(note.arguments)
        call = {"call_id": f"call_note{number}", "name": note.name, "arguments": arguments}
        yield Seen({"type": "function_call", **call}, note.turn)
    for number, note in notes:
        answer = {"call_id": f"call_note{number}", "output": note.text}
        yield Seen({"type": "function_call_output", **answer}, note.turn)
