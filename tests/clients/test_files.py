"""openai-python with `client.files` and `client.uploads` (spec §2.3)."""

import asyncio
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.live import KEY, LiveServer


@pytest.fixture
def sdk(server: LiveServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("kind", ["bytes", "tuple", "path", "stream"])
def test_a_file_in_every_form(sdk: OpenAI, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "grün.txt"
    path.write_bytes(b"Hello" * 1000)
    given = {
        "bytes": path.read_bytes(),
        "tuple": ("grün.txt", path.read_bytes(), "text/plain"),
        "path": path,
        "stream": io.BytesIO(path.read_bytes()),
    }[kind]
    made = sdk.files.create(file=given, purpose="user_data")  # type: ignore[arg-type]
    assert made.filename == ("upload" if kind in ("bytes", "stream") else "grün.txt")
    assert (made.object, made.status, made.bytes) == ("file", "processed", 5000)
    assert made.expires_at is None
    assert sdk.files.retrieve(made.id) == made
    assert sdk.files.content(made.id).read() == path.read_bytes()
    assert sdk.files.wait_for_processing(made.id) == made
    assert sdk.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"No such File object: {made.id}") as caught:
        sdk.files.retrieve(made.id)
    assert caught.value.param == "id"


def test_pages(sdk: OpenAI) -> None:
    made = [
        sdk.files.create(
            file=b"x",
            purpose="evals",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        for _ in range(5)
    ]
    assert made[0].expires_at == made[0].created_at + 3600
    found = list(sdk.files.list(purpose="evals", limit=2, order="asc"))
    assert found == made
    for one in made:
        sdk.files.delete(one.id)


def test_a_stream_of_bytes(sdk: OpenAI, tmp_path: Path) -> None:
    whole = bytes(range(256)) * 20_000
    made = sdk.files.create(file=("a.bin", whole), purpose="assistants")
    with sdk.files.with_streaming_response.content(made.id) as reply:
        reply.stream_to_file(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == whole


def test_an_upload_step_by_step(sdk: OpenAI) -> None:
    upload = sdk.uploads.create(
        bytes=6, filename="a.txt", mime_type="text/plain", purpose="user_data"
    )
    assert upload.status == "pending"
    parts = [sdk.uploads.parts.create(upload.id, data=data) for data in (b"ABC", b"DEF")]
    md5 = hashlib.md5(b"ABCDEF", usedforsecurity=False).hexdigest()
    done = sdk.uploads.complete(upload.id, part_ids=[part.id for part in parts], md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert sdk.files.content(done.file.id).read() == b"ABCDEF"
    other = sdk.uploads.create(
        bytes=6, filename="a.txt", mime_type="text/plain", purpose="user_data"
    )
    assert sdk.uploads.cancel(other.id).status == "cancelled"


def test_an_upload_in_chunks(sdk: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 40_000)
    done = sdk.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=1_000_003
    )
    assert done.file is not None
    assert done.file.filename == "large.bin"
    assert sdk.files.content(done.file.id).read() == path.read_bytes()


def test_the_asynchronous_client(server: LiveServer) -> None:
    async def run() -> bytes:
        async with AsyncOpenAI(base_url=server.base_url, api_key=KEY) as sdk:
            made = await asyncio.gather(
                *(sdk.files.create(file=b"%d" % n, purpose="user_data") for n in range(10))
            )
            contents = [await sdk.files.content(one.id) for one in made]
            return b"".join([content.read() for content in contents])

    assert asyncio.run(run()) == b"0123456789"
