"""One place after the other, for what every place does."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from antiphon.blobs.base import Blobs
from antiphon.blobs.local import LocalBlobs
from antiphon.blobs.s3 import S3Blobs
from tests.blobs.s3 import BUCKET, Bucket, serving


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with serving() as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-4711")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-4711")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        yield bucket


@pytest.fixture
def s3(bucket: Bucket, tmp_path: Path) -> S3Blobs:
    return S3Blobs(f"s3://{BUCKET}/some/place", tmp_path / "scratch")


@pytest.fixture(params=["local", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    made: Blobs
    if request.param == "local":
        made = LocalBlobs(tmp_path / "deep" / "files")
    else:
        made = request.getfixturevalue("s3")
    yield made
    await made.aclose()
