"""The documentation tells the truth: docs/settings.md, docs/compatibility.md.

``python -m tests.test_docs`` writes docs/settings.md again.
"""

import re
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from antiphon.protocol.parameters import Includable
from antiphon.protocol.request import CreateResponse
from antiphon.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[1]
COMPATIBILITY: Final = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")

HEAD: Final = """# Settings

Environment variables, or the same names in a file `.env` in the folder where the server starts; the
environment wins. `antiphon serve` takes the common ones as options too. An unknown `ANTIPHON_` name
stops the start. Keys of backends stand in variables that `antiphon.toml` names
([backends.md](backends.md)). This page is made from `src/antiphon/settings.py`.

| setting | type | default | meaning |
|---|---|---|---|
"""


def _type(annotation: Any) -> str:
    if get_origin(annotation) is not None and get_origin(annotation) is not list:
        return " \\| ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) is list:
        return "comma-separated"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
    return names.get(annotation.__name__, "path")


def settings_page() -> str:
    """docs/settings.md as it should be."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default in ("", []) else f"`{str(default).lower()}`"
        if isinstance(default, Path):
            shown = f"`./{default}`"
        rows.append(
            f"| `{PREFIX}{name.upper()}` | {_type(field.annotation)} | {shown} "
            f"| {field.description} |\n"
        )
    return HEAD + "".join(rows)


def test_the_settings_page_is_up_to_date() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_page()


@pytest.mark.parametrize("name", list(CreateResponse.model_fields))
def test_every_parameter_is_on_the_compatibility_page(name: str) -> None:
    assert re.search(rf"^\| `{name}`", COMPATIBILITY, re.MULTILINE), name


@pytest.mark.parametrize("value", get_args(Includable))
def test_every_include_value_is_on_the_compatibility_page(value: str) -> None:
    assert f"`{value}`" in COMPATIBILITY


def test_every_event_is_on_the_compatibility_page() -> None:
    schemas = TypeAdapter(ResponseStreamEvent).json_schema()["$defs"]
    events = {
        schema["properties"]["type"]["const"]
        for name, schema in schemas.items()
        if name.startswith("Response") and name.endswith("Event")
    }
    assert [event for event in sorted(events) if f"`{event}`" not in COMPATIBILITY] == []


def test_the_tests_that_the_compatibility_page_names_exist() -> None:
    for path in set(re.findall(r"tests/[\w/]+\.py", COMPATIBILITY)):
        assert (ROOT / path).is_file(), path


if __name__ == "__main__":
    (ROOT / "docs/settings.md").write_text(settings_page(), encoding="utf-8")
