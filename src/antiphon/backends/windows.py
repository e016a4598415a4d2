"""Context windows that the configuration names.

A window is the number of tokens that a model can see and say in all.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

#: No window is configured.
NO_WINDOWS: Final[Mapping[str, int]] = {}


def configured_window(windows: Mapping[str, int], model: str) -> int | None:
    """The window of `model`, by its name at the upstream: an exact name beats a wildcard, and
    among wildcards the first one wins."""
    if not windows:
        return None
    exact = windows.get(model)
    if exact is not None:
        return exact
    return next(
        (size for pattern, size in windows.items() if fnmatchcase(model, pattern)),
        None,
    )
