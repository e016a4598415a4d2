"""Fixtures of the engine's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.library import Library


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    """Vector stores with fakes around them."""
    made = Library(tmp_path)
    await made.store.open()
    yield made
    await made.store.close()
