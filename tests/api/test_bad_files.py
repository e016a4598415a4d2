"""The bad files over HTTP: each ends as it should, nothing else is harmed (R-100, R-101)."""

import pytest

from tests.api.shelves import DOGS, Shelves
from tests.documents.corpus import CORPUS, Case
from tests.live import LiveServer

#: Bytes that the server itself may have more at the end: the readers have their own.
_MORE = 96 * 1024 * 1024
#: What takes long says nothing more here than in tests/documents.
_SLOW = "gigabyte"
CASES = [case for case in CORPUS if _SLOW not in case.name]


@pytest.fixture(scope="module")
def bodies() -> dict[str, bytes]:
    return {case.name: case.build() for case in CASES}


def test_each_ends_as_it_should(
    bodies: dict[str, bytes], shelves: Shelves, server: LiveServer
) -> None:
    """One store with all of them, and a good file that is found at the end as at the beginning."""
    good = shelves.file(DOGS, "good.txt")
    cases: dict[str, Case] = {
        shelves.file(bodies[case.name], case.filename): case for case in CASES
    }
    before = server.memory()
    store = shelves.store(good)
    for file_id in cases:
        shelves.post(f"/{store}/files", {"file_id": file_id})
    shelves.read(store, patience=300.0)
    for file_id, case in cases.items():
        file = shelves.get(f"/{store}/files/{file_id}")
        if case.code is None:
            assert (file["status"], file["last_error"]) == ("completed", None), case.name
        else:
            assert file["status"] == "failed", case.name
            assert file["last_error"]["code"] == case.code, (case.name, file["last_error"])
            assert case.says in file["last_error"]["message"], (case.name, file["last_error"])
    assert good in shelves.found(store, "what barks?")
    assert server.memory() - before < _MORE
