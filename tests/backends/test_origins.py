"""Who made a piece of reasoning."""

import pytest

from antiphon.app.backends import KINDS
from antiphon.backends.origins import Origin
from antiphon.backends.upstream import UpstreamConfig
from antiphon.config import BackendConfig
from antiphon.protocol.items.reasoning import restored

HERE = Origin.of("anthropic", "https://a.example")


def test_only_who_left_something_finds_it() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    back = restored(item, {"content": "", "state": HERE.state([{"signature": "x"}])})
    assert HERE.kept(back) == [{"signature": "x"}]
    assert Origin.of("anthropic", "https://b.example").kept(back) is None
    assert Origin.of("gemini", "https://a.example").kept(back) is None
    assert HERE.kept(item) is None
    assert HERE.kept(restored(item, {"content": "", "state": "of old"})) is None


URL = "https://a.example/v1"


def at(name: str = "a", **config: object) -> UpstreamConfig:
    return UpstreamConfig(name, URL, **{"api_key": "one", "account": "A_KEY", **config})  # type: ignore[arg-type]


def test_a_new_name_or_key_loses_nothing() -> None:
    here = at().origin("responses", URL)
    assert at("b").origin("responses", URL) == here
    assert at(api_key="two").origin("responses", URL) == here


@pytest.mark.parametrize(
    "other",
    [
        at(account="B_KEY").origin("responses", URL),
        at(account=None).origin("responses", URL),
        at("A_KEY", account=None).origin("responses", URL),
        at(client_key=True).origin("responses", URL, "mine"),
        at(client_key=True).origin("responses", URL, "name a"),
        at().origin("anthropic", URL),
    ],
)
def test_who_has_another_account_is_another_one(other: Origin) -> None:
    """Servers seal thoughts for one organisation: another one gets a 400 for them."""
    assert at().origin("responses", URL) != other


def test_a_key_of_the_client_is_an_account() -> None:
    """And only where it is used; nothing of it is in the name (R-130)."""
    mine = at(client_key=True).origin("responses", URL, "my-own-key")
    assert at("b", client_key=True, account=None).origin("responses", URL, "my-own-key") == mine
    assert at(client_key=True).origin("responses", URL, "your-own-key") != mine
    assert at(client_key=True).origin("responses", URL) != mine
    assert at().origin("responses", URL, "my-own-key") == at().origin("responses", URL)
    assert "my-own" not in mine.name


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"api_key_env": "A_KEY"}, {"api_key_env": "A_KEY"}, True),
        ({"api_key_env": "A_KEY"}, {"api_key_env": "B_KEY"}, False),
        ({"api_key_env": "A_KEY"}, {"api_key_env": "A_KEY", "headers": {"org": "x"}}, False),
        ({"headers": {"api-key": "x"}}, {"headers": {"api-key": "y"}}, False),
        ({}, {}, False),
    ],
)
def test_accounts_of_a_configuration(
    monkeypatch: pytest.MonkeyPatch,
    first: dict[str, object],
    second: dict[str, object],
    *,
    same: bool,
) -> None:
    monkeypatch.setenv("A_KEY", "one")
    monkeypatch.setenv("B_KEY", "two")
    origins = []
    for name, keys in (("a", first), ("b", second)):
        entry = BackendConfig.model_validate(
            {"name": name, "kind": "responses", "base_url": URL, **keys}
        )
        backend = KINDS["responses"](entry)
        origins.append(backend._origin)  # type: ignore[attr-defined]
    assert (origins[0] == origins[1]) is same
