"""Every setting: name, type, default, one-line meaning (docs/settings.md is made from this file).

Rules
1. Environment variables with the prefix ``ANTIPHON_``, or the same names in a file ``.env``.
2. An unknown ``ANTIPHON_`` name is an error, not a typo that goes unseen (reliability R-132).
3. Secrets come from the environment only; backends name the variable that holds their key.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "ANTIPHON_"

#: The largest values, beyond which clocks, timers and dates do not work: thirty days in seconds, a
#: century in days and hours, and as much as anybody has of anything that is counted.
_SECONDS = 30 * 86_400.0
_DAYS = 36_500
_HOURS = 876_000.0
_COUNT = 1_000_000
_BYTES = 2**62
#: What browsers send as ``Origin``; anything else would never be met.
_ORIGIN = re.compile(r"\*|null|file://|[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")


class Settings(BaseSettings):
    """The server's settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0: any free one.")
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Server processes on one port and one database. With several, whatever may be "
        "there or be done at once is divided among them, rounded up (docs/deploying.md).",
    )
    database_url: str = Field(
        "sqlite+aiosqlite:///./antiphon.db",
        description="Where responses and keys are kept: `sqlite+aiosqlite:///PATH`, or "
        "`memory://` to keep nothing.",
    )
    data_dir: Path = Field(
        Path("./data"),
        description="Folder for what is not in the database: the bytes of files, the indexes of "
        "vector stores. With `memory://` it is a temporary one, which goes with the server.",
    )
    blobs: str = Field(
        "",
        description="Where the bytes of files are: `s3://BUCKET/PREFIX`, below it the id of the "
        "database, with credentials, region and endpoint in the usual `AWS_` variables. Empty: the "
        "folder `files` in the data folder.",
    )
    config: Path = Field(
        Path("./antiphon.toml"), description="The file that maps model names to backends."
    )
    api_keys: str = Field(
        "",
        description="Comma-separated API keys, each `key` or `key:project`. Keys made by "
        "`antiphon keys create` are valid as well.",
    )
    encryption_keys: str = Field(
        "",
        description="Comma-separated secrets that seal `encrypted_content`, each 32 bytes in "
        "base64 or a text of at least 32 characters: the first seals, all open. Empty: keys that "
        "are kept in the database.",
    )
    retention_days: int = Field(
        30, ge=0, le=_DAYS, description="Days that a stored response is kept; 0: for ever."
    )
    discover: bool = Field(
        True,
        description="Without a configuration file: look for Ollama, LM Studio, llama.cpp and vLLM "
        "on their usual loopback ports at start.",
    )
    egress: bool = Field(
        True,
        description="Request URLs that requests, models and webhook endpoints name: MCP servers, "
        "pages, files, webhooks. If not, only what the configuration names is asked: backends, "
        "`[[mcp_servers]]`, the search provider.",
    )
    allow_private_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts, addresses or networks that MCP servers of requests, and webhooks, may "
        "be at although they are private, comma-separated: `127.0.0.1,10.0.0.0/8`. For pages there "
        "is `private_hosts` in `[web_search]`.",
    )
    file_url_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Hosts, addresses or networks that `file_url` of requests, and `image_url` "
        "where this server fetches it, may be at although they are private, comma-separated: "
        "whoever has a key can read what is there.",
    )
    webhook_first_retry: float = Field(
        5.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds after which a webhook that failed is sent again; each further wait is "
        "five times longer, at most six hours.",
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose pages may call the API, comma-separated. Empty: CORS is off.",
    )
    docs: bool = Field(True, description="Serve the interactive API description at `/docs`.")
    public_metrics: bool = Field(
        False, description="Serve `/metrics` without an API key (for a private network)."
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        le=_BYTES,
        description="Largest JSON body that is accepted, in bytes.",
    )
    max_file_bytes: int = Field(
        512 * 1024 * 1024,
        ge=1024,
        le=_BYTES,
        description="Largest file that is accepted in one piece, in bytes.",
    )
    max_upload_bytes: int = Field(
        8 * 1024 * 1024 * 1024,
        ge=1024,
        le=_BYTES,
        description="Largest file that is accepted in parts (`/v1/uploads`), in bytes.",
    )
    max_project_bytes: int = Field(
        0,
        ge=0,
        le=_BYTES,
        description="Bytes that the files, uploads and generated images of one project may have in "
        "all; more are answered 413, an image is not made. 0: no limit.",
    )
    header_timeout: float = Field(
        10.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds within which a request's headers must have arrived.",
    )
    body_timeout: float = Field(
        60.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that a request's body may stand still.",
    )
    send_timeout: float = Field(
        60.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds without progress after which a reader is dropped.",
    )
    keep_alive: float = Field(
        75.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that an idle connection is kept open between requests.",
    )
    accept_timeout: float = Field(
        10.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that a stream waits for the backend to accept the prompt, so that its "
        "refusal can be an HTTP status; then the stream begins and errors become events.",
    )
    heartbeat: float = Field(
        15.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Idle seconds after which a stream gets an SSE comment.",
    )
    event_heartbeat: float = Field(
        120.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Idle seconds after which a stream gets a `response.in_progress` event, for "
        "clients that ignore comments.",
    )
    run_timeout: float = Field(
        3600.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that one response may take.",
    )
    tool_timeout: float = Field(
        60.0,
        gt=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that one call of a hosted tool may take.",
    )
    tool_turns: int = Field(
        32,
        ge=1,
        le=1_000,
        description="Turns that a model may take in one response while it calls tools; in the last "
        "one it has to do without hosted tools.",
    )
    tool_output: int = Field(
        256 * 1024,
        ge=1_024,
        le=16 * 1024 * 1024,
        description="Characters that one call of a hosted tool may bring; more is cut off.",
    )
    ingestions: int = Field(
        2,
        ge=0,
        le=1_000,
        description="Files that this process reads for vector stores at once, each in a process of "
        "its own; 0: none, `antiphon worker` does.",
    )
    vector_memory: int = Field(
        512 * 1024 * 1024,
        ge=0,
        le=_BYTES,
        description="Bytes that the vectors of stores take in memory; of stores that were searched "
        "longest ago they are read again when they are needed.",
    )
    sandbox: str = Field(
        "",
        description="The folder of the Python that code runs with, made by `antiphon sandbox "
        "install`. Empty: the folder `sandbox` in the data folder.",
    )
    containers: int = Field(
        20,
        ge=1,
        le=1_000,
        description="Containers that have a live Python session at once in one server or worker; "
        "the one that was used longest ago ends for another, and keeps its files.",
    )
    project_containers: int = Field(
        1_000,
        ge=1,
        le=1_000_000,
        description="Containers of one project that are not over, those of `auto` included.",
    )
    container_memory: int = Field(
        1024 * 1024 * 1024,
        ge=1024 * 1024 * 1024,
        le=_BYTES,
        description="Most memory that a container may ask for as its `memory_limit`, in bytes; "
        "without one it is `1g`.",
    )
    container_disk: int = Field(
        512 * 1024 * 1024,
        ge=1024 * 1024,
        le=_BYTES,
        description="Bytes that the files of one container may have in all.",
    )
    shutdown_grace: float = Field(
        30.0,
        ge=0,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds that running responses have to end at shutdown.",
    )
    background_runs: int = Field(
        16,
        ge=0,
        le=_COUNT,
        description="Background responses that this process makes at once; 0: none, `antiphon "
        "worker` does.",
    )
    queue_limit: int = Field(
        1000,
        ge=0,
        le=_COUNT,
        description="Background responses that may wait for their turn; more are answered 429 with "
        "Retry-After. 0: every background response is.",
    )
    background_attempts: int = Field(
        3,
        ge=1,
        le=_COUNT,
        description="Processes that may die over one background response before it is failed.",
    )
    lease: float = Field(
        10.0,
        ge=0.5,
        le=_SECONDS,
        allow_inf_nan=False,
        description="Seconds of silence after which another process takes over the responses of "
        "one that seems dead.",
    )
    event_log_hours: float = Field(
        24.0,
        ge=0,
        le=_HOURS,
        allow_inf_nan=False,
        description="Hours that the events of a background response can be replayed after its end; "
        "0: as long as the response is kept.",
    )
    max_in_flight: int = Field(
        2000,
        ge=1,
        le=_COUNT,
        description="Responses that are made in the foreground at once; more are answered 503 with "
        "Retry-After.",
    )
    max_in_flight_per_project: int = Field(
        1000,
        ge=1,
        le=_COUNT,
        description="As many of them for one project; more are answered 429 with Retry-After.",
    )
    websocket_minutes: float = Field(
        60.0,
        gt=0,
        le=_SECONDS / 60,
        allow_inf_nan=False,
        description="Minutes that a WebSocket may last; what runs then may end first.",
    )
    max_websockets: int = Field(
        2000,
        ge=0,
        le=_COUNT,
        description="WebSockets that are open at once; more are answered 503 with Retry-After.",
    )
    max_websockets_per_project: int = Field(
        1000,
        ge=0,
        le=_COUNT,
        description="As many of them for one project; more are answered 429 with Retry-After.",
    )
    min_free_disk: int = Field(
        64 * 1024 * 1024,
        ge=0,
        le=_BYTES,
        description="Bytes that must be free on the disk of the database; with less the server is "
        "not ready. On the disk of the data folder no file is accepted, or read for vector "
        "stores, that would leave less.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line that is written."
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")
    access_log: bool = Field(False, description="Write one log line for each request.")

    @field_validator("allow_private_hosts", "file_url_hosts", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no origin such as https://app.example, or '*'")
        return origins

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        known = {PREFIX + name.upper() for name in type(self).model_fields}
        names = set(os.environ)
        env_file = Path(".env")
        if env_file.is_file():
            lines = env_file.read_text(encoding="utf-8").splitlines()
            names |= {line.split("=")[0].removeprefix("export ").strip() for line in lines}
        unknown = sorted(n for n in names if n.startswith(PREFIX) and n.upper() not in known)
        if unknown:
            raise ValueError(f"unknown setting: {', '.join(unknown)}")
        return self
