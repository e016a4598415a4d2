"""Model name → backend (design §6)."""

from collections import Counter

import pytest

from antiphon.backends.base import Model
from antiphon.backends.fallback import Fallback, Target
from antiphon.backends.routing import Route, TableRouter
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


# -- routes --------------------------------------------------------------------------------------


def routed(*routes: Route) -> TableRouter:
    one, two = Listing("one", "a", "b"), Listing("two", "a", "c")
    return TableRouter([(one, {"a": "a", "*": "*"}), (two, {"c": "c"})], routes)


ONE, TWO = Listing("one", "a"), Listing("two", "a")


def names_of(found: object) -> list[tuple[str, str]]:
    assert isinstance(found, Fallback)
    return [(target.backend.name, target.model) for target in found._targets]


def test_a_route_beats_what_backends_have() -> None:
    exact = Route("a", [Target(TWO, "real")], [1.0])
    wild = Route("gpt-*", [Target(TWO, "*")], [1.0])
    alias = Route("x-*", [Target(TWO, "fixed")], [1.0])
    router = routed(exact, wild, alias)
    found = {name: router.route(name) for name in ("a", "gpt-5", "x-1", "other", "c")}
    assert {name: (backend.name, model) for name, (backend, model) in found.items()} == {
        "a": ("two", "real"),
        "gpt-5": ("two", "gpt-5"),
        "x-1": ("two", "fixed"),
        "other": ("one", "other"),
        "c": ("two", "c"),
    }


def test_fallbacks_come_after_the_other_targets() -> None:
    targets, others = [Target(ONE, "*"), Target(TWO, "t")], [Target(ONE, "f"), Target(TWO, "g")]
    router = routed(Route("m", targets, [1.0, 1.0], others))
    found, model = router.route("m", "key")
    assert model == "m"
    names = names_of(found)
    assert sorted(names[:2]) == [("one", "m"), ("two", "t")]
    assert names[2:] == [("one", "f"), ("two", "g")]
    assert names_of(routed(Route("m", targets[:1], [1.0], others[:1])).route("m")[0]) == [
        ("one", "m"),
        ("one", "f"),
    ]


@pytest.mark.parametrize("with_key", [False, True])
def test_targets_come_first_by_their_weights(*, with_key: bool) -> None:
    router = routed(Route("m", [Target(ONE, "x"), Target(TWO, "y")], [3.0, 1.0]))
    keys = [f"key-{n}" if with_key else None for n in range(2000)]
    counts = Counter(router.route("m", key)[0].name for key in keys)
    assert 0.7 < counts["one"] / 2000 < 0.8


def test_what_belongs_together_goes_to_one_place() -> None:
    router = routed(Route("m", [Target(ONE, "x"), Target(TWO, "y")], [1.0, 1.0]))
    for key in ("a", "b", "c"):
        assert len({router.route("m", key)[0].name for _ in range(50)}) == 1


async def test_the_list_has_routes_with_the_windows_of_their_first_targets() -> None:
    one, two = Listing("one", "a"), Listing("two", "gpt-1", "gpt-2")
    one.context_window, two.context_window = 10, 20
    routes = [
        Route("alias", [Target(one, "a"), Target(two, "gpt-1")], [1.0, 1.0]),
        Route("gpt-*", [Target(two, "*")], [1.0]),
        Route("same", [Target(two, "*")], [1.0]),
    ]
    models = await TableRouter([(one, {"a": "a"}), (two, {"x": "x"})], routes).models()
    assert {model.id: model.context_window for model in models} == {
        "alias": 10,
        "gpt-1": 20,
        "gpt-2": 20,
        "same": 20,
        "a": 10,
        "x": 20,
    }
