"""The webhook endpoints of the configuration."""

import hashlib
import os
import time

from antiphon.api.auth import PROJECT_RULE, is_project
from antiphon.config import Config, ConfigError, WebhookConfig
from antiphon.egress import Policy
from antiphon.protocol.webhooks import FIRED, signing_key
from antiphon.store.base import Endpoint


def fixed_webhooks(config: Config | None, policy: Policy) -> list[Endpoint]:
    """The endpoints of the configuration. What waits for one is kept as long as its project and
    name are the same."""
    now = int(time.time())
    return [
        Endpoint(
            id=f"whe_{hashlib.sha256(f'{entry.project}/{name}'.encode()).hexdigest()[:48]}",
            project=entry.project,
            name=name,
            url=entry.url,
            event_types=list(FIRED) if entry.event_types is None else entry.event_types,
            secret=_webhook_secret(entry, policy),
            created_at=now,
            updated_at=now,
            fixed=True,
        )
        for entry in (config.webhooks if config is not None else ())
        for name in (entry.title,)
    ]


def _webhook_secret(entry: WebhookConfig, policy: Policy) -> str:
    """The secret of an entry in which everything else is right, too."""
    where = f"webhook '{entry.title}'"
    secret = os.environ.get(entry.secret_env)
    if not secret:
        raise ConfigError(f"{where}: {entry.secret_env} is not set")
    if not is_project(entry.project):
        raise ConfigError(f"{where}: {PROJECT_RULE}")
    if strangers := sorted(set(entry.event_types or ()) - set(FIRED)):
        raise ConfigError(
            f"{where}: no event '{strangers[0]}' happens here; there are {', '.join(FIRED)}"
        )
    try:
        signing_key(secret)
        policy.parse(entry.url)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return secret
