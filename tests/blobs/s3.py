"""A bucket on a loopback port: as much of S3 as blobs need, in a thread of its own.

Rules
1. Objects are in memory; a multipart upload becomes one when it is completed.
2. `trouble` is what every request is answered with, instead of what it asks for.
"""

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web

BUCKET = "bucket"


@dataclass
class Bucket:
    """What is in it, by key: bytes, and when they came."""

    objects: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    trouble: int | None = None
    port: int = 0

    @property
    def endpoint(self) -> str:
        """What ``AWS_ENDPOINT_URL`` is."""
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        body = await request.read()
        self.requests.append(f"{request.method} {request.rel_url}")
        if self.trouble is not None:
            return web.Response(status=self.trouble)
        assert request.match_info["bucket"] == BUCKET
        key, query = request.match_info["key"].lstrip("/"), request.query
        if request.method == "GET" and "list-type" in query:
            return self._listing(query.get("prefix", ""), query.get("continuation-token", ""))
        if "uploads" in query:
            id_ = str(len(self.uploads))
            self.uploads[id_] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{id_}</UploadId>"
                f"</InitiateMultipartUploadResult>"
            )
        if "partNumber" in query:
            self.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return web.Response(headers={"ETag": f'"{query["partNumber"]}"'})
        if "uploadId" in query:
            parts = self.uploads.pop(query["uploadId"])
            if request.method == "POST":
                self.objects[key] = (b"".join(parts[n] for n in sorted(parts)), time.time())
            return _xml(
                "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
            )
        if request.method == "POST" and "delete" in query:
            names = re.findall("<Key>(.*?)</Key>", body.decode())
            for name in names:
                self.objects.pop(name, None)
            gone = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            return _xml(f"<DeleteResult>{gone}</DeleteResult>")
        return self._object(request, key, body)

    def _object(self, request: web.Request, key: str, body: bytes) -> web.Response:
        if request.method == "PUT":
            self.objects[key] = (body, time.time())
            return web.Response(headers={"ETag": '"x"'})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return web.Response(status=404)
        content, made = self.objects[key]
        headers = {"ETag": '"x"', "Last-Modified": formatdate(made, usegmt=True)}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        span = request.http_range
        if span.start is None:
            return web.Response(body=content, headers=headers)
        if span.start >= len(content):
            return web.Response(status=416)
        piece = content[span]
        end = span.start + len(piece) - 1
        headers["Content-Range"] = f"bytes {span.start}-{end}/{len(content)}"
        return web.Response(status=206, body=piece, headers=headers)

    def _listing(self, prefix: str, token: str) -> web.Response:
        """Two keys a page, so that there are several."""
        keys = [key for key in sorted(self.objects) if key.startswith(prefix) and key > token]
        page, rest = keys[:2], keys[2:]
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key][0])}</Size>"
            f"<LastModified>{datetime.fromtimestamp(self.objects[key][1], UTC).isoformat()}"
            "</LastModified><ETag>x</ETag></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if rest else ""
        cut = "true" if rest else "false"
        return _xml(
            f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{more}{entries}</ListBucketResult>"
        )


def _xml(text: str) -> web.Response:
    return web.Response(text='<?xml version="1.0"?>' + text, content_type="application/xml")


@contextmanager
def serving() -> Iterator[Bucket]:
    """A bucket that answers until the end."""
    bucket = Bucket()
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def run() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{bucket}{key:.*}", bucket.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bucket.port = runner.addresses[0][1]
        started.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert started.wait(10)
        yield bucket
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
