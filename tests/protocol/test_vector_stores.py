"""Bodies of vector stores: chunks, attributes, queries (spec App. G)."""

import pytest
from pydantic import ValidationError

from antiphon.errors import InvalidRequestError
from antiphon.protocol.validation import refusal
from antiphon.protocol.vector_stores import (
    NewStoreFile,
    VectorStoreSearch,
    chunk_sizes,
    chunking_shape,
)


def static(size: int, overlap: int) -> dict[str, object]:
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    return {"type": "static", "static": sizes}


def test_sizes_of_chunks() -> None:
    assert chunk_sizes(None) == chunk_sizes({"type": "auto"}) == (800, 400)
    assert chunk_sizes(static(101, 50)) == (101, 50)
    assert chunking_shape(101, 50) == static(101, 50)
    with pytest.raises(InvalidRequestError, match="<= 50, half of") as caught:
        chunk_sizes(static(101, 51), "files[3].chunking_strategy")
    assert caught.value.param == "files[3].chunking_strategy.static.chunk_overlap_tokens"
    assert caught.value.code == "integer_above_max_value"


def test_attributes_keep_their_types() -> None:
    given = {"a": 1, "b": 1.0, "c": True, "d": "1"}
    taken = NewStoreFile.model_validate({"file_id": "f", "attributes": given}).attributes
    assert taken is not None
    assert [(value, type(value)) for value in taken.values()] == [
        (1, int),
        (1.0, float),
        (True, bool),
        ("1", str),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, [], {}])
def test_what_is_no_attribute(value: object) -> None:
    with pytest.raises(ValidationError):
        NewStoreFile.model_validate({"file_id": "f", "attributes": {"a": value}})


@pytest.mark.parametrize("query", ["x", ["x", "y"]])
def test_queries(query: object) -> None:
    assert VectorStoreSearch.model_validate({"query": query}).query == query


def test_a_query_is_no_object() -> None:
    body = {"query": {"text": "x"}}
    with pytest.raises(ValidationError) as caught:
        VectorStoreSearch.model_validate(body)
    assert refusal(caught.value, body).message == (
        "Invalid type for 'query': expected one of a string or an array of strings, but got an "
        "object instead."
    )
