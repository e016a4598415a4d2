"""The search providers there are, by the names that antiphon.toml has for them."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Protocol

from antiphon.tools.web import brave, tavily
from antiphon.tools.web.duckduckgo import DuckDuckGo
from antiphon.tools.web.provider import SearchProvider
from antiphon.tools.web.searxng import SearXNG


class ProviderSettings(Protocol):
    """What ``[web_search]`` says of the provider; `antiphon.config.WebSearchConfig` has it."""

    @property
    def provider(self) -> str:
        """``searxng``, ``brave``, ``tavily`` or ``duckduckgo``."""
        ...

    @property
    def url(self) -> str | None:
        """Where it is, if that is not the usual place."""
        ...

    @property
    def api_key_env(self) -> str | None:
        """The variable with its key."""
        ...


def provider_from(settings: ProviderSettings, environ: Mapping[str, str]) -> SearchProvider:
    """The provider. Raises ValueError: its key is not set, nothing can be sent to its URL, or a
    package is missing."""
    url = settings.url
    _need("trafilatura", "web")
    if settings.provider == "duckduckgo":
        _need("ddgs", "ddgs")
    match settings.provider:
        case "searxng" if url:
            return SearXNG(url)
        case "brave":
            return brave.Brave(_key(settings, environ), url or brave.URL)
        case "tavily":
            return tavily.Tavily(_key(settings, environ), url or tavily.URL)
        case "duckduckgo":
            return DuckDuckGo()
    raise ValueError(f"web_search: there is no provider '{settings.provider}' without a url")


def _need(package: str, extra: str) -> None:
    """It is not imported: that takes long, and it runs elsewhere."""
    if find_spec(package) is None:
        raise ValueError(
            f"web_search: the package '{package}' is missing: pip install 'antiphon[{extra}]'"
        )


def _key(settings: ProviderSettings, environ: Mapping[str, str]) -> str:
    name = settings.api_key_env
    key = environ.get(name, "").strip() if name else ""
    if not key:
        raise ValueError(
            f"web_search: the environment variable {name} with the key of "
            f"'{settings.provider}' is not set"
        )
    if not key.isprintable() or not key.isascii():
        raise ValueError(f"web_search: the key in {name} has characters that no key can have")
    return key
