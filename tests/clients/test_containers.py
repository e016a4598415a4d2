"""openai-python with `client.containers` (spec §2.5; issue 7)."""

import asyncio
import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.live import KEY, LiveServer

MINUTE = 60


@pytest.fixture
def sdk(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


def pass_time(folder: Path, container: str, seconds: int) -> None:
    """So much later, the container is so much longer unused."""
    with closing(sqlite3.connect(folder / "antiphon.db", isolation_level=None)) as database:
        database.execute(
            "UPDATE containers SET last_active_at = last_active_at - ? WHERE id = ?",
            (seconds, container),
        )


def test_a_container(sdk: OpenAI) -> None:
    made = sdk.containers.create(
        name="analysis",
        expires_after={"anchor": "last_active_at", "minutes": 10},
        memory_limit="1g",
        network_policy={"type": "disabled"},
    )
    assert (made.object, made.name, made.status) == ("container", "analysis", "running")
    assert made.expires_after is not None
    assert (made.expires_after.anchor, made.expires_after.minutes) == ("last_active_at", 10)
    assert made.memory_limit == "1g"
    assert made.network_policy is not None
    assert made.network_policy.type == "disabled"
    assert made.last_active_at == made.created_at
    there = sdk.containers.retrieve(made.id)
    assert there.model_dump(exclude={"last_active_at"}) == made.model_dump(
        exclude={"last_active_at"}
    )
    sdk.containers.delete(made.id)
    with pytest.raises(openai.NotFoundError, match=f"Container with id '{made.id}' not found"):
        sdk.containers.retrieve(made.id)


def test_pages(sdk: OpenAI) -> None:
    made = [sdk.containers.create(name="page").id for _ in range(5)]
    found = [one.id for one in sdk.containers.list(name="page", limit=2, order="asc")]
    assert found == made
    assert [one.id for one in sdk.containers.list(name="page")] == made[::-1]
    box = made[0]
    files = [sdk.containers.files.create(box, file=(f"{n}.txt", b"x" * n)).id for n in range(5)]
    assert [one.id for one in sdk.containers.files.list(box, limit=2, order="asc")] == files
    assert [one.bytes for one in sdk.containers.files.list(box)] == [4, 3, 2, 1, 0]
    for id_ in made:
        sdk.containers.delete(id_)


@pytest.mark.parametrize("kind", ["bytes", "tuple", "path", "stream"])
def test_a_file_in_every_form(sdk: OpenAI, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "grün.csv"
    path.write_bytes(b"1,2\n" * 1000)
    given = {
        "bytes": path.read_bytes(),
        "tuple": ("grün.csv", path.read_bytes(), "text/csv"),
        "path": path,
        "stream": io.BytesIO(path.read_bytes()),
    }[kind]
    box = sdk.containers.create(name="box").id
    made = sdk.containers.files.create(box, file=given)  # type: ignore[arg-type]
    name = "upload" if kind in ("bytes", "stream") else "grün.csv"
    assert (made.object, made.container_id, made.source) == ("container.file", box, "user")
    assert (made.path, made.bytes) == (f"/mnt/data/{name}", 4000)
    retrieved = sdk.containers.files.retrieve(made.id, container_id=box)
    assert retrieved.model_dump() == made.model_dump()
    content = sdk.containers.files.content.retrieve(made.id, container_id=box)
    assert content.read() == path.read_bytes()
    sdk.containers.files.delete(made.id, container_id=box)
    with pytest.raises(openai.NotFoundError, match=f"Container file with id '{made.id}'"):
        sdk.containers.files.retrieve(made.id, container_id=box)
    sdk.containers.delete(box)


def test_files_by_their_ids(sdk: OpenAI) -> None:
    """Copies: the originals can go."""
    one = sdk.files.create(file=("one.txt", b"one"), purpose="user_data").id
    two = sdk.files.create(file=("two.txt", b"two"), purpose="assistants").id
    box = sdk.containers.create(name="box", file_ids=[one]).id
    made = sdk.containers.files.create(box, file_id=two)
    assert (made.path, made.bytes, made.source) == ("/mnt/data/two.txt", 3, "user")
    for id_ in (one, two):
        sdk.files.delete(id_)
    listed = list(sdk.containers.files.list(box, order="asc"))
    assert [file.path for file in listed] == ["/mnt/data/one.txt", "/mnt/data/two.txt"]
    contents = [
        sdk.containers.files.content.retrieve(file.id, container_id=box).read() for file in listed
    ]
    assert contents == [b"one", b"two"]
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {one}") as caught:
        sdk.containers.create(name="box", file_ids=[one])
    assert caught.value.param == "file_ids"
    sdk.containers.delete(box)


def test_a_container_expires(sdk: OpenAI, server: LiveServer) -> None:
    """R-110: when nobody uses it for so long; every use counts, and none brings it back."""
    box = sdk.containers.create(
        name="brief", expires_after={"anchor": "last_active_at", "minutes": 2}
    ).id
    inside = sdk.containers.files.create(box, file=("a.txt", b"x")).id
    for _ in range(3):
        pass_time(server.folder, box, MINUTE)
        assert sdk.containers.files.content.retrieve(inside, container_id=box).read() == b"x"
    pass_time(server.folder, box, 2 * MINUTE)
    for _ in range(2):
        with pytest.raises(openai.NotFoundError, match=r"Container is expired\.") as caught:
            sdk.containers.retrieve(box)
        assert caught.value.code == "container_expired"
    with pytest.raises(openai.NotFoundError, match=r"Container is expired\."):
        sdk.containers.files.create(box, file=b"x")
    assert list(sdk.containers.list(name="brief")) == []


def test_what_is_refused(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="containers have no network") as caught:
        sdk.containers.create(
            name="box", network_policy={"type": "allowlist", "allowed_domains": ["example.com"]}
        )
    assert caught.value.param == "network_policy"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.containers.create(name="box", memory_limit="64g")
    assert caught.value.param == "memory_limit"


def test_the_asynchronous_client(server: LiveServer) -> None:
    async def run() -> list[bytes]:
        async with AsyncOpenAI(base_url=server.base_url, api_key=KEY) as sdk:
            box = (await sdk.containers.create(name="box")).id
            files = sdk.containers.files
            made = await asyncio.gather(
                *(files.create(box, file=(f"{n}.txt", b"%d" % n)) for n in range(10))
            )
            contents = [await files.content.retrieve(one.id, container_id=box) for one in made]
            await sdk.containers.delete(box)
            return [content.read() for content in contents]

    assert asyncio.run(run()) == [b"%d" % n for n in range(10)]
