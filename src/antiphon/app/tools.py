"""The hosted tools of the configuration, and where they may go."""

import os

from antiphon.config import Config, ConfigError, WebSearchConfig
from antiphon.egress import Egress, Policy
from antiphon.settings import Settings
from antiphon.tools.base import Tool
from antiphon.tools.mcp.servers import configured
from antiphon.tools.mcp.tool import Mcp
from antiphon.tools.web.providers import provider_from
from antiphon.tools.web.tool import TYPES as WEB_SEARCH
from antiphon.tools.web.tool import WebSearch, WebSearchOptions


def policy_of(settings: Settings) -> Policy:
    try:
        return Policy(settings.allow_private_hosts, closed=not settings.egress)
    except ValueError as error:
        raise ConfigError(f"ANTIPHON_ALLOW_PRIVATE_HOSTS: {error}") from None


def tools_of(config: Config, policy: Policy) -> dict[str, Tool]:
    """The hosted tools by the `type` of a request's tool. A new one is a line here."""
    search = config.web_search
    try:
        servers = configured(config.mcp_servers, os.environ)
        provider = None if search is None else provider_from(search, os.environ)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    options = WebSearchOptions()
    if search is not None:
        allowed = search.allowed_domains
        options = WebSearchOptions(
            search.respect_robots, None if allowed is None else tuple(allowed)
        )
    web = WebSearch(provider, Egress(_pages_policy(search, closed=policy.closed)), options)
    return {"mcp": Mcp(policy, servers), **dict.fromkeys(WEB_SEARCH, web)}


def _pages_policy(search: WebSearchConfig | None, *, closed: bool) -> Policy:
    """A model chooses pages, and strangers tell it which: what MCP servers and webhooks may be at
    does not count for them (R-126)."""
    try:
        hosts = search.private_hosts if search is not None else ()
        return Policy(hosts, "web_search.private_hosts", closed=closed)
    except ValueError as error:
        raise ConfigError(f"web_search.private_hosts: {error}") from None
