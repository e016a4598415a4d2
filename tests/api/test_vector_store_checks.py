"""``/v1/vector_stores``: what is refused, with OpenAI's words, codes and `param` (spec §6)."""

from typing import Any, Final

import orjson
import pytest

from tests.api.shelves import DOGS, Shelves, refused
from tests.api.talk import Json

UNKNOWN: Final = "file-" + "0" * 32
#: Stands for a store, a file and a batch that are there.
STORE, FILES, BATCHES, SEARCH = "/VS", "/VS/files", "/VS/file_batches", "/VS/search"
ONE: Final = "/VS/files/FILE"
_MANY: Final = {str(number): "x" for number in range(17)}
_LONG_KEY: Final = {"k" * 65: "x"}
_LONG_TEXT: Final = {"k": "x" * 513}


def _static(size: Any, overlap: Any) -> Json:
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    return {"chunking_strategy": {"type": "static", "static": sizes}}


def _until(days: Any, anchor: Any = "last_active_at") -> Json:
    return {"expires_after": {"anchor": anchor, "days": days}}


def _filter(**filters: Any) -> Json:
    return {"query": "x", "filters": filters}


_SIZE: Final = "chunking_strategy.static.max_chunk_size_tokens"
_OVERLAP: Final = "chunking_strategy.static.chunk_overlap_tokens"
_BELOW, _ABOVE = "integer_below_min_value", "integer_above_max_value"
_TYPE, _VALUE, _MISSING = "invalid_type", "invalid_value", "missing_required_parameter"
_DEEP: Json = {"type": "and", "filters": []}
for _ in range(16):
    _DEEP = {"type": "and", "filters": [_DEEP]}

#: Path, body, `code`, `param`.
CASES: Final[list[tuple[str, Any, str, str | None]]] = [
    ("", {"nam": "x"}, "unknown_parameter", "nam"),
    ("", [], _TYPE, None),
    ("", {"name": 3}, _TYPE, "name"),
    ("", {"name": "n" * 513}, "string_above_max_length", "name"),
    ("", {"description": []}, _TYPE, "description"),
    ("", {"file_ids": "x"}, _TYPE, "file_ids"),
    ("", {"file_ids": [3]}, _TYPE, "file_ids[0]"),
    ("", {"file_ids": [UNKNOWN] * 501}, "array_above_max_length", "file_ids"),
    ("", {"metadata": _MANY}, "object_above_max_properties", "metadata"),
    ("", {"metadata": _LONG_KEY}, "property_name_above_max_length", "metadata." + "k" * 65),
    ("", {"metadata": _LONG_TEXT}, "string_above_max_length", "metadata.k"),
    ("", {"metadata": {"k": 1}}, _TYPE, "metadata.k"),
    ("", _until(0), _BELOW, "expires_after.days"),
    ("", _until(366), _ABOVE, "expires_after.days"),
    ("", _until(1.5), _TYPE, "expires_after.days"),
    ("", _until(1, "created_at"), _VALUE, "expires_after.anchor"),
    ("", {"expires_after": {"days": 1}}, _MISSING, "expires_after.anchor"),
    ("", {"chunking_strategy": {"type": "x"}}, _VALUE, "chunking_strategy.type"),
    ("", {"chunking_strategy": {"type": "static"}}, _MISSING, "chunking_strategy.static"),
    ("", _static(99, 0), _BELOW, _SIZE),
    ("", _static(4097, 0), _ABOVE, _SIZE),
    ("", _static(100, -1), _BELOW, _OVERLAP),
    ("", _static(100, 51), _ABOVE, _OVERLAP),
    ("", _static("100", 0), _TYPE, _SIZE),
    (STORE, {"file_ids": []}, "unknown_parameter", "file_ids"),
    (STORE, _until(0), _BELOW, "expires_after.days"),
    (FILES, {}, _MISSING, "file_id"),
    (FILES, {"file_id": None}, _TYPE, "file_id"),
    (FILES, {"file_id": UNKNOWN, "attributes": _MANY}, "object_above_max_properties", "attributes"),
    (
        FILES,
        {"file_id": UNKNOWN, "attributes": _LONG_KEY},
        "property_name_above_max_length",
        "attributes." + "k" * 65,
    ),
    (
        FILES,
        {"file_id": UNKNOWN, "attributes": _LONG_TEXT},
        "string_above_max_length",
        "attributes.k",
    ),
    (FILES, {"file_id": UNKNOWN, "attributes": {"k": [1]}}, _TYPE, "attributes.k"),
    (FILES, {"file_id": UNKNOWN, "attributes": {"k": None}}, _TYPE, "attributes.k"),
    (FILES, {"file_id": UNKNOWN, "attributes": {"": 1}}, "empty_string", "attributes."),
    (FILES, {"file_id": UNKNOWN, **_static(100, 51)}, _ABOVE, _OVERLAP),
    (ONE, {}, _MISSING, "attributes"),
    (ONE, {"attributes": 3}, _TYPE, "attributes"),
    (ONE, {"attributes": {}, "x": 1}, "unknown_parameter", "x"),
    (BATCHES, {}, _MISSING, "file_ids"),
    (BATCHES, {"attributes": {}}, _MISSING, "file_ids"),
    (
        BATCHES,
        {"file_ids": [UNKNOWN], "files": [{"file_id": UNKNOWN}]},
        "mutually_exclusive_parameters",
        "file_ids",
    ),
    (BATCHES, {"file_ids": []}, "empty_array", "file_ids"),
    (BATCHES, {"files": []}, "empty_array", "files"),
    (BATCHES, {"file_ids": [UNKNOWN] * 2001}, "array_above_max_length", "file_ids"),
    (BATCHES, {"files": [{"file_id": UNKNOWN}] * 2001}, "array_above_max_length", "files"),
    (BATCHES, {"files": [{}]}, _MISSING, "files[0].file_id"),
    (BATCHES, {"files": [{"file_id": "a", "name": "b"}]}, "unknown_parameter", "files[0].name"),
    (
        BATCHES,
        {"files": [{"file_id": "a"}, {"file_id": "b", **_static(100, 51)}]},
        _ABOVE,
        "files[1]." + _OVERLAP,
    ),
    (SEARCH, {}, _MISSING, "query"),
    (SEARCH, {"query": ""}, "empty_string", "query"),
    (SEARCH, {"query": []}, "empty_array", "query"),
    (SEARCH, {"query": ["a", ""]}, "empty_string", "query[1]"),
    (SEARCH, {"query": 3}, _TYPE, "query"),
    (SEARCH, {"query": ["x"] * 33}, "array_above_max_length", "query"),
    (SEARCH, {"query": "x" * 16_385}, "string_above_max_length", "query"),
    (SEARCH, {"query": "x", "max_num_results": 0}, _BELOW, "max_num_results"),
    (SEARCH, {"query": "x", "max_num_results": 51}, _ABOVE, "max_num_results"),
    (SEARCH, {"query": "x", "max_num_results": "5"}, _TYPE, "max_num_results"),
    (SEARCH, {"query": "x", "rewrite_query": 1}, _TYPE, "rewrite_query"),
    (SEARCH, {"query": "x", "limit": 1}, "unknown_parameter", "limit"),
    (SEARCH, {"query": "x", "filters": []}, _TYPE, "filters"),
    (SEARCH, _filter(type="like", key="a", value="b"), _VALUE, "filters.type"),
    (SEARCH, _filter(key="a", value="b"), _MISSING, "filters.type"),
    (SEARCH, _filter(type="eq", key="a"), _MISSING, "filters.value"),
    (SEARCH, _filter(type="eq", value="a"), _MISSING, "filters.key"),
    (SEARCH, _filter(type="gt", key="a", value=True), _TYPE, "filters.value"),
    (SEARCH, _filter(type="in", key="a", value="b"), _TYPE, "filters.value"),
    (SEARCH, _filter(type="and"), _MISSING, "filters.filters"),
    (
        SEARCH,
        _filter(type="and", filters=[{"type": "eq", "key": 1, "value": 1}]),
        _TYPE,
        "filters.filters[0].key",
    ),
    (SEARCH, _filter(**_DEEP), _VALUE, "filters"),
    (
        SEARCH,
        {"query": "x", "ranking_options": {"ranker": "x"}},
        _VALUE,
        "ranking_options.ranker",
    ),
    (
        SEARCH,
        {"query": "x", "ranking_options": {"score_threshold": 1.1}},
        "decimal_above_max_value",
        "ranking_options.score_threshold",
    ),
]


@pytest.fixture(scope="module")
def there(idle: Shelves) -> tuple[str, str]:
    """A store and its file."""
    file = idle.file(DOGS)
    return idle.store(file), file


@pytest.mark.parametrize(("path", "body", "code", "param"), CASES)
def test_a_body_that_is_refused(
    idle: Shelves, there: tuple[str, str], path: str, body: Any, code: str, param: str | None
) -> None:
    """With what is wrong named, and with no effect."""
    store, file = there
    before = idle.get(f"/{store}"), idle.get("", limit=100)
    path = path.replace("VS", store).replace("FILE", file)
    error = refused(idle.ask("POST", path, json=body), 400)
    assert (error["code"], error["param"]) == (code, param), error
    assert error["type"] == "invalid_request_error"
    assert (idle.get(f"/{store}"), idle.get("", limit=100)) == before


def test_more_than_half_of_a_chunk(idle: Shelves) -> None:
    message = refused(idle.ask("POST", "", json=_static(801, 401)), 400)["message"]
    assert message == (
        f"Invalid '{_OVERLAP}': integer above maximum value. Expected a value <= 400, half of "
        "'max_chunk_size_tokens', but got 401 instead."
    )
    assert idle.post("", _static(801, 400))["id"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"file_ids": [UNKNOWN]}, "file_ids"),
        (FILES, {"file_id": UNKNOWN}, "file_id"),
        (BATCHES, {"file_ids": ["FILE", UNKNOWN]}, "file_ids"),
        (BATCHES, {"files": [{"file_id": "FILE"}, {"file_id": UNKNOWN}]}, "files"),
    ],
    ids=str,
)
def test_an_unknown_file(
    idle: Shelves, there: tuple[str, str], path: str, body: Json, param: str
) -> None:
    """All or nothing: no store, no batch, no file of it."""
    store, file = there
    before = idle.get("", limit=100), idle.get(f"/{store}/files")
    filled = orjson.loads(orjson.dumps(body).replace(b"FILE", file.encode()))
    error = refused(idle.ask("POST", path.replace("VS", store), json=filled))
    assert (error["message"], error["param"]) == (f"No such File object: {UNKNOWN}", param)
    assert (idle.get("", limit=100), idle.get(f"/{store}/files")) == before


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1.0", "limit"),
        ("order=up", "order"),
        ("after=vs_1", "after"),
        ("before=file-1", "before"),
        ("after=%00", "after"),
        ("page=2", "page"),
        ("filter=done", "filter"),
    ],
)
@pytest.mark.parametrize("path", ["", FILES, "/VS/file_batches/BATCH/files"])
def test_a_query_that_is_refused(
    idle: Shelves, there: tuple[str, str], path: str, query: str, param: str
) -> None:
    store, file = there
    batch = idle.post(f"/{store}/file_batches", {"file_ids": [file]})["id"]
    path = path.replace("VS", store).replace("BATCH", batch)
    error = refused(idle.ask("GET", f"{path}?{query}"), 400)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nonsense", 400),
        ("GET", "/vs_%2e%2e%2f", 404),
        ("GET", "/vs_1/files", 404),
        ("GET", "/VS/files/x%20y", 404),
        ("GET", "/VS/files/..%2f..", 404),
        ("GET", "/VS/file_batches/nonsense", 400),
        ("GET", "/VS/file_batches/vsfb_1", 404),
        ("GET", "/VS/file_batches/vsfb_1/files", 404),
        ("POST", "/VS/file_batches/vsfb_1/cancel", 404),
        ("DELETE", "/VS/files/file-1", 404),
        ("GET", "/VS?limit=1", 400),
        ("PUT", "/VS", 405),
    ],
)
def test_paths(idle: Shelves, there: tuple[str, str], method: str, path: str, status: int) -> None:
    refused(idle.ask(method, path.replace("VS", there[0])), status)


def test_a_search_without_a_body(idle: Shelves, there: tuple[str, str]) -> None:
    assert refused(idle.ask("POST", f"/{there[0]}/search"), 400)["code"] is None
