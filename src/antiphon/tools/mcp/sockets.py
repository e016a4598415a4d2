"""Sockets to MCP servers, of which there are only so many (reliability R-90).

Rules
1. The process has one limit for all that it opens. Servers that never let go must leave enough of
   it to clients, models and the database.
"""

import errno
import socket
from collections.abc import Callable
from typing import Final, TypeAlias
from weakref import WeakSet

from antiphon.egress import AddressInfo

Factory: TypeAlias = Callable[[AddressInfo], socket.socket]

#: Of all connections together, and of one: its calls, the stream that it listens on, its notes.
MOST_SOCKETS: Final = 512
MOST_OF_ONE: Final = 64

_made: Final[WeakSet[socket.socket]] = WeakSet()


def counted(make: Factory) -> Factory:
    """`make`, which refuses with `OSError` while too many are open."""

    def make_counted(info: AddressInfo) -> socket.socket:
        if sum(made.fileno() >= 0 for made in _made) >= MOST_SOCKETS:
            raise OSError(errno.EMFILE, "too many connections to MCP servers")
        made = make(info)
        _made.add(made)
        return made

    return make_counted


def any_address(info: AddressInfo) -> socket.socket:
    """A socket for an address that nobody judges."""
    family, kind, protocol, *_ = info
    return socket.socket(family, kind, protocol)
