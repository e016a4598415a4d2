"""JSON schemas in a request: checked before anything runs, in OpenAI's words (spec §1.2, §8, R-13).

Rules
1. `schema_steps` judges `text.format` and every function tool, and gives each tool its effective
   `strict`, which the response echoes. It goes step by step, because a large schema takes up to
   50 ms and others want to work between two of them; `check_schemas` takes all steps at once.
2. Strict schemas obey `schemas_strict`. Others need only be valid JSON Schema without remote
   references, at most 64 KiB and 64 levels; their patterns are never compiled and answers are not
   held against them (spec §8: a hint for the model).
3. Verdicts and compiled schemas are kept in one bounded cache per process, keyed by project and
   the schema's bytes (R-33).
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import orjson

from antiphon.errors import InvalidRequestError
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.schemas_answer import AnswerSchema
from antiphon.protocol.schemas_strict import check_strict, resolve, root_problem

__all__ = ["AnswerSchema", "check_schemas", "check_strict", "normalise_tools", "schema_steps"]

Tool: TypeAlias = dict[str, Any]
_Verdict = TypeVar("_Verdict")

#: The drafts that jsonschema-rs carries.
_DRAFT = re.compile(r"https?://json-schema\.org/(draft-0[467]|draft/20(19-09|20-12))/schema#?")

#: Bytes of one serialised schema, and levels of its JSON (R-13). A strict `text.format` may be
#: larger: OpenAI allows 120,000 characters; checked and compiled in 40 ms at worst.
MAX_LOOSE_BYTES = 65_536
MAX_STRICT_BYTES = 98_304
MAX_DEPTH = 64
#: Bytes of schema text that each cache keeps; compiled, a schema takes about 20 times its text.
_CACHE_BYTES = 2 * 1024 * 1024


def check_schemas(request: CreateResponse, project: str = "") -> AnswerSchema | None:
    """`schema_steps`, all at once."""
    steps = schema_steps(request, project)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            verdict: AnswerSchema | None = end.value
            return verdict


def schema_steps(
    request: CreateResponse, project: str
) -> Generator[None, None, AnswerSchema | None]:
    """Judge every schema of `request`; raises `InvalidRequestError` naming the first bad one.

    `request.tools` is replaced by the tools with their effective `strict`. Returns what the answer
    must look like, or None when nothing is promised.
    """
    if request.tools is not None:
        checked = []
        for index, tool in enumerate(request.tools):
            checked.append(_normalise(tool, project, f"tools[{index}]"))
            yield
        request.tools = checked
    return _answer_schema((request.text or {}).get("format") or {}, project)


def normalise_tools(tools: list[Tool], project: str = "", at: str = "tools") -> list[Tool]:
    """The tools with their effective `strict` (spec §1.2).

    Omitted, it is true when `parameters` already is in the strict subset, else false.
    """
    return [_normalise(tool, project, f"{at}[{index}]") for index, tool in enumerate(tools)]


def _normalise(tool: Tool, project: str, where: str) -> Tool:
    if tool["type"] == "function":
        return {**tool, "strict": _effective_strict(tool, project, f"{where}.parameters")}
    if tool["type"] == "namespace":
        return {**tool, "tools": normalise_tools(tool["tools"], project, f"{where}.tools")}
    return tool


def _effective_strict(tool: Tool, project: str, param: str) -> bool:
    parameters, asked = tool.get("parameters"), tool.get("strict")
    if not parameters:  # null, absent or {}: a function without arguments
        return asked is True
    place = _Place(f"function '{tool['name']}'", param, "invalid_function_parameters", project)
    return _TOOLS[asked].check(parameters, place)


def _answer_schema(form: dict[str, Any], project: str) -> AnswerSchema | None:
    kind = form.get("type")
    if kind == "json_object":
        return _ANY_OBJECT
    if kind != "json_schema":
        return None
    subject = f"response_format '{form['name']}'"
    place = _Place(subject, "text.format.schema", "invalid_json_schema", project)
    if form.get("strict"):
        return _ANSWERS.check(form["schema"], place)
    _LOOSE.check(form["schema"], place)
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a schema stands in the request, and how errors name it."""

    subject: str
    param: str
    code: str
    project: str

    def error(self, problem: str) -> InvalidRequestError:
        message = f"Invalid schema for {self.subject}: {problem}"
        return InvalidRequestError(message, param=self.param, code=self.code)


def _strict(schema: Any, place: _Place) -> bool:
    check_strict(schema, subject=place.subject, param=place.param, code=place.code)
    _check_meta(schema, place)
    return True


def _loose(schema: Any, place: _Place) -> bool:
    if problem := root_problem(schema):
        raise place.error(problem)
    _check_meta(schema, place)
    for ref in _references(schema):
        if not ref.startswith("#"):
            raise place.error(f"reference '{ref}' points outside the schema.")
        if ref.startswith("#/") and resolve(schema, ref) is None:
            raise place.error(f"reference '{ref}' points to nothing.")
    return False


def _strict_if_possible(schema: Any, place: _Place) -> bool:
    try:
        return _strict(schema, place)
    except InvalidRequestError:
        return _loose(schema, place)


def _compile(schema: Any, place: _Place) -> AnswerSchema:
    _strict(schema, place)
    try:
        return AnswerSchema(schema)
    except ValueError as error:
        raise place.error(str(error)) from None


def _check_meta(schema: dict[str, Any], place: _Place) -> None:
    """Valid against the meta-schema of its draft; nothing is compiled or fetched."""
    from antiphon.protocol.schemas_validator import complaint  # noqa: PLC0415

    draft = schema.get("$schema")
    if not (isinstance(draft, str) and _DRAFT.fullmatch(draft)):
        # jsonschema-rs would look for an unknown meta-schema on the network.
        schema = {key: value for key, value in schema.items() if key != "$schema"}
    if problem := complaint(schema):
        raise place.error(problem)


def _references(schema: Any) -> list[str]:
    """All `$ref` strings, wherever they stand; a property named "$ref" has an object, no string."""
    found: list[str] = []
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                found.append(node["$ref"])
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return found


class _Cache(Generic[_Verdict]):
    """The verdicts of one check on good schemas; the least recently used leave first."""

    def __init__(self, judge: Callable[[Any, _Place], _Verdict], max_bytes: int) -> None:
        self._judge = judge
        self._max_bytes = max_bytes
        self._size = 0
        self._kept: OrderedDict[tuple[str, bytes], _Verdict] = OrderedDict()

    def check(self, schema: Any, place: _Place) -> _Verdict:
        """The verdict on `schema`; raises `InvalidRequestError`."""
        key = (place.project, self._serialise(schema, place))
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        verdict = self._judge(schema, place)
        self._kept[key] = verdict
        self._size += len(key[1])
        while self._size > _CACHE_BYTES:
            (_, oldest), _ = self._kept.popitem(last=False)
            self._size -= len(oldest)
        return verdict

    def _serialise(self, schema: Any, place: _Place) -> bytes:
        try:
            text = orjson.dumps(schema)
        except (
            orjson.JSONEncodeError
        ):  # numbers of more than 64 bits, lone surrogates, > 254 levels
            raise place.error("schema is not plain JSON, or nested too deeply.") from None
        if len(text) > self._max_bytes:
            limit = self._max_bytes
            raise place.error(f"{len(text)} bytes of serialized schema exceeds limit of {limit}.")
        if _levels(schema) > MAX_DEPTH:
            raise place.error(f"more than {MAX_DEPTH} levels of JSON.")
        return text


def _levels(schema: Any) -> int:
    """How deeply the JSON of a schema is nested."""
    depth, level = 0, [schema]
    while level:
        depth += 1
        level = [
            member
            for node in level
            for member in (
                node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
            )
        ]
    return depth


_ANY_OBJECT = AnswerSchema(None)
_LOOSE = _Cache(_loose, MAX_LOOSE_BYTES)
_ANSWERS = _Cache(_compile, MAX_STRICT_BYTES)
#: By what the tool says of `strict`.
_TOOLS: dict[bool | None, _Cache[bool]] = {
    True: _Cache(_strict, MAX_STRICT_BYTES),
    False: _LOOSE,
    None: _Cache(_strict_if_possible, MAX_LOOSE_BYTES),
}
