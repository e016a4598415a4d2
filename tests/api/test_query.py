"""The query of stored responses: as strict as a body (spec §2.1, §6)."""

from typing import Any

import httpx2
import pytest

from tests.api.talk import create, error_of

Error = dict[str, Any]


@pytest.fixture
def made(client: httpx2.Client) -> str:
    """The path of a stored response."""
    return f"/v1/responses/{create(client, 'simulator')['id']}"


def refusal(client: httpx2.Client, url: str) -> Error:
    reply = client.get(url)
    assert reply.status_code == 400, reply.text
    return error_of(reply)


@pytest.mark.parametrize("path", ["", "/input_items"])
@pytest.mark.parametrize("name", ["include", "include[]"])
def test_include_means_the_same_with_and_without_brackets(
    name: str, path: str, made: str, client: httpx2.Client
) -> None:
    good = f"{made}{path}?{name}=message.input_image.image_url"
    assert client.get(good).status_code == 200
    assert refusal(client, f"{good}&{name}=bogus")["param"] == "include[1]"


@pytest.mark.parametrize("path", ["?", "/input_items?limit=0&"])
def test_an_unknown_parameter_is_named_first(path: str, made: str, client: httpx2.Client) -> None:
    """R-02; the order is OpenAI's."""
    error = refusal(client, f"{made}{path}colour=red")
    assert (error["code"], error["param"]) == ("unknown_parameter", "colour")
    assert error["message"] == "Unknown parameter: 'colour'."


def test_what_is_repeated_is_short_and_printable(made: str, client: httpx2.Client) -> None:
    """R-24"""
    for query in ("after=", ""):
        error = refusal(client, f"{made}/input_items?{query}%1b%0a{'x' * 5000}")
        assert error["message"].isprintable()
        assert len(error["message"]) < 200
        assert len(error["param"]) < 200


@pytest.mark.parametrize("value", ["1.0", "1_0", "%201", "+1", "1e1", "%D9%A1"])
@pytest.mark.parametrize("place", ["/input_items?limit", "?starting_after"])
def test_an_integer_is_digits(place: str, value: str, made: str, client: httpx2.Client) -> None:
    error = refusal(client, f"{made}{place}={value}")
    assert (error["code"], error["param"]) == ("invalid_value", place.partition("?")[2])


@pytest.mark.parametrize("query", ["starting_after=3", "include_obfuscation=false&stream=false"])
def test_what_only_a_stream_has_needs_one(query: str, made: str, client: httpx2.Client) -> None:
    """R-02: nothing is dropped without a word."""
    error = refusal(client, f"{made}?{query}")
    assert (error["code"], error["param"]) == ("invalid_value", query.partition("=")[0])
    assert "stream=true" in error["message"]


NO_ENDPOINT = "/v1/webhook_endpoints/whe_" + "0" * 48
NO_CONVERSATION = "/v1/conversations/conv_" + "0" * 48
NO_PROMPT = "/v1/prompts/pmpt_" + "0" * 48
NO_CONTAINER = "/v1/containers/cntr_" + "0" * 32
NO_CONTAINER_FILE = NO_CONTAINER + "/files/cfile_" + "0" * 32


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/conversations"),
        ("GET", NO_CONVERSATION),
        ("POST", NO_CONVERSATION),
        ("DELETE", NO_CONVERSATION),
        ("GET", NO_CONVERSATION + "/items"),
        ("POST", NO_CONVERSATION + "/items"),
        ("GET", NO_CONVERSATION + "/items/msg_1"),
        ("DELETE", NO_CONVERSATION + "/items/msg_1"),
        ("GET", "/v1/prompts"),
        ("POST", "/v1/prompts"),
        ("GET", NO_PROMPT),
        ("POST", NO_PROMPT),
        ("DELETE", NO_PROMPT),
        ("POST", NO_PROMPT + "/versions"),
        ("GET", NO_PROMPT + "/versions"),
        ("GET", NO_PROMPT + "/versions/1"),
        ("GET", "/v1/containers"),
        ("POST", "/v1/containers"),
        ("GET", NO_CONTAINER),
        ("DELETE", NO_CONTAINER),
        ("GET", NO_CONTAINER + "/files"),
        ("POST", NO_CONTAINER + "/files"),
        ("GET", NO_CONTAINER_FILE),
        ("DELETE", NO_CONTAINER_FILE),
        ("GET", NO_CONTAINER_FILE + "/content"),
        ("GET", "/v1/webhook_event_types"),
        ("GET", "/v1/webhook_endpoints"),
        ("POST", "/v1/webhook_endpoints"),
        ("GET", NO_ENDPOINT),
        ("POST", NO_ENDPOINT),
        ("DELETE", NO_ENDPOINT),
        ("POST", NO_ENDPOINT + "/rotate_secret"),
        ("POST", NO_ENDPOINT + "/test"),
    ],
)
def test_no_path_ignores_what_it_does_not_know(
    method: str, path: str, client: httpx2.Client
) -> None:
    """R-02; but for what SDKs add."""
    added = client.request(method, f"{path}?beta=true&api-version=v1")
    assert "unknown_parameter" not in added.text
    reply = client.request(method, f"{path}?colour=red")
    assert reply.status_code == 400, reply.text
    error = error_of(reply)
    assert (error["code"], error["param"]) == ("unknown_parameter", "colour")
    nobody = client.request(method, f"{path}?colour=red", headers={"authorization": ""})
    assert nobody.status_code == 401


@pytest.mark.parametrize("value", ["1.0", "1_0", "%201", "+1", "%D9%A1"])
def test_a_limit_of_webhook_endpoints_is_digits(value: str, client: httpx2.Client) -> None:
    error = refusal(client, f"/v1/webhook_endpoints?limit={value}")
    assert (error["code"], error["param"]) == ("invalid_value", "limit")


def test_the_description_has_bodies_and_header_parameters(client: httpx2.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    endpoint = "/v1/webhook_endpoints/{webhook_endpoint_id}"
    conversation = "/v1/conversations/{conversation_id}"
    prompt = "/v1/prompts/{prompt_id}"
    contents = {
        path: operations["post"]["requestBody"]["content"]
        for path, operations in paths.items()
        if "requestBody" in operations.get("post", {})
    }
    forms = {
        path: set(content.pop("multipart/form-data")["schema"]["properties"])
        for path, content in contents.items()
        if "multipart/form-data" in content
    }
    container_files = "/v1/containers/{container_id}/files"
    assert forms == {
        "/v1/files": {"file", "purpose", "expires_after"},
        "/v1/uploads/{upload_id}/parts": {"data"},
        container_files: {"file"},
    }
    store = "/v1/vector_stores/{vector_store_id}"
    bodies = {
        path: one["application/json"]["schema"]["$ref"] for path, one in contents.items() if one
    }
    assert {path: ref.rpartition("/")[2] for path, ref in bodies.items()} == {
        "/v1/responses": "CreateResponse",
        "/v1/responses/compact": "Compact",
        "/v1/responses/input_tokens": "CountInputTokens",
        "/v1/conversations": "NewConversation",
        conversation: "ChangedConversation",
        conversation + "/items": "NewItems",
        "/v1/prompts": "NewPrompt",
        prompt: "ChangedPrompt",
        prompt + "/versions": "NewVersion",
        "/v1/webhook_endpoints": "NewEndpoint",
        endpoint: "ChangedEndpoint",
        endpoint + "/rotate_secret": "Rotation",
        endpoint + "/test": "Trial",
        "/v1/uploads": "NewUpload",
        "/v1/uploads/{upload_id}/complete": "CompletedUpload",
        "/v1/vector_stores": "NewVectorStore",
        store: "ChangedVectorStore",
        store + "/search": "VectorStoreSearch",
        store + "/files": "NewStoreFile",
        store + "/files/{file_id}": "ChangedStoreFile",
        store + "/file_batches": "NewFileBatch",
        "/v1/chat/completions": "Relayed",
        "/v1/embeddings": "Relayed",
        "/v1/containers": "NewContainer",
        container_files: "NewContainerFile",
    }
    (parameter,) = paths["/v1/responses"]["post"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("Idempotency-Key", "header")
