"""Providers that are asked by way of any-llm: their packages, and what their servers need."""

import os
import sys
from collections.abc import Mapping

from tests.backends.upstream import Reply
from tests.clients.replies import python_client
from tests.conformance.wire import Remote


def library_path() -> str:
    """``PYTHONPATH`` with any-llm and its SDKs: they want other versions of what we test with."""
    return os.pathsep.join([str(python_client("any-llm")), *sys.path])


class LibraryWire(Remote):
    """What these wires have in common."""

    kind = "any_llm"
    path = ""
    thoughts_back = False
    signatures = False
    images = True

    def environment(self, port: int) -> Mapping[str, str]:
        """More variables of the server; theirs listens at `port`."""
        return {"PYTHONPATH": library_path()}

    def paths(self, *names: str) -> Mapping[str, Reply]:
        """Replies to what is no turn; `names`: of models."""
        return {}
