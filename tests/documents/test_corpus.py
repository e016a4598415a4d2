"""What comes of each file of the corpus: R-96, R-100, R-118, R-129."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from antiphon.documents.base import Unreadable
from antiphon.documents.limits import TEXT_SECONDS
from antiphon.documents.reader import DocumentReader
from antiphon.workers_side import LONGER
from tests.documents.corpus import CORPUS, Case


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reader() -> AsyncIterator[DocumentReader]:
    made = DocumentReader(most=1)
    yield made
    await made.aclose()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
async def test_what_comes_of_it(reader: DocumentReader, tmp_path: Path, case: Case) -> None:
    path = tmp_path / "stored"
    await asyncio.to_thread(lambda: path.write_bytes(case.build()))
    start = time.monotonic()
    if case.code is None:
        text = await reader.text("p", path, case.filename)
        assert case.says in text
        assert text.strip()
    else:
        with pytest.raises(Unreadable) as raised:
            await reader.text("p", path, case.filename)
        assert raised.value.code == case.code
        assert case.says in raised.value.message
        assert str(path) not in raised.value.message
        assert len(raised.value.message) < 120
    assert time.monotonic() - start < LONGER * TEXT_SECONDS


def test_names_are_different() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS)
