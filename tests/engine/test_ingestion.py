"""Files on their way into indexes: what goes wrong where (decision 0008; R-57, R-101, R-104)."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.documents.base import Unreadable
from antiphon.engine import ingestion, loops
from antiphon.errors import Overloaded, UpstreamError
from antiphon.retrieval.base import TooManyVectors
from antiphon.store.base import Ingestion, NewFile, StoreFile
from tests.engine.bench import until
from tests.engine.library import FakeEmbedder, Library


def said(file: StoreFile) -> tuple[str, str | None]:
    """State, and code of the error."""
    return file.status, file.error and file.error[0]


async def test_a_file_is_read(library: Library) -> None:
    row = await library.filled("first line\nsecond line")
    (file,) = await library.files(row.id)
    assert said(file) == ("completed", None)
    assert file.usage_bytes == len("first linesecond line")
    kept = library.index.kept[row.id][file.number]
    assert kept == ("first line\nsecond li", ["first line", "second line"], None)


async def test_with_vectors(library: Library) -> None:
    embedder = FakeEmbedder()
    row = await library.shelf(await library.file("one\ntwo"))
    async with library.reading(embedder=embedder):
        (file,) = await library.read(row.id)
    vectors = library.index.kept[row.id][file.number][2]
    assert vectors is not None
    assert (vectors.model, len(vectors.rows), vectors.halves) == ("small", 2, True)
    assert file.usage_bytes == len("onetwo") + 8


async def test_no_more_at_once_than_may(library: Library) -> None:
    library.documents.gate.clear()
    row = await library.shelf(*[await library.file() for _ in range(5)])
    async with library.reading():
        await until(lambda: len(library.documents.reading) == 2)
        library.documents.gate.set()
        await library.read(row.id)
    assert library.documents.most == 2


async def test_a_process_may_read_nothing(library: Library) -> None:
    """It forgets what is to be forgotten all the same."""
    row = await library.filled("one")
    await library.shelf(await library.file())
    (file,) = await library.files(row.id)
    await library.store.vector_stores.remove_file("p", row.id, file.file_id)
    async with library.reading(most=0):
        await until(lambda: library.index.kept[row.id] == {})
    assert "claim" not in library.ingestions.said[-3:]


@pytest.mark.parametrize(
    ("trouble", "code", "message"),
    [
        (Unreadable("unsupported_file", "Not that."), "unsupported_file", "Not that."),
        (Unreadable("invalid_file", "Broken."), "invalid_file", "Broken."),
        (ZeroDivisionError(), "server_error", "The file could not be read."),
    ],
    ids=["unsupported", "invalid", "a mistake of ours"],
)
async def test_a_bad_file_fails_alone(
    library: Library, trouble: Exception, code: str, message: str
) -> None:
    """R-101."""
    library.documents.trouble = [trouble]
    row = await library.shelf(await library.file(), await library.file())
    with capture_logs() as logs:
        async with library.reading(most=1):
            bad, good = await library.read(row.id)
    assert bad.error == (code, message)
    assert said(good) == ("completed", None)
    broke = [entry["event"] for entry in logs if entry["event"] == "ingestion_broke"]
    assert bool(broke) == isinstance(trouble, ZeroDivisionError)


async def test_the_bytes_are_away(library: Library, tmp_path: Path) -> None:
    """A disk that is not mounted: they may come back, and fail the file if they do not."""
    back, gone = await library.file("back"), await library.file("gone")
    row = await library.shelf(back, gone)
    for id_ in (back, gone):
        (library.blobs.folder / id_).rename(tmp_path / id_)
    with capture_logs() as logs:
        async with library.reading():
            for tries in range(1, 11):
                if tries == 2:
                    (tmp_path / back).rename(library.blobs.folder / back)
                await until(lambda n=tries: len(_put_off(logs)) == n + 1)  # type: ignore[misc]
                library.clock.now += ingestion._LONGEST_WAIT
            first, second = await library.read(row.id)
    assert said(first) == ("completed", None)
    assert second.error == ("server_error", "The content of the file is gone.")


async def test_trouble_around_puts_it_off(library: Library) -> None:
    """For longer each time; others go on meanwhile."""
    embedder = FakeEmbedder()
    embedder.trouble = [Overloaded("The model is busy.")] * 3
    row = await library.shelf(await library.file())
    began = library.clock.now
    with capture_logs() as logs:
        async with library.reading(embedder=embedder, most=1):
            for wait in (1, 2, 4):
                tries = wait.bit_length()
                await until(lambda n=tries: len(_put_off(logs)) == n)  # type: ignore[misc]
                assert [said(one) for one in await library.files(row.id)] == [("in_progress", None)]
                library.clock.now += wait
            (file,) = await library.read(row.id)
    assert said(file) == ("completed", None)
    assert library.clock.now == began + 7
    assert [entry["tries"] for entry in _put_off(logs)] == [1, 2, 3]


def _put_off(logs: object) -> list[dict[str, object]]:
    assert isinstance(logs, list)
    return [entry for entry in logs if entry["event"] == "ingestion_put_off"]


async def test_after_too_many_tries_it_fails(library: Library) -> None:
    """With the last reason; the wait never grows beyond `_LONGEST_WAIT`."""
    embedder = FakeEmbedder()
    embedder.trouble = [Overloaded("The model is busy.")] * 10
    row = await library.shelf(await library.file())
    with capture_logs() as logs:
        async with library.reading(embedder=embedder):
            for tries in range(1, 11):
                await until(lambda n=tries: len(_put_off(logs)) == n)  # type: ignore[misc]
                library.clock.now += min(ingestion._LONGEST_WAIT, 2 ** (tries - 1))
            (file,) = await library.read(row.id)
    assert file.error == ("server_error", "The model is busy.")


async def test_too_many_vectors_are_the_files_fault(library: Library) -> None:
    """R-101."""
    embedder = FakeEmbedder()
    embedder.trouble = [TooManyVectors("The file has 9 chunks.")]
    row = await library.shelf(await library.file())
    async with library.reading(embedder=embedder):
        (file,) = await library.read(row.id)
    assert file.error == ("invalid_file", "The file has 9 chunks.")
    assert "put_off" not in library.ingestions.said


async def test_what_will_never_be_taken_is_not_asked_for_again(library: Library) -> None:
    """A text that is too long for the embedding model stays so."""
    embedder = FakeEmbedder()
    embedder.trouble = [UpstreamError("A text is too long.", should_retry=False)]
    row = await library.shelf(await library.file())
    async with library.reading(embedder=embedder):
        (file,) = await library.read(row.id)
    assert file.error == ("server_error", "A text is too long.")
    assert "put_off" not in library.ingestions.said


# -- the store is out of reach -------------------------------------------------------------------


async def test_a_mistake_of_ours_ends_no_loop(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no `APIError`: each loop says so and begins again."""
    monkeypatch.setattr(loops, "PAUSE", 0.01)
    row = await library.filled("one")
    (file,) = await library.files(row.id)
    await library.store.vector_stores.remove_file("p", row.id, file.file_id)
    library.ingestions.deaf = {"claim", "leftovers"}
    library.ingestions.trouble = [ZeroDivisionError(), ZeroDivisionError()]
    await library.store.vector_stores.put(
        "p", row.id, [NewFile(await library.file(), {}, 800, 400)], None, int(library.clock())
    )
    with capture_logs() as logs:
        async with library.reading():
            (again,) = await library.read(row.id)
            await until(lambda: set(library.index.kept[row.id]) == {again.number})
    broke = sorted(entry["loop"] for entry in logs if entry["event"] == "loop_broke")
    assert broke == ["index-leftovers", "ingestion"]


@pytest.mark.parametrize(
    "deaf",
    [{"complete"}, {"complete", "put_off"}, {"claim"}, {"leftovers"}],
    ids=lambda deaf: " ".join(sorted(deaf)),
)
async def test_the_store_is_out_of_reach_for_a_while(library: Library, deaf: set[str]) -> None:
    """Nothing is lost: the file is told of when that can be done, and read again."""
    library.ingestions.deaf = deaf
    library.ingestions.trouble = [Overloaded()] * len(deaf)
    row = await library.shelf(await library.file(), await library.file())
    async with library.reading():
        await until(lambda: not library.ingestions.trouble)
        library.clock.now += 10
        files = await library.read(row.id)
    assert [file.status for file in files] == ["completed", "completed"]


async def test_a_failure_that_cannot_be_told(library: Library) -> None:
    """It is put off, read again, and fails then."""
    library.documents.trouble = [Unreadable("invalid_file", "Broken.") for _ in range(2)]
    library.ingestions.deaf, library.ingestions.trouble = {"fail", "put_off"}, [Overloaded()] * 2
    row = await library.shelf(await library.file())
    async with library.reading():
        (file,) = await library.read(row.id)
    assert file.error == ("invalid_file", "Broken.")
    assert library.ingestions.said.count("put_off") == 1


async def test_one_more_while_another_is_told_of(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told of, whenever it came."""
    row = await library.shelf(await library.file(), await library.file())
    await library.store.runs.beat("one")
    claimed = await library.store.ingestions.claim("one", 2, int(library.clock()))
    put_off = library.ingestions.put_off
    ingester = library.ingester()

    async def slowly(told: Ingestion, due_at: int) -> bool:
        if told is claimed[0]:
            ingester._untold.append(claimed[1])
        return await put_off(told, due_at)

    monkeypatch.setattr(library.ingestions, "put_off", slowly)
    ingester._untold.append(claimed[0])
    ingester.start()
    files = await library.read(row.id)
    await ingester.close()
    assert [file.status for file in files] == ["completed", "completed"]


# -- ends and deaths -----------------------------------------------------------------------------


async def test_what_was_not_done_is_handed_back(library: Library) -> None:
    library.documents.gate.clear()
    row = await library.shelf(await library.file())
    async with library.reading():
        await until(lambda: len(library.documents.reading) == 1)
    assert library.documents.reading == []
    library.documents.gate.set()
    async with library.reading("two"):
        (file,) = await library.read(row.id)
    assert file.status == "completed"


async def test_the_end_does_not_wait_for_a_store_that_is_gone(library: Library) -> None:
    library.ingestions.deaf, library.ingestions.trouble = {"hand_back"}, [Overloaded("Gone.")]
    with capture_logs() as logs:
        async with library.reading():
            pass
    assert {"event": "ingestions_not_handed_back", "error": "Gone.", "log_level": "warning"} in logs


async def test_a_file_over_which_processes_die(library: Library) -> None:
    """It is read alone after the first death, and fails after the third; its neighbour, which was
    read beside it, does not."""
    runs = library.store.runs
    row = await library.shelf(await library.file(), await library.file(), await library.file())
    taken = []
    for number in range(3):
        owner = f"dead-{number}"
        await runs.beat(owner)
        claimed = await library.store.ingestions.claim(owner, 2, int(library.clock()))
        taken.append([one.number for one in claimed])
        await runs.beat("heir")
        await runs.release(owner, died=True)
    first, second, third = [file.number for file in await library.files(row.id)]
    assert taken == [[first, second], [first], [first]]
    library.documents.gate.clear()
    async with library.reading():
        await until(lambda: len(library.documents.reading) == 1)
        failed, waiting, later = await library.files(row.id)
        assert failed.error is not None
        assert failed.error[1] == "The server was interrupted 3 times while it read the file."
        assert (waiting.status, later.status) == ("in_progress", "in_progress")
        library.documents.gate.set()
        files = await library.read(row.id)
    assert [file.status for file in files] == ["failed", "completed", "completed"]
    assert set(library.index.kept[row.id]) == {second, third}


async def test_what_saw_a_death_waits_until_nothing_else_is_read(library: Library) -> None:
    runs, library.documents.gate = library.store.runs, asyncio.Event()
    await library.shelf(await library.file("risky"))
    await runs.beat("dead")
    await library.store.ingestions.claim("dead", 1, int(library.clock()))
    row = await library.shelf(await library.file("calm"))
    async with library.reading():
        await until(lambda: library.documents.reading == ["calm.txt"])
        await runs.release("dead", died=True)
        claims = library.ingestions.said.count("claim")
        await library.shelf()  # news: it looks again
        await until(lambda: library.ingestions.said.count("claim") > claims + 1)
        assert library.documents.reading == ["calm.txt"]
        library.documents.gate.set()
        await library.read(row.id)
        await until(lambda: len(library.index.kept) == 2)
    assert library.documents.most == 1


async def test_who_comes_too_late_leaves_the_other_his_chunks(library: Library) -> None:
    """R-57: both read the same file, of which the first was taken for dead."""
    library.documents.gate.clear()
    row = await library.shelf(await library.file())
    async with library.reading("one"):
        await until(lambda: len(library.documents.reading) == 1)
        await library.store.runs.release("one", died=True)
        async with library.reading("two"):
            await until(lambda: len(library.documents.reading) == 2)
            library.documents.gate.set()
            (file,) = await library.read(row.id)
            await until(lambda: library.ingestions.said.count("complete") == 2)
    async with library.reading("three", most=0):
        await asyncio.sleep(0)
    assert set(library.index.kept[row.id]) == {file.number}
    assert await library.store.ingestions.leftovers(10) == []


async def test_taken_out_while_it_is_read(library: Library) -> None:
    """R-104: its chunks come after they were forgotten, and go once more."""
    library.documents.gate.clear()
    file = await library.file()
    row = await library.shelf(file)
    async with library.reading():
        await until(lambda: len(library.documents.reading) == 1)
        await library.store.vector_stores.remove_file("p", row.id, file)
        await until(lambda: "forgotten" in library.ingestions.said)
        library.documents.gate.set()
        await until(lambda: library.ingestions.said.count("forgotten") == 2)
    assert library.index.kept[row.id] == {}


# -- what goes -----------------------------------------------------------------------------------


async def test_a_deleted_store_is_cleared_away(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: its index, then its rows, in steps; only then it is forgotten."""
    monkeypatch.setattr(ingestion, "_CLEARED", 2)
    row = await library.filled("1", "2", "3", "4", "5")
    await library.store.vector_stores.delete("p", row.id)
    library.ingestions.said.clear()
    async with library.reading(most=0):
        await until(lambda: "forgotten" in library.ingestions.said)
        said = [name for name in library.ingestions.said if name != "leftovers"]
    assert row.id not in library.index.kept
    assert said == ["clear", "clear", "clear", "forgotten"]
    assert await library.store.ingestions.clear(row.id, 10) == 0


async def test_every_process_lets_go_of_what_others_removed(library: Library) -> None:
    """R-104: also one that reads no files."""
    async with library.reading(most=0):
        await until(lambda: library.index.let_gone)


async def test_a_damaged_index_is_in_nobodys_way(library: Library) -> None:
    """It is left alone for a while; others forget, and it can be removed."""
    bad, good = await library.filled("one"), await library.filled("two")
    stores = library.store.vector_stores
    library.index.damaged[bad.id] = Overloaded("Damaged.")
    for row in (bad, good):
        (file,) = await library.files(row.id)
        await stores.remove_file("p", row.id, file.file_id)
    with capture_logs() as logs:
        async with library.reading():
            await until(lambda: library.index.kept[good.id] == {})
            left = library.ingestions.said.count("leftovers")
            await library.shelf(await library.file())  # news: it looks again
            await until(lambda: library.ingestions.said.count("leftovers") > left + 1)
            assert len(library.index.kept[bad.id]) == 1
            del library.index.damaged[bad.id]
            library.clock.now += ingestion._SPARED
            await library.shelf(await library.file())
            await until(lambda: library.index.kept[bad.id] == {})
            library.index.damaged[good.id] = Overloaded("Damaged.")
            await stores.delete("p", good.id)
            await until(lambda: good.id not in library.index.kept)
    assert [entry["event"] for entry in logs].count("index_spared") == 1
