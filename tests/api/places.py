"""All places where an id may stand (R-29, R-30): a table for `test_tenancy.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx2
import orjson

from tests.api.talk import UNKNOWN, Json

#: A text that occurs nowhere else.
MARKER: Final = "xylophone-4712-zeugma"


@dataclass(frozen=True)
class Place:
    """A request in which ``ID`` is an id of a `kind`; ``MINE`` is a conversation of who asks,
    ``SHELF`` his vector store, and ``BOX`` his container."""

    kind: str
    method: str
    path: str
    body: Json | None = None

    def ask(self, client: httpx2.Client, id_: str, mine: Mapping[str, str]) -> httpx2.Response:
        """Ask with this id; `mine`: ``MINE``, ``SHELF`` and ``BOX``."""

        def filled(text: str) -> str:
            for name, own in mine.items():
                text = text.replace(name, own)
            return text.replace("ID", id_)

        path = filled(self.path)
        if self.body is None:
            return client.request(self.method, path)
        body = filled(orjson.dumps(self.body).decode())
        headers = {"content-type": "application/json"}
        return client.request(self.method, path, content=body, headers=headers)

    def __str__(self) -> str:
        return f"{self.kind} in {self.method} {self.path} {self.body or ''}"


_ITEMS: Final[Json] = {"items": [{"role": "user", "content": "Hi"}]}
URL: Final = "https://hooks.example.com/other"
_ASKED: Final[Json] = {"type": "mcp_approval_request", "server_label": "s", "name": "n"}
SAID: Final = [{"role": "user", "content": MARKER}, {**_ASKED, "arguments": f'"{MARKER}"'}]
UPLOAD: Final[Json] = {
    "filename": MARKER,
    "bytes": 9,
    "mime_type": "a/b",
    "purpose": "user_data",
}
#: Every path that names something, as the description has it, and how else it may be asked.
PATHS: Final = [
    Place("response", "GET", "/v1/responses/ID"),
    Place("response", "GET", "/v1/responses/ID?stream=true"),
    Place("response", "GET", "/v1/responses/ID?stream=true&starting_after=2"),
    Place("response", "DELETE", "/v1/responses/ID"),
    Place("response", "POST", "/v1/responses/ID/cancel"),
    Place("response", "GET", "/v1/responses/ID/input_items"),
    Place("response", "GET", "/v1/responses/ID/input_items?after=msg_1"),
    Place("conversation", "GET", "/v1/conversations/ID"),
    Place("conversation", "POST", "/v1/conversations/ID", {"metadata": {"a": "b"}}),
    Place("conversation", "DELETE", "/v1/conversations/ID"),
    Place("conversation", "GET", "/v1/conversations/ID/items"),
    Place("conversation", "GET", "/v1/conversations/ID/items?after=msg_1"),
    Place("conversation", "POST", "/v1/conversations/ID/items", _ITEMS),
    Place("conversation", "GET", "/v1/conversations/ID/items/msg_1"),
    Place("conversation", "DELETE", "/v1/conversations/ID/items/msg_1"),
    Place("item", "GET", "/v1/conversations/MINE/items/ID"),
    Place("item", "DELETE", "/v1/conversations/MINE/items/ID"),
    Place("prompt", "GET", "/v1/prompts/ID"),
    Place("prompt", "POST", "/v1/prompts/ID", {"name": "Other"}),
    Place("prompt", "DELETE", "/v1/prompts/ID"),
    Place("prompt", "GET", "/v1/prompts/ID/versions"),
    Place("prompt", "POST", "/v1/prompts/ID/versions", {"template": {"instructions": "x"}}),
    Place("prompt", "GET", "/v1/prompts/ID/versions/1"),
    Place("endpoint", "GET", "/v1/webhook_endpoints/ID"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID", {"url": URL}),
    Place("endpoint", "DELETE", "/v1/webhook_endpoints/ID"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID/rotate_secret"),
    Place("endpoint", "POST", "/v1/webhook_endpoints/ID/test", {"event_type": "response.failed"}),
    Place("file", "GET", "/v1/files/ID"),
    Place("file", "GET", "/v1/files/ID/content"),
    Place("file", "DELETE", "/v1/files/ID"),
    Place("store", "GET", "/v1/vector_stores/ID"),
    Place("store", "POST", "/v1/vector_stores/ID", {"name": "x"}),
    Place("store", "DELETE", "/v1/vector_stores/ID"),
    Place("store", "POST", "/v1/vector_stores/ID/search", {"query": MARKER}),
    Place("store", "GET", "/v1/vector_stores/ID/files"),
    Place("store", "GET", "/v1/vector_stores/ID/files?after=file-1"),
    Place("store", "POST", "/v1/vector_stores/ID/files", {"file_id": "file-1"}),
    Place("store", "GET", "/v1/vector_stores/ID/files/ID"),
    Place("store", "POST", "/v1/vector_stores/ID/files/ID", {"attributes": {"a": 1}}),
    Place("store", "DELETE", "/v1/vector_stores/ID/files/ID"),
    Place("store", "GET", "/v1/vector_stores/ID/files/ID/content"),
    Place("store", "POST", "/v1/vector_stores/ID/file_batches", {"file_ids": ["file-1"]}),
    Place("store", "GET", "/v1/vector_stores/ID/file_batches/vsfb_1"),
    Place("store", "POST", "/v1/vector_stores/ID/file_batches/vsfb_1/cancel"),
    Place("store", "GET", "/v1/vector_stores/ID/file_batches/vsfb_1/files"),
    Place("file", "POST", "/v1/vector_stores/SHELF/files", {"file_id": "ID"}),
    Place("file", "GET", "/v1/vector_stores/SHELF/files/ID"),
    Place("file", "POST", "/v1/vector_stores/SHELF/files/ID", {"attributes": {"a": 1}}),
    Place("file", "DELETE", "/v1/vector_stores/SHELF/files/ID"),
    Place("file", "GET", "/v1/vector_stores/SHELF/files/ID/content"),
    Place("file", "POST", "/v1/vector_stores/SHELF/file_batches", {"file_ids": ["ID"]}),
    Place("file", "POST", "/v1/vector_stores/SHELF/file_batches", {"files": [{"file_id": "ID"}]}),
    Place("batch", "GET", "/v1/vector_stores/SHELF/file_batches/ID"),
    Place("batch", "POST", "/v1/vector_stores/SHELF/file_batches/ID/cancel"),
    Place("batch", "GET", "/v1/vector_stores/SHELF/file_batches/ID/files"),
    Place("batch", "GET", "/v1/vector_stores/SHELF/file_batches/ID/files?after=file-1"),
    Place("container", "GET", "/v1/containers/ID"),
    Place("container", "DELETE", "/v1/containers/ID"),
    Place("container", "GET", "/v1/containers/ID/files"),
    Place("container", "GET", "/v1/containers/ID/files?after=cfile_1"),
    Place("container", "POST", "/v1/containers/ID/files", {"file_id": "file-1"}),
    Place("container", "GET", "/v1/containers/ID/files/cfile_1"),
    Place("container", "DELETE", "/v1/containers/ID/files/cfile_1"),
    Place("container", "GET", "/v1/containers/ID/files/cfile_1/content"),
    Place("container file", "GET", "/v1/containers/BOX/files/ID"),
    Place("container file", "DELETE", "/v1/containers/BOX/files/ID"),
    Place("container file", "GET", "/v1/containers/BOX/files/ID/content"),
    Place("file", "POST", "/v1/containers/BOX/files", {"file_id": "ID"}),
    Place("upload", "POST", "/v1/uploads/ID/parts"),
    Place("upload", "POST", "/v1/uploads/ID/complete", {"part_ids": ["part_1"]}),
    Place("upload", "POST", "/v1/uploads/ID/cancel"),
]
#: Lists that go on behind an id.
LISTS: Final = [
    Place("response", "GET", "/v1/responses?after=ID"),
    Place("item", "GET", "/v1/conversations/MINE/items?after=ID"),
    Place("prompt", "GET", "/v1/prompts?after=ID"),
    Place("endpoint", "GET", "/v1/webhook_endpoints?after=ID"),
    Place("file", "GET", "/v1/files?after=ID"),
    Place("store", "GET", "/v1/vector_stores?after=ID"),
    Place("store", "GET", "/v1/vector_stores?before=ID"),
    Place("file", "GET", "/v1/vector_stores/SHELF/files?after=ID"),
    Place("file", "GET", "/v1/vector_stores/SHELF/files?before=ID"),
    Place("container", "GET", "/v1/containers?after=ID"),
    Place("container file", "GET", "/v1/containers/BOX/files?after=ID"),
]
_REFERENCES: Final[list[Json]] = [
    {"type": "item_reference", "id": "ID"},
    {"id": "ID"},
    {"type": "reasoning", "id": "ID", "summary": []},
    {"type": "image_generation_call", "id": "ID"},
]
_ANSWER: Final[Json] = {"type": "mcp_approval_response", "approval_request_id": "ID"}
_SEARCH: Final[Json] = {"type": "file_search", "vector_store_ids": ["ID"]}


def _shows(part: str) -> Json:
    """The user shows a file."""
    content = [{"type": "input_text", "text": "Look"}, {"type": part, "file_id": "ID"}]
    return {"input": [{"role": "user", "content": content}]}


#: Fields of a request that name something.
FIELDS: Final[list[tuple[str, Json]]] = [
    ("response", {"previous_response_id": "ID"}),
    ("conversation", {"conversation": "ID"}),
    ("conversation", {"conversation": {"id": "ID"}}),
    ("prompt", {"prompt": {"id": "ID"}}),
    ("prompt", {"prompt": {"id": "ID", "version": "1", "variables": {"a": "b"}}}),
    *(("item", {"input": [item]}) for item in _REFERENCES),
    ("item", {"input": [{**_ANSWER, "approve": True}]}),
    ("item", {"input": [{**_ANSWER, "approve": False}]}),
    ("store", {"tools": [_SEARCH]}),
    ("file", _shows("input_file")),
    ("file", _shows("input_image")),
]
#: Where requests go, and what else they say there.
_WAYS: Final[list[tuple[str, Json]]] = [
    ("/v1/responses", {}),
    ("/v1/responses", {"stream": True}),
    ("/v1/responses", {"store": False}),
    ("/v1/responses", {"background": True}),
    ("/v1/responses/input_tokens", {}),
    ("/v1/responses/compact", {}),
]
REQUESTS: Final = [
    Place(kind, "POST", path, {"model": "m", "input": "Hi", **extra, **fields})
    for path, extra in _WAYS
    for kind, fields in FIELDS
]
COPIES: Final = [
    *(
        Place("item", "POST", path, {"items": [item]})
        for path in ("/v1/conversations", "/v1/conversations/MINE/items")
        for item in _REFERENCES
    ),
    Place("file", "POST", "/v1/vector_stores", {"file_ids": ["ID"]}),
    Place("file", "POST", "/v1/containers", {"name": "Other", "file_ids": ["ID"]}),
]
#: Kind → an id of that form which nobody has.
NOBODYS: Final = {
    "response": UNKNOWN,
    "item": "msg_" + "0" * 48,
    "conversation": "conv_" + "0" * 48,
    "prompt": "pmpt_" + "0" * 48,
    "endpoint": "whe_" + "0" * 48,
    "file": "file-" + "0" * 32,
    "upload": "upload_" + "0" * 32,
    "store": "vs_" + "0" * 32,
    "batch": "vsfb_" + "0" * 32,
    "container": "cntr_" + "0" * 32,
    "container file": "cfile_" + "0" * 32,
}
