"""antiphon.toml and the settings: what can be used, and what is refused with its place (R-132)."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from antiphon.app import Antiphon
from antiphon.config import ConfigError, load_config
from antiphon.settings import Settings

BACKEND = (
    '[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "http://127.0.0.1:1/v1"\n'
)
EMBEDDINGS = '[embeddings]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "e5"\n'
IMAGES = '[image_generation]\nkind = "openai"\nbase_url = "http://127.0.0.1:1/v1"\n'
WEBHOOK = '[[webhooks]]\nurl = "https://h.example/"\nsecret_env = "HOOK_SECRET"\n'


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "antiphon.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def test_models_may_be_names_wildcards_and_aliases(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(BACKEND + 'models = ["x", "y-*", {z = "up"}]\n', encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.backends[0].models == {"x": "x", "y-*": "y-*", "z": "up"}
    assert load_config(tmp_path / "none.toml") is None


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("", {}),
        ("context_window = 8192", {"*": 8192}),
        ('context_window = {z = 5, "y-*" = 6}', {"up": 5, "y-*": 6}),
    ],
)
def test_a_window_is_for_all_models_or_by_alias_and_name(
    tmp_path: Path, text: str, windows: dict[str, int]
) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(BACKEND + 'models = ["*", {z = "up"}]\n' + text, encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.backends[0].windows == windows


def test_who_makes_vectors_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(EMBEDDINGS + 'query_prefix = "query: "\ntimeout = 5\n', encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.embeddings is not None
    assert config.embeddings.query_prefix == "query: "
    assert config.embeddings.timeout == 5.0
    assert (config.embeddings.batch, config.embeddings.dimensions) == (64, None)


@pytest.mark.parametrize(
    ("text", "seeing"),
    [
        ("", None),
        ("vision = true", ["*"]),
        ("vision = false", []),
        ('vision = ["z", "y-*"]', ["up", "y-*"]),
    ],
)
def test_which_models_see(tmp_path: Path, text: str, seeing: list[str] | None) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(BACKEND + 'models = ["*", {z = "up"}]\n' + text, encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.backends[0].seeing == seeing


def test_who_makes_images_has_defaults(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(IMAGES + "timeout = 5\n", encoding="utf-8")
    config = load_config(path)
    assert config is not None
    images = config.image_generation
    assert images is not None
    assert (images.timeout, images.at_once, images.model, images.models) == (5.0, 4, None, [])
    assert (images.unsupported, images.extra) == ([], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not toml", "antiphon.toml"),
        ("unknown = 1", "unknown"),
        (BACKEND + "surprise = true", "backends.0.surprise"),
        (BACKEND + BACKEND, "same name"),
        ('[[backends]]\nname = "a"\nkind = "chat_completions"', "base_url"),
        ('[[backends]]\nname = "a"\nkind = "telepathy"', "backends.0.kind"),
        (BACKEND + 'connect_timeout = "5"', "backends.0.connect_timeout"),
        (BACKEND + "max_retries = 99", "backends.0.max_retries"),
        (BACKEND + "models = [1]", "backends.0.models"),
        (BACKEND + "models = []", "backends.0.models"),
        (BACKEND + 'models = [["a"]]', "backends.0.models"),
        (BACKEND + 'models = [{"g-*" = "up/g-*"}]', "'up/g-*' is no name"),
        (BACKEND + '[[routes]]\nmodel = "x"\ntargets = [{backend = "a", model = "y-*"}]', "'y-*'"),
        (BACKEND + "context_window = 0", "backends.0.context_window"),
        (BACKEND + 'context_window = "8k"', "backends.0.context_window"),
        (BACKEND + "context_window = {a = 1.5}", "backends.0.context_window.a"),
        (BACKEND + 'headers = {"X Y" = "1"}', "'X Y' has characters"),
        (BACKEND + 'headers = {"X-A" = "1\\r\\nX-B: 2"}', "'X-A' has characters"),
        (EMBEDDINGS + "surprise = true", "embeddings.surprise"),
        (EMBEDDINGS + "dimensions = 0", "embeddings.dimensions"),
        (EMBEDDINGS + "batch = 0", "embeddings.batch"),
        (EMBEDDINGS + 'timeout = "5"', "embeddings.timeout"),
        (EMBEDDINGS + "timeout = 0", "embeddings.timeout"),
        (EMBEDDINGS + 'api_key = "sk"', "embeddings.api_key"),
        (EMBEDDINGS + 'api_key_env = "not a name"', "embeddings.api_key_env"),
        (EMBEDDINGS + 'headers = {"X Y" = "1"}', "'X Y' has characters"),
        ('[embeddings]\nmodel = "e5"', "needs a base_url and a model"),
        ('[embeddings]\nbase_url = "http://127.0.0.1:1/v1"', "needs a base_url and a model"),
        ('[embeddings]\nbase_url = "ftp://h/v1"\nmodel = "e5"', "embeddings.base_url"),
        (BACKEND + "vision = 1", "backends.0.vision"),
        ('[image_generation]\nkind = "telepathy"', "image_generation.kind"),
        ('[image_generation]\nkind = "openai"', "needs a base_url"),
        ('[image_generation]\nkind = "simulator"\nbase_url = "http://h/v1"', "has no base_url"),
        ('[image_generation]\nkind = "simulator"\nextra = ["gif"]', "'extra'"),
        (IMAGES + "surprise = 1", "image_generation.surprise"),
        (IMAGES + 'unsupported = ["n"]', "image_generation.unsupported.0"),
        (IMAGES + 'extra = ["bmp"]', "image_generation.extra.0"),
        (IMAGES + "timeout = 0", "image_generation.timeout"),
        (IMAGES + "at_once = 0", "image_generation.at_once"),
        (IMAGES + 'api_key_env = "not a name"', "image_generation.api_key_env"),
        (IMAGES + 'headers = {"X Y" = "1"}', "'X Y' has characters"),
        (IMAGES.replace("http:", "ftp:"), "image_generation.base_url"),
        (WEBHOOK + "secret = true", "webhooks.0.secret"),
        (WEBHOOK + "event_types = []", "webhooks.0.event_types"),
        (WEBHOOK + 'name = ""', "webhooks.0.name"),
        (WEBHOOK + WEBHOOK, "same name"),
        ('[[webhooks]]\nurl = "https://h.example/"', "webhooks.0.secret_env"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8001/v1",
        "localhost:8001/v1",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://:80/v1",
        "http://[::1/v1",
        "http://host:port/v1",
        "http://host:0/v1",
        "http://host:70000/v1",
        "http://ho st/v1",
        "http://a..b/v1",
        "http://.a/v1",
        "http://" + "a" * 64 + ".example/v1",
        "http://host/v1\\n",
        "http://host/v1?api-version=1",
        "http://host/v1#x",
    ],
)
def test_a_base_url_that_leads_nowhere(tmp_path: Path, url: str) -> None:
    """R-132: at start, not as a 502 of the first request."""
    with pytest.raises(ConfigError, match="base_url"):
        load(tmp_path, f'[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "{url}"\n')
    for section in (EMBEDDINGS, IMAGES):
        with pytest.raises(ConfigError, match="base_url"):
            load(tmp_path, section.replace("http://127.0.0.1:1/v1", url))


@pytest.mark.parametrize("url", ["https://api.example/v1", "http://[::1]:8001", "HTTP://h"])
def test_a_base_url_that_can_be_used(tmp_path: Path, url: str) -> None:
    load(tmp_path, f'[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "{url}"\n')


def test_a_key_variable_that_is_not_set_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    path = tmp_path / "antiphon.toml"
    for section in (BACKEND, IMAGES):
        path.write_text(section + 'api_key_env = "NOT_THERE"\n', encoding="utf-8")
        with pytest.raises(ConfigError, match="NOT_THERE"):
            Antiphon(Settings(config=path, database_url="memory://"))


def test_a_key_that_no_header_can_have_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the line break at the end of a file that was read into the variable."""
    path = tmp_path / "antiphon.toml"
    for section in (BACKEND, EMBEDDINGS, IMAGES):
        path.write_text(section + 'api_key_env = "UP_KEY"\n', encoding="utf-8")
        monkeypatch.setenv("UP_KEY", "k3y\n")
        Antiphon(Settings(config=path, database_url="memory://"))
        for key in ("k3y\nk3y", "schl\xfcssel", " \n"):
            monkeypatch.setenv("UP_KEY", key)
            with pytest.raises(ConfigError, match="UP_KEY") as caught:
                Antiphon(Settings(config=path, database_url="memory://"))
            assert "k3y" not in str(caught.value)


def test_a_key_in_the_place_of_its_variable_is_not_shown(tmp_path: Path) -> None:
    for text in (BACKEND + 'api_key_env = "sk-k3y"', WEBHOOK.replace("HOOK_SECRET", "sk-k3y")):
        with pytest.raises(ConfigError, match="_env: String should match") as caught:
            load(tmp_path, text)
        assert "k3y" not in str(caught.value)


def test_a_responses_backend_is_openai_unless_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address it needs a key, in whatever header."""
    monkeypatch.setenv("UP_KEY", "k")
    kind = '[[backends]]\nname = "a"\nkind = "responses"\n'
    settings = Settings(config=tmp_path / "antiphon.toml", database_url="memory://")
    for more in (
        'api_key_env = "UP_KEY"\n',
        'headers = {"api-key" = "k"}\n',
        'base_url = "http://127.0.0.1:1/v1"\n',
        'profile = "vllm"\nbase_url = "http://127.0.0.1:1/v1"\n',
    ):
        (tmp_path / "antiphon.toml").write_text(kind + more, encoding="utf-8")
        Antiphon(settings)
    for more, says in (
        ("", "needs an api_key_env"),
        ('api_key_env = "NOT_THERE"\n', "NOT_THERE"),
        ('api_key_env = "UP_KEY"\nprofile = "telepathy"\n', "telepathy"),
    ):
        (tmp_path / "antiphon.toml").write_text(kind + more, encoding="utf-8")
        with pytest.raises(ConfigError, match=says):
            Antiphon(settings)


def test_a_simulator_of_images_without_pillow_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-133."""
    path = tmp_path / "antiphon.toml"
    path.write_text('[image_generation]\nkind = "simulator"\n', encoding="utf-8")
    monkeypatch.setattr("antiphon.app.images.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"antiphon\[images\]"):
        Antiphon(Settings(config=path, database_url="memory://"))


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ('"simulator"\napi_key_env = "NOT_THERE"', "'api_key_env' is not for kind 'simulator'"),
        ('"simulator"\nidle_timeout = 1', "'idle_timeout' is not for kind 'simulator'"),
        ('"responses"\nbase_url = "http://h/v1"\nthink = "tags"', "'think' is for kind"),
    ],
)
def test_a_key_of_another_kind_is_refused(tmp_path: Path, entry: str, says: str) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text('[[backends]]\nname = "a"\nkind = ' + entry, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        Antiphon(Settings(config=path, database_url="memory://"))


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "antiphon.toml"
    path.write_text(BACKEND + 'profile = "abacus"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="abacus"):
        Antiphon(Settings(config=path, database_url="memory://"))


@pytest.mark.parametrize(
    ("text", "secret", "says"),
    [
        (WEBHOOK, "", "HOOK_SECRET is not set"),
        (WEBHOOK, "short", "16 bytes"),
        (WEBHOOK, "whsec_not base64", "base64"),
        (WEBHOOK + 'project = "a b"', "x" * 16, "project"),
        (WEBHOOK + 'event_types = ["batch.completed"]', "x" * 16, "batch.completed"),
        (WEBHOOK.replace("h.example", "10.0.0.1"), "x" * 16, "ALLOW_PRIVATE_HOSTS"),
        (WEBHOOK.replace("https", "ftp"), "x" * 16, "http"),
        (
            WEBHOOK.replace('e/"', 'e/T0KEN?t=T0KEN"').replace("https", "ftp"),
            "x" * 16,
            "h.example'",
        ),
    ],
)
def test_a_webhook_that_can_never_work_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, secret: str, says: str
) -> None:
    path = tmp_path / "antiphon.toml"
    monkeypatch.setenv("HOOK_SECRET", "x" * 16)
    path.write_text(WEBHOOK, encoding="utf-8")
    Antiphon(Settings(config=path, database_url="memory://"))
    monkeypatch.setenv("HOOK_SECRET", secret)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as caught:
        Antiphon(Settings(config=path, database_url="memory://"))
    assert not secret or secret not in str(caught.value)
    assert "T0KEN" not in str(caught.value)


def test_a_private_host_that_is_none_stops_the_start(tmp_path: Path) -> None:
    settings = Settings(
        config=tmp_path / "none.toml",
        discover=False,
        database_url="memory://",
        allow_private_hosts=["http://x/"],
    )
    with pytest.raises(ConfigError, match="ANTIPHON_ALLOW_PRIVATE_HOSTS: 'http://x/'"):
        Antiphon(settings)


def test_an_unknown_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_PROT", "8000")
    with pytest.raises(ValidationError, match="ANTIPHON_PROT"):
        Settings()


def test_without_a_file_openai_is_there_when_its_key_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(config=tmp_path / "none.toml", database_url="memory://", discover=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert [b.name for b in Antiphon(settings).router.backends] == ["simulator"]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    router = Antiphon(settings).router
    assert router.route("gpt-9")[0].name == "openai"
    assert router.route("simulator")[0].name == "simulator"
    for address in ("api.example/v1", "http://h/v1?key=k3y"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with pytest.raises(ConfigError, match="OPENAI_BASE_URL: must"):
            Antiphon(settings)


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("sk-proj-of-openai", ["openai", "simulator"]),
        ("sk-antiphon-0123456789abcdefghijKLMN", ["simulator"]),
        ("sk-configured-here", ["simulator"]),
    ],
)
def test_a_key_of_this_server_is_not_sent_to_openai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, names: list[str]
) -> None:
    """R-92: the README has clients export our key as OPENAI_API_KEY."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    settings = Settings(
        config=tmp_path / "none.toml",
        discover=False,
        database_url="memory://",
        api_keys="sk-configured-here:first",
    )
    assert [backend.name for backend in Antiphon(settings).router.backends] == names


NUMBERS = [
    name for name, field in Settings.model_fields.items() if field.annotation in (int, float)
]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", str(10**19), "-1"])
def test_a_number_that_no_clock_or_timer_can_take_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """R-132: at start, not at the first request."""
    monkeypatch.setenv(f"ANTIPHON_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_the_largest_numbers_work(tmp_path: Path) -> None:
    Settings(
        config=tmp_path / "none.toml",
        retention_days=36_500,
        event_log_hours=876_000.0,
        shutdown_grace=2_592_000.0,
        queue_limit=0,
    )


def test_a_webhook_without_a_name_has_that_of_its_host(tmp_path: Path) -> None:
    """R-130: the URL may be a secret, and names are shown and logged."""
    path = tmp_path / "antiphon.toml"
    path.write_text(WEBHOOK.replace('e/"', 'e:8443/T0KEN?t=T0KEN"'), encoding="utf-8")
    config = load_config(path)
    assert config is not None
    assert config.webhooks[0].title == "h.example"
    with pytest.raises(ConfigError, match="same name, or host"):
        load(tmp_path, WEBHOOK + WEBHOOK.replace('e/"', 'e/other"'))
    load(tmp_path, WEBHOOK + WEBHOOK.replace('e/"', 'e/other"') + 'name = "other"')
