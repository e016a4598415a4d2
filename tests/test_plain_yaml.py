"""YAML that people write, and JSON comes back from (cli/plain_yaml.py)."""

from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antiphon.cli.plain_yaml import dump, load


def test_the_words_of_other_yamls_are_texts() -> None:
    text = b"{a: no, b: 12:30, c: 2026-01-01, d: 010, e: 0x1f, f: .inf, g: <<, h: True, i: 1_0}"
    assert load(text) == {
        "a": "no",
        "b": "12:30",
        "c": "2026-01-01",
        "d": "010",
        "e": "0x1f",
        "f": ".inf",
        "g": "<<",
        "h": "True",
        "i": "1_0",
    }
    assert load(b"[true, null, ~, 1, -2, 0.5, 1e3]") == [True, None, None, 1, -2, 0.5, 1000.0]


_ODD: Final = st.text(" \n\t#:-'\"|>{}[],&*!%@`\r\u2028\x85\ufeffaé😀0.e1~\0", max_size=12)
_JSON: Final = st.recursive(
    st.text()
    | _ODD
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
    | st.sampled_from(["no", "null", "1e5", "12:30", "=", "<<", "", "01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ODD, inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_every_json_value_comes_back_from_yaml(value: Any) -> None:
    text = dump(value)
    assert load(text.encode()) == value
    assert dump(load(text.encode())) == text
