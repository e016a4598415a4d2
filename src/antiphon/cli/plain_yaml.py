"""YAML that is JSON in nicer clothes: what people may write by hand, and the same bytes every time.

Rules
1. There are JSON's types and no others: ``no``, ``12:30`` and ``2026-01-01`` are texts.
2. There are no tags, no aliases (which make a small file endless), no key twice, and an end to the
   depth (R-09, R-12).
3. A text of several lines is written as a block, so that a change of one line is a change of one.
"""

import json
import re
from typing import Any, Final

import yaml

_MAX_DEPTH: Final = 128
_TEXT: Final = "tag:yaml.org,2002:str"
#: What a plain word means, by its first character. Everything else is a text.
_PLAIN: Final = (
    ("null", re.compile(r"(?:null|~|)\Z"), ["n", "~", ""]),
    ("bool", re.compile(r"(?:true|false)\Z"), ["t", "f"]),
    ("int", re.compile(r"-?(?:0|[1-9][0-9]*)\Z"), list("-0123456789")),
    (
        "float",
        re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?\Z"),
        list("-0123456789"),
    ),
)

#: Characters that YAML takes for line breaks, or for none at all.
_FRAGILE: Final = re.compile("[\r\x85\u2028\u2029\ufeff]")


def _problem(text: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """Reads JSON's types and nothing else."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _problem("aliases are not allowed", event.start_mark)
        if event.tag is not None:
            raise _problem("tags are not allowed", event.start_mark)
        if self._depth == _MAX_DEPTH:
            raise _problem(f"nested more than {_MAX_DEPTH} levels deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != _TEXT:
                raise _problem("a key must be a text", key.start_mark)
            if key.value in seen:
                raise _problem(f"the key '{key.value[:100]}' is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and nothing as an alias."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True

    def text(self, text: str) -> yaml.ScalarNode:
        """A block where it has more than one line; quoted where characters could get lost."""
        style = '"' if _FRAGILE.search(text) else "|" if "\n" in text else None
        return self.represent_scalar(_TEXT, text, style=style)


for _type, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", _pattern, _first)
_Dumper.add_representer(str, _Dumper.text)


def load(raw: bytes) -> Any:
    """The JSON value in `raw`. Raises ValueError, which says in one line where it is none."""
    try:
        loader = _Loader(raw)
        value = loader.get_single_data()
        # Also refuses numbers without end and halves of characters.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    return value


def dump(value: Any) -> str:
    """A JSON value as YAML; the same value gives the same text."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
    return text
