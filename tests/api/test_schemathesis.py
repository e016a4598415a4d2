"""Whatever fits or nearly fits our OpenAPI description gets no 5xx (must show 6).

The simulator answers: it fills any schema, so that an answer that does not match one would be a
failure of ours.
"""

from typing import Any, Final, TypeAlias

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from tests.api.talk import client_of
from tests.live import KEY, LiveServer

OPERATIONS: Final = [
    "GET /v1/responses",
    "POST /v1/responses",
    "GET /v1/responses/{response_id}",
    "DELETE /v1/responses/{response_id}",
    "POST /v1/responses/compact",
    "POST /v1/responses/input_tokens",
    "POST /v1/responses/{response_id}/cancel",
    "GET /v1/responses/{response_id}/input_items",
    "POST /v1/conversations",
    "GET /v1/conversations/{conversation_id}",
    "POST /v1/conversations/{conversation_id}",
    "DELETE /v1/conversations/{conversation_id}",
    "GET /v1/conversations/{conversation_id}/items",
    "POST /v1/conversations/{conversation_id}/items",
    "GET /v1/conversations/{conversation_id}/items/{item_id}",
    "DELETE /v1/conversations/{conversation_id}/items/{item_id}",
    "POST /v1/prompts",
    "GET /v1/prompts",
    "GET /v1/prompts/{prompt_id}",
    "POST /v1/prompts/{prompt_id}",
    "DELETE /v1/prompts/{prompt_id}",
    "POST /v1/prompts/{prompt_id}/versions",
    "GET /v1/prompts/{prompt_id}/versions",
    "GET /v1/prompts/{prompt_id}/versions/{version}",
    "GET /v1/files",
    "POST /v1/files",
    "GET /v1/files/{file_id}",
    "DELETE /v1/files/{file_id}",
    "GET /v1/files/{file_id}/content",
    "POST /v1/uploads",
    "POST /v1/uploads/{upload_id}/parts",
    "POST /v1/uploads/{upload_id}/complete",
    "POST /v1/uploads/{upload_id}/cancel",
    "GET /v1/vector_stores",
    "POST /v1/vector_stores",
    "GET /v1/vector_stores/{vector_store_id}",
    "POST /v1/vector_stores/{vector_store_id}",
    "DELETE /v1/vector_stores/{vector_store_id}",
    "POST /v1/vector_stores/{vector_store_id}/search",
    "GET /v1/vector_stores/{vector_store_id}/files",
    "POST /v1/vector_stores/{vector_store_id}/files",
    "GET /v1/vector_stores/{vector_store_id}/files/{file_id}",
    "POST /v1/vector_stores/{vector_store_id}/files/{file_id}",
    "DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}",
    "GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content",
    "POST /v1/vector_stores/{vector_store_id}/file_batches",
    "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}",
    "POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel",
    "GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files",
    "GET /v1/containers",
    "POST /v1/containers",
    "GET /v1/containers/{container_id}",
    "DELETE /v1/containers/{container_id}",
    "GET /v1/containers/{container_id}/files",
    "POST /v1/containers/{container_id}/files",
    "GET /v1/containers/{container_id}/files/{file_id}",
    "DELETE /v1/containers/{container_id}/files/{file_id}",
    "GET /v1/containers/{container_id}/files/{file_id}/content",
    "POST /v1/chat/completions",
    "POST /v1/embeddings",
    "GET /v1/models",
    "GET /v1/models/{model}",
    "GET /v1/webhook_endpoints",
    "POST /v1/webhook_endpoints",
    "GET /v1/webhook_endpoints/{webhook_endpoint_id}",
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}",
    "DELETE /v1/webhook_endpoints/{webhook_endpoint_id}",
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret",
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/test",
    "GET /v1/webhook_event_types",
    "GET /health/live",
    "GET /health/ready",
    "GET /metrics",
]
#: Refused as a whole by this release: what else stands in a body would not be looked at.
REFUSED: Final = frozenset(
    {
        "conversation",
        "moderation",
        "previous_response_id",
        "prompt",
        "stream_options",
        "tool_choice",
        "tools",
    }
)
Operation: TypeAlias = schemathesis.APIOperation[Any, Any, Any, Any]


@pytest.fixture(scope="module")
def operations(server: LiveServer) -> dict[str, Operation]:
    with client_of(server) as client:
        schema = schemathesis.openapi.from_dict(_bounded(client.get("/openapi.json").json()))
    found = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        found[operation.label] = operation
    return found


def _bounded(schema: Any) -> Any:
    """Without the limits of what is very long: arrays of arrays beyond those fill the memory, and
    test_heavy_requests.py has them."""
    if isinstance(schema, list):
        return [_bounded(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _bounded(value)
        for key, value in schema.items()
        if not (key in ("maxItems", "maxLength") and isinstance(value, int) and value > 128)
    }


#: No key, path or query: there is nothing that could be wrong.
TAKE_NOTHING: Final = frozenset({"GET /health/live", "GET /health/ready"})


def test_every_operation_is_tried(operations: dict[str, Operation]) -> None:
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    ("label", "mode"),
    [
        (label, mode)
        for label in OPERATIONS
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or label not in TAKE_NOTHING
    ],
)
def test_no_operation_breaks(
    label: str,
    mode: GenerationMode,
    operations: dict[str, Operation],
    server: LiveServer,
) -> None:
    @given(case=operations[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=50 if label == "POST /v1/responses" else 15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            case.body = {key: value for key, value in case.body.items() if key not in REFUSED}
            case.body["model"] = "simulator"
            case.body["input"] = case.body.get("input") or "As JSON"
        reply = case.call(
            base_url=server.root_url, headers={"Authorization": f"Bearer {KEY}"}, timeout=10
        )
        assert reply.status_code < 500, reply.text
        if reply.status_code >= 400:
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}

    check()
