"""Model name → backend (design §6)."""

import pytest

from antiphon.backends.base import Model
from antiphon.backends.routing import TableRouter
from antiphon.errors import ModelNotFound
from antiphon.testing import ScriptedBackend


class Listing(ScriptedBackend):
    """Lists what it is told to."""

    def __init__(self, name: str, *models: str) -> None:
        super().__init__(name=name)
        self.listed = models
        self.asked = 0

    async def models(self) -> list[Model]:
        self.asked += 1
        return [Model(id_, f"owner-of-{id_}", 7) for id_ in self.listed]


def make() -> tuple[TableRouter, Listing, Listing]:
    one = Listing("one", "big", "small-upstream", "qwen-1")
    two = Listing("two", "qwen-1", "other")
    table = [
        (one, {"big": "big", "small": "small-upstream", "qwen-*": "qwen-*"}),
        (two, {"big": "big", "secret": "secret", "*": "*"}),
    ]
    return TableRouter(table), one, two


@pytest.mark.parametrize(
    ("name", "backend", "upstream"),
    [
        ("big", "one", "big"),
        ("small", "one", "small-upstream"),
        ("qwen-7", "one", "qwen-7"),
        ("secret", "two", "secret"),
        ("anything", "two", "anything"),
    ],
)
def test_exact_names_beat_wildcards_and_the_first_backend_wins(
    name: str, backend: str, upstream: str
) -> None:
    found, model = make()[0].route(name)
    assert (found.name, model) == (backend, upstream)


def test_a_name_that_nobody_has_is_unknown() -> None:
    router = TableRouter([(Listing("one"), {"a": "a"})])
    with pytest.raises(ModelNotFound) as caught:
        router.route("b")
    assert caught.value.message == "The requested model 'b' does not exist."


async def test_the_list_has_the_windows_that_the_backends_answer() -> None:
    router, one, two = make()
    one.context_window = 4096
    bodies = {model.id: model.body() for model in await router.models()}
    windows = {name: body.get("context_window") for name, body in bodies.items()}
    assert windows == {"big": 4096, "small": 4096, "qwen-1": 4096, "secret": None, "other": None}
    assert "context_window" not in bodies["secret"]
    assert two.asked == 1


async def test_the_list_has_exact_names_and_what_wildcards_match() -> None:
    router, one, _ = make()
    models = {model.id: model for model in await router.models()}
    assert list(models) == ["big", "small", "qwen-1", "secret", "other"]
    assert models["small"].owned_by == "owner-of-small-upstream"
    assert models["secret"].owned_by == "two"
    await router.models()
    assert one.asked == 1, "lists are cached"
