"""The limits of the HTTP wire (reliability R-18 to R-20, R-117)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Times in seconds, sizes in bytes."""

    #: From the first byte (or the connect) to the end of the head. R-18.
    header_timeout: float = 10.0
    #: A body may stand still for so long. R-18.
    body_idle_timeout: float = 60.0
    #: Bytes per second that a body must bring on average, once `min_rate_after` is over. R-18.
    min_body_rate: float = 1024.0
    min_rate_after: float = 10.0
    #: Request line and header fields together; also all that chunked coding may add to a body.
    max_header_bytes: int = 64 * 1024
    #: Node and nginx allow about as many.
    max_headers: int = 100
    #: The request target; nginx's default.
    max_target_bytes: int = 8 * 1024
    #: Requests that may wait behind the one that is answered.
    max_pipelined: int = 16
    #: A reader that takes nothing for so long is dropped. R-117.
    send_timeout: float = 60.0
    #: A quiet WebSocket is asked whether it is alive; who does not say so within `send_timeout` is
    #: dropped. Proxies cut connections that are quiet for a minute.
    ping_interval: float = 20.0
    #: Lingering close: what is read and dropped, so that the client can read the refusal. R-20.
    linger_bytes: int = 1024 * 1024
    linger_timeout: float = 1.0
    #: An idle keep-alive connection is closed.
    keep_alive_timeout: float = 30.0
