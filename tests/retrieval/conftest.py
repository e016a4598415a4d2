"""Indexes in a folder of their own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.retrieval.indexes import Indexes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the index files are; nobody made it yet."""
    return tmp_path / "data" / "vector_stores"


@pytest.fixture
async def indexes(folder: Path) -> AsyncIterator[Indexes]:
    """What is tested."""
    made = Indexes(folder)
    yield made
    await made.aclose()
