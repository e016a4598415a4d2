"""Blobs in a bucket: what only they have (R-129, R-133)."""

import os
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from antiphon.blobs.s3 import S3Blobs
from antiphon.errors import Overloaded
from tests.blobs.putting import content, listed, put
from tests.blobs.s3 import BUCKET, Bucket

MIB = 1024 * 1024


async def test_where_it_is(s3: S3Blobs, bucket: Bucket) -> None:
    """A small one is one request."""
    await put(s3, "file-1", b"x")
    assert list(bucket.objects) == ["some/place/file-1"]
    assert [line.split("?")[0] for line in bucket.requests] == ["PUT /bucket/some/place/file-1"]


async def test_two_databases_of_one_prefix(s3: S3Blobs, bucket: Bucket, tmp_path: Path) -> None:
    """What one of them does not know is no orphan of its (R-104)."""
    other = S3Blobs(f"s3://{BUCKET}/some/place", tmp_path / "other")
    s3.claim("one")
    other.claim("two")
    await put(s3, "file-1", b"x")
    await put(other, "file-1", b"y")
    assert sorted(bucket.objects) == ["some/place/one/file-1", "some/place/two/file-1"]
    assert await content(s3, "file-1") == b"x"
    assert await listed(s3, time.time() + 10) == {"file-1"}
    await s3.delete("file-1")
    assert await content(other, "file-1") == b"y"
    whole = S3Blobs(f"s3://{BUCKET}", tmp_path / "whole")  # no prefix at all
    whole.claim("three")
    await put(whole, "file-2", b"z")
    assert list(bucket.objects) == ["some/place/two/file-1", "three/file-2"]


async def test_what_others_have_in_the_bucket_is_not_seen(s3: S3Blobs, bucket: Bucket) -> None:
    bucket.objects["some/where/file-2"] = (b"theirs", 0)
    await put(s3, "file-1", b"x")
    assert await listed(s3, time.time() + 10) == {"file-1"}


async def test_a_large_one_is_read_in_ranges(s3: S3Blobs, bucket: Bucket) -> None:
    await put(s3, "file-1", bytes(20 * MIB))
    bucket.requests.clear()
    sizes = [len(piece) async for piece in s3.read("file-1")]
    assert sizes == [8 * MIB, 8 * MIB, 4 * MIB]
    assert [line.split()[0] for line in bucket.requests] == ["HEAD", "GET", "GET", "GET"]


@pytest.mark.parametrize("status", [403, 500])
async def test_a_bucket_in_trouble(s3: S3Blobs, bucket: Bucket, status: int) -> None:
    """One kind of answer, and no word of where and who (R-129)."""
    bucket.trouble = status
    with capture_logs() as logs:
        with pytest.raises(Overloaded):
            await put(s3, "file-1", b"x")
        with pytest.raises(Overloaded):
            await content(s3, "file-1")
        with pytest.raises(Overloaded):
            await s3.delete("file-1")
        with pytest.raises(Overloaded):
            await listed(s3, time.time())
    assert len(logs) == 4
    for secret in (bucket.endpoint, BUCKET, "4711"):
        assert secret not in str(logs)


async def test_copies_do_not_stay(s3: S3Blobs, bucket: Bucket, tmp_path: Path) -> None:
    await put(s3, "file-1", bytes(9 * MIB))
    async with s3.local("file-1") as path:
        assert path.parent == tmp_path / "scratch"
        assert path.stat().st_mode & 0o077 == 0
    assert list((tmp_path / "scratch").iterdir()) == []
    for name, age in (("old", 2 * 86_400), ("young", 60)):
        left = tmp_path / "scratch" / name
        left.write_bytes(b"x")
        os.utime(left, (time.time() - age, time.time() - age))
    await listed(s3, time.time())
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["young"]


@pytest.mark.parametrize("url", ["", "s3://", "s3:///x", "https://x/y", "s3://a/b?c=d"])
def test_what_is_no_bucket(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BUCKET"):
        S3Blobs(url, tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-133: it says what is missing."""
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ValueError, match=r"pip install 'antiphon\[s3\]'"):
        S3Blobs("s3://bucket", tmp_path)
