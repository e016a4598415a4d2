"""What parts of the server are told of the settings."""

from typing import Final

from antiphon.api.lanes import LaneLimits
from antiphon.api.limits import WireLimits
from antiphon.api.socket import SocketOptions
from antiphon.engine.calls import ToolLimits
from antiphon.engine.endings import Retention
from antiphon.engine.jobs import JobOptions
from antiphon.engine.runner import EngineOptions
from antiphon.engine.sealing import parse_encryption_keys
from antiphon.settings import Settings

CREATE: Final = "/v1/responses"

#: Seconds for terminal events and rows after the grace period.
_LAST_WORDS: Final = 3


def engine_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        retention=Retention(settings.retention_days or None, settings.event_log_hours or None),
        jobs=JobOptions(
            most=settings.background_runs,
            lease=settings.lease,
            attempts=settings.background_attempts,
            run_timeout=settings.run_timeout,
            event_heartbeat=settings.event_heartbeat,
        ),
        most_queued=settings.queue_limit,
        most_in_flight=settings.max_in_flight,
        most_in_flight_per_project=settings.max_in_flight_per_project,
        run_timeout=settings.run_timeout,
        shutdown_patience=settings.shutdown_grace + _LAST_WORDS,
        tools=ToolLimits(settings.tool_timeout, settings.tool_turns, settings.tool_output),
        encryption_keys=parse_encryption_keys(settings.encryption_keys),
    )


def socket_options(settings: Settings) -> SocketOptions:
    return SocketOptions(
        path=CREATE,
        minutes=settings.websocket_minutes,
        event_heartbeat=settings.event_heartbeat,
        most=settings.max_websockets,
        most_per_project=settings.max_websockets_per_project,
        lanes=LaneLimits(most_bytes=settings.max_body_bytes),
        access_log=settings.access_log,
    )


def wire_limits(settings: Settings) -> WireLimits:
    return WireLimits(
        header_timeout=settings.header_timeout,
        body_idle_timeout=settings.body_timeout,
        send_timeout=settings.send_timeout,
        keep_alive_timeout=settings.keep_alive,
    )
