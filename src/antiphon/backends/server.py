"""One model server: where it is, how it is asked, what the operator says of its models. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from antiphon.backends.origins import Origin
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.windows import NO_WINDOWS


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """One model server, whatever it speaks. Times in seconds."""

    name: str
    #: With the version in it: ``http://127.0.0.1:8001/v1``.
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    #: A key that the client sends takes the place of that one.
    client_key: bool = False
    #: The variable that `api_key` comes from, if that says whose it is (`origins`).
    account: str | None = None
    #: A key of the adapter's profiles; None guesses.
    profile: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    #: Name at the upstream, or a wildcard → tokens; what is not there the server may know.
    windows: Mapping[str, int] = field(default_factory=lambda: NO_WINDOWS)
    #: Names at the upstream, or wildcards, of models that see, and of those that can be told a JSON
    #: Schema; None: as the adapter has it.
    vision: Sequence[str] | None = None
    json_schema: Sequence[str] | None = None
    #: Hosted tools that it runs itself.
    hosted_tools: frozenset[str] = frozenset()
    connect_timeout: float = 5.0
    first_byte_timeout: float = 60.0
    idle_timeout: float = 60.0
    total_timeout: float = 3600.0
    max_retries: int = 2
    #: Calls at a time; more wait for half of `first_byte_timeout`. None: no limit.
    max_concurrency: int | None = None
    #: Before the first retry, give or take half; doubled for each further one.
    retry_wait: float = 0.25
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def origin(self, kind: str, address: str, key: str | None = None) -> Origin:
        """Whose the thoughts of an answer are; `key`: the client's own, if it sent one."""
        if key and self.client_key:
            return Origin.of(kind, address, f"key {key}")
        account = f"name {self.name}" if self.account is None else f"variable {self.account}"
        return Origin.of(kind, address, account)

    def sees(self, model: str) -> bool | None:
        """Whether a model sees, by its name at the upstream; None: the configuration says
        nothing."""
        return _listed(model, self.vision)

    def has_schemas(self, model: str) -> bool | None:
        """The same for schemas."""
        return _listed(model, self.json_schema)


def _listed(model: str, names: Sequence[str] | None) -> bool | None:
    return None if names is None else any(fnmatchcase(model, name) for name in names)
