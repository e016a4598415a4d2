"""``/openapi.json`` says what the endpoints do."""

from typing import Any

import jsonschema_rs
import pytest

from tests.api.talk import Json, client_of
from tests.live import serve


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Json:
    with serve(tmp_path_factory.mktemp("openapi")) as live, client_of(live, None) as client:
        found: Json = client.get("/openapi.json").json()
        return found


def body(document: Json, path: str, media: str = "application/json") -> Any:
    schema = document["paths"][path]["post"]["requestBody"]["content"][media]["schema"]
    return jsonschema_rs.validator_for({**schema, "components": document["components"]})


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        ("/v1/vector_stores", {"anchor": "last_active_at", "days": 1}, {"anchor": "created_at"}),
        ("/v1/containers", {"anchor": "last_active_at", "minutes": 20}, {"minutes": 20}),
        ("/v1/uploads", {"anchor": "created_at", "seconds": 3600}, {"seconds": 3600}),
    ],
)
def test_what_expires_when(document: Json, path: str, good: Json, bad: Json) -> None:
    """Three that have one name in our source."""
    upload = {"bytes": 1, "filename": "a", "mime_type": "text/plain", "purpose": "assistants"}
    needed: dict[str, Json] = {"/v1/containers": {"name": "a"}, "/v1/uploads": upload}
    rest = needed.get(path, {})
    assert body(document, path).is_valid({**rest, "expires_after": good})
    assert not body(document, path).is_valid({**rest, "expires_after": bad})


def test_what_is_no_json(document: Json) -> None:
    def answer(path: str) -> list[str]:
        return list(document["paths"][path]["get"]["responses"]["200"]["content"])

    assert answer("/v1/files/{file_id}/content") == ["application/octet-stream"]
    content = "/v1/containers/{container_id}/files/{file_id}/content"
    assert answer(content) == ["application/octet-stream"]
    assert answer("/metrics") == ["text/plain"]
    assert answer("/v1/files") == ["application/json"]


def test_what_needs_no_key(document: Json) -> None:
    open_to_all = {
        path
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if operation.get("security") == []
    }
    assert open_to_all == {"/health/live", "/health/ready"}
