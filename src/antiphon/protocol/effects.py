"""What an event does to a Response: a dozen effects, and the Fold that they work on (design §1).

Rules
1. An effect is a function of (fold, event). A missing key is an error: KeyError or IndexError.
2. An effect owns what its event carries: it keeps the objects and changes them later. Who wants to
   keep the event as well applies a clone (`events.apply` does); the machine keeps bytes only.
3. Growing strings are lists of fragments until somebody reads them: ``text += delta`` on a dict
   field is quadratic.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]
#: Where a growing string lives: `output_index`, then steps: (0, "content", 1, "text").
Path: TypeAlias = tuple[int | str, ...]


def clone(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: clone(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [clone(entry) for entry in value]
    return value


class Fold:
    """A Response in the making: the events applied so far."""

    __slots__ = ("_growing", "open", "response", "withdrawn")

    def __init__(self) -> None:
        self.response: Json = {}
        #: Items that were announced and are not done yet, by `output_index`.
        self.open: set[int] = set()
        #: Items that were taken back: they keep their places until the end (decision 0005).
        self.withdrawn: set[int] = set()
        self._growing: dict[Path, list[str]] = {}

    def replace(self, response: Json) -> None:
        """The event carries the whole Response."""
        self.response = response
        self._growing.clear()

    def end(self, response: Json) -> None:
        """The Response as it stays: `output` no longer has what was taken back."""
        self.open.clear()
        self.withdrawn.clear()
        self.replace(response)

    @property
    def next_index(self) -> int:
        """The `output_index` of the next item."""
        return len(self.response["output"])

    def kept(self) -> list[Json]:
        """The items that were not taken back."""
        output: list[Json] = self.response["output"]
        if not self.withdrawn:
            return output
        return [item for index, item in enumerate(output) if index not in self.withdrawn]

    def item(self, output_index: int) -> Json:
        """The item that was announced under this index."""
        item: Json = self.response["output"][output_index]
        return item

    def add_item(self, output_index: int, item: Json) -> None:
        """Announce an item: indices are contiguous (spec §4.3)."""
        if output_index != self.next_index:
            raise IndexError(f"output_index {output_index} after {self.next_index} items")
        self.response["output"].append(item)
        self.open.add(output_index)

    def set_item(self, output_index: int, item: Json) -> None:
        """The item as it stays."""
        self.settle((output_index,))
        self.response["output"][output_index] = item
        self.open.discard(output_index)

    def locate(self, path: Path) -> Any:
        """The object that holds the last step of `path`."""
        index, *steps = path[:-1]
        holder: Any = self.item(int(index))
        for step in steps:
            holder = holder[step]
        return holder

    def append(self, path: Path, fragment: str) -> None:
        """The string at `path` grows by `fragment`."""
        fragments = self._growing.get(path)
        if fragments is None:
            fragments = self._growing[path] = [self.locate(path)[path[-1]]]
        fragments.append(fragment)

    def assign(self, path: Path, value: Any) -> None:
        """The field at `path` gets its final value."""
        self._growing.pop(path, None)
        self.locate(path)[path[-1]] = value

    def read(self, path: Path) -> str:
        """The string at `path` as it is now."""
        fragments = self._growing.get(path)
        if fragments is None:
            value: str = self.locate(path)[path[-1]]
            return value
        if len(fragments) > 1:
            fragments[:] = ["".join(fragments)]
        return fragments[0]

    def last(self, path: Path) -> str:
        """The last fragment of the string at `path`, at no cost."""
        fragments = self._growing.get(path)
        value: str = fragments[-1] if fragments else self.locate(path)[path[-1]]
        return value

    def settle(self, prefix: Path = ()) -> None:
        """Write the growing strings below `prefix` into the Response."""
        size = len(prefix)
        for path in [path for path in self._growing if path[:size] == prefix]:
            self.locate(path)[path[-1]] = "".join(self._growing.pop(path))

    def snapshot(self) -> Json:
        """A copy of the Response as it is now."""
        self.settle()
        copy: Json = clone(self.response)
        return copy


Effect: TypeAlias = Callable[[Fold, Event], None]


def nothing(fold: Fold, event: Event) -> None:
    """Progress only: the Response does not change."""


def replace_response(fold: Fold, event: Event) -> None:
    """``response.created``, ``response.queued``, ``response.in_progress``."""
    fold.withdrawn.update(event.get("withdrawn", ()))
    fold.replace(event["response"])


def end_response(fold: Fold, event: Event) -> None:
    """``response.completed``, ``response.incomplete``, ``response.failed``."""
    fold.end(event["response"])


def add_item(fold: Fold, event: Event) -> None:
    """``output_item.added``."""
    fold.add_item(event["output_index"], event["item"])


def set_item(fold: Fold, event: Event) -> None:
    """``output_item.done``."""
    fold.set_item(event["output_index"], event["item"])


def add_part(list_name: str, index_name: str) -> Effect:
    """``content_part.added``, ``reasoning_summary_part.added``."""

    def effect(fold: Fold, event: Event) -> None:
        parts = fold.item(event["output_index"]).setdefault(list_name, [])
        if event[index_name] != len(parts):
            raise IndexError(f"{index_name} {event[index_name]} after {len(parts)} parts")
        parts.append(event["part"])

    return effect


def set_part(list_name: str, index_name: str) -> Effect:
    """``content_part.done``, ``reasoning_summary_part.done``."""

    def effect(fold: Fold, event: Event) -> None:
        output_index, index = event["output_index"], event[index_name]
        fold.settle((output_index, list_name, index))
        fold.item(output_index)[list_name][index] = event["part"]

    return effect


def append_to_part(list_name: str, index_name: str, field: str) -> Effect:
    """A delta of a string inside a part; `logprobs` beside it are collected."""

    def effect(fold: Fold, event: Event) -> None:
        output_index, index = event["output_index"], event[index_name]
        fold.append((output_index, list_name, index, field), event["delta"])
        if logprobs := event.get("logprobs"):
            part = fold.item(output_index)[list_name][index]
            part["logprobs"].extend(logprobs)

    return effect


def assign_in_part(list_name: str, index_name: str, field: str) -> Effect:
    """The ``.done`` of a string inside a part."""

    def effect(fold: Fold, event: Event) -> None:
        fold.assign((event["output_index"], list_name, event[index_name], field), event[field])

    return effect


def append_to_item(field: str) -> Effect:
    """A delta of a string field of the item (`arguments`, `input`, `code`)."""

    def effect(fold: Fold, event: Event) -> None:
        fold.append((event["output_index"], field), event["delta"])

    return effect


def assign_in_item(field: str) -> Effect:
    """The ``.done`` of a string field of the item."""

    def effect(fold: Fold, event: Event) -> None:
        fold.assign((event["output_index"], field), event[field])

    return effect


def set_status(status: str) -> Effect:
    """Progress of a hosted tool: ``web_search_call.searching`` …"""

    def effect(fold: Fold, event: Event) -> None:
        fold.item(event["output_index"])["status"] = status

    return effect


def annotate(fold: Fold, event: Event) -> None:
    """``output_text.annotation.added``: indexes are contiguous."""
    part = fold.item(event["output_index"])["content"][event["content_index"]]
    annotations = part["annotations"]
    if event["annotation_index"] != len(annotations):
        raise IndexError(f"annotation_index {event['annotation_index']} after {len(annotations)}")
    annotations.append(event["annotation"])
