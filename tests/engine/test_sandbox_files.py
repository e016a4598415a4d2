"""Files between the rows of a container and its sandbox (R-110, R-111)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.engine.sandbox_files import TOO_MANY, UNNAMED
from antiphon.sandbox.base import (
    MOST_LISTED,
    BoxFile,
)
from tests.engine.bench import until
from tests.engine.filing import opened
from tests.engine.sandboxes import Stage
from tests.engine.test_containers import Boxes


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with opened(tmp_path) as world:
        stage = Stage(Boxes(world))
        yield stage
        await stage.sessions.aclose()


async def test_what_code_makes_is_kept(stage: Stage) -> None:
    """Once: what has not changed is not kept again, and a file keeps its id."""
    box = await stage.boxes.box()
    done = await stage.run(box, "write a.txt one", "write deep/b.txt two", "print hi")
    assert [file.path for file in done.files] == ["/mnt/data/a.txt", "/mnt/data/deep/b.txt"]
    assert done.outputs == [{"type": "logs", "logs": "hi"}]
    assert await stage.boxes.texts(box) == {"a.txt": b"one", "deep/b.txt": b"two"}
    again = await stage.run(box, "write a.txt three")
    assert again.files == [done.files[0]]
    assert (await stage.run(box, "print hi")).files == []
    assert await stage.boxes.texts(box) == {"a.txt": b"three", "deep/b.txt": b"two"}
    await stage.run(box, "delete a.txt")
    assert await stage.boxes.texts(box) == {"deep/b.txt": b"two"}
    assert len(stage.sandboxes.made) == 1


async def test_code_has_what_users_bring(stage: Stage) -> None:
    """Before its first run and between two; what they delete is gone, too."""
    box = await stage.boxes.box()
    first = await stage.boxes.upload(box, b"1", "a.txt")
    done = await stage.run(box, "print hi")
    assert done.files == [], "it is not the code's"
    assert stage.last.files_["a.txt"][0] == b"1"
    await stage.boxes.upload(box, b"22", "a.txt")
    await stage.boxes.upload(box, b"3", "b.txt")
    assert (await stage.run(box, "print hi")).files == []
    assert {name: body for name, (body, _) in stage.last.files_.items()} == {
        "a.txt": b"22",
        "b.txt": b"3",
    }
    await stage.boxes.service.delete_file("alpha", box, first.id)
    await stage.run(box, "print hi")
    assert list(stage.last.files_) == ["b.txt"]


async def test_what_has_no_room_is_lost_and_the_model_knows(stage: Stage) -> None:
    """R-111: a container may have 100 bytes."""
    box = await stage.boxes.box()
    done = await stage.run(box, f"write large.txt {'x' * 90}", f"write more.txt {'y' * 20}")
    assert [file.path for file in done.files] == ["/mnt/data/large.txt"]
    (note,) = done.notes
    assert note.startswith("The file /mnt/data/more.txt could not be kept: ")
    done = await stage.run(box, f"write large.txt {'z' * 95}")
    assert len(done.files) == 1, "a file makes room for itself"


async def test_a_large_file_can_be_renamed(stage: Stage) -> None:
    """What goes makes room first."""
    box = await stage.boxes.box()
    await stage.run(box, f"write a.txt {'x' * 90}")
    done = await stage.run(box, "delete a.txt", f"write b.txt {'x' * 90}")
    assert (done.notes, len(done.files)) == ([], 1)
    assert list(await stage.boxes.texts(box)) == ["b.txt"]


async def test_what_is_not_listed_is_not_deleted(stage: Stage) -> None:
    """Hidden files, and those beyond the number that is listed."""
    box = await stage.boxes.box()
    await stage.boxes.upload(box, b"secret", ".env")
    await stage.boxes.upload(box, b"1", "a.txt")
    await stage.run(box, "print hi")
    for number in range(MOST_LISTED + 5):
        stage.last.write(f"empty{number}", b"")
    stage.last.files_["a.txt"] = stage.last.files_.pop("a.txt")  # the last in the list
    done = await stage.run(box, "print hi")
    assert TOO_MANY in done.notes
    assert len(done.notes) <= 6, "they are not told one by one"
    kept = await stage.boxes.texts(box)
    assert {".env", "a.txt"} < kept.keys()
    del stage.last.files_[".env"]
    await stage.run(box, "print hi")
    assert ".env" not in await stage.boxes.texts(box)


async def test_as_many_files_as_may_be_are_not_too_many(stage: Stage) -> None:
    box = await stage.boxes.box()
    await stage.run(box, "print hi")
    for number in range(MOST_LISTED):
        stage.last.write(f"empty{number}", b"")
    done = await stage.run(box, "print hi")
    assert (done.notes, len(done.files)) == ([], MOST_LISTED)


async def test_what_has_no_decent_name_is_lost_and_the_model_knows(stage: Stage) -> None:
    """Spaces of any script are decent: a client may give them to a file, too."""
    box = await stage.boxes.box()
    given = await stage.boxes.upload(box, b"old", "a\u3000b.csv")
    await stage.run(box, "print hi")
    stage.last.write("a\u3000b.csv", b"new")
    stage.last.write("a\u202eb", b"lost")
    done = await stage.run(box, "print hi")
    assert done.notes == [UNNAMED]
    assert [file.file_id for file in done.files] == [given.id]
    assert await stage.boxes.texts(box) == {"a\u3000b.csv": b"new"}


async def test_files_are_kept_whoever_leaves(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the code has ended: the next run waits for that."""
    box = await stage.boxes.box()
    await stage.run(box, "print hi")
    free = asyncio.Event()
    files = stage.last.files

    async def slow() -> list[BoxFile]:
        await free.wait()
        return await files()

    monkeypatch.setattr(stage.last, "files", slow)
    leaving = asyncio.create_task(stage.run(box, "write a.txt one"))
    await until(lambda: "a.txt" in stage.last.files_)
    await asyncio.sleep(0.01)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    waiting = asyncio.create_task(stage.run(box, "print hi"))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    free.set()
    await waiting
    assert await stage.boxes.texts(box) == {"a.txt": b"one"}
    assert len(stage.sandboxes.made) == 1


async def test_a_blob_that_is_gone_is_in_nobodys_way(stage: Stage) -> None:
    box = await stage.boxes.box()
    file = await stage.boxes.upload(box, b"1", "a.txt")
    await stage.boxes.upload(box, b"2", "b.txt")
    await stage.boxes.world.blobs.delete(file.blob)
    done = await stage.run(box, "print hi")
    assert not done.has_failed
    assert "could not be brought" in done.notes[0]
    assert list(stage.last.files_) == ["b.txt"]


async def test_files_of_earlier_calls_can_be_linked(stage: Stage) -> None:
    box = await stage.boxes.box()
    await stage.boxes.upload(box, b"1", "mine.txt")
    await stage.run(box, "write a.txt one")
    done = await stage.run(box, "write b.txt two")
    assert [file.path for file in done.links] == ["/mnt/data/a.txt", "/mnt/data/b.txt"]


async def test_a_new_file_needs_no_room_beside_the_old_one(stage: Stage) -> None:
    """R-111: the sandbox may have 100 bytes, too."""
    box = await stage.boxes.box()
    old = await stage.boxes.upload(box, b"a" * 80)
    await stage.run(box, "print hi")
    await stage.boxes.service.delete_file("alpha", box, old.id)
    await stage.boxes.upload(box, b"b" * 70)
    assert (await stage.run(box, "print hi")).notes == []
    assert stage.last.files_["a.txt"][0] == b"b" * 70


async def test_a_file_that_cannot_be_brought_stays_as_it_is(stage: Stage) -> None:
    """The code has none instead, what it writes there is not kept, and the model knows."""
    box = await stage.boxes.box()
    await stage.boxes.upload(box, b"old")
    await stage.run(box, f"write .cache {'x' * 60}")
    await stage.boxes.upload(box, b"b" * 60)
    done = await stage.run(box, "print hi")
    lost = (
        "The file /mnt/data/a.txt could not be brought into the sandbox: No space left on device."
    )
    assert (done.has_failed, done.notes) == (False, [lost])
    assert list(stage.last.files_) == [".cache"]
    done = await stage.run(box, "write a.txt mine")
    assert done.notes[0] == lost
    assert done.notes[1].startswith("The file /mnt/data/a.txt could not be kept: ")
    assert (done.files, await stage.boxes.texts(box)) == ([], {"a.txt": b"b" * 60})
    await stage.run(box, "delete .cache")
    assert (await stage.run(box, "print hi")).notes == []
    assert stage.last.files_["a.txt"][0] == b"b" * 60


async def test_what_a_user_brings_meanwhile_stays(stage: Stage) -> None:
    """Whatever the code makes of the one that it has."""
    box = await stage.boxes.box()
    kept = await stage.boxes.upload(box, b"old")
    other = await stage.boxes.upload(box, b"old", "b.txt")
    run = asyncio.create_task(stage.run(box, "hang", "write a.txt mine", "delete b.txt"))
    await until(lambda: bool(stage.sandboxes.made))
    await stage.last.running.wait()
    assert (await stage.boxes.upload(box, b"new")).id == kept.id
    assert (await stage.boxes.upload(box, b"new", "b.txt")).id == other.id
    stage.last.free.set()
    (note,) = (await run).notes
    assert note.endswith("Write it under another name.")
    assert await stage.boxes.texts(box) == {"a.txt": b"new", "b.txt": b"new"}
    await stage.run(box, "print hi")
    assert {name: body for name, (body, _) in stage.last.files_.items()} == {
        "a.txt": b"new",
        "b.txt": b"new",
    }


async def test_what_cannot_be_read_is_told(stage: Stage) -> None:
    box = await stage.boxes.box()
    done = await stage.run(box, "write closed x")
    assert done.notes == ["The file /mnt/data/closed could not be kept: Permission denied."]
