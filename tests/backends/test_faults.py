"""What of an upstream's words the operator reads: never a key, nor half of one (R-42, R-130)."""

import pytest
from structlog.testing import capture_logs

from antiphon.backends.faults import printable, shown
from antiphon.backends.upstream import Upstream, UpstreamConfig, bearer

KEY = "operators-own-secret"
OTHERS = "sk-proj-abcdef123456"


@pytest.mark.parametrize("before", range(2018, 2050))
def test_a_key_is_hidden_before_the_line_is_cut(before: int) -> None:
    config = UpstreamConfig("gpu-box", "http://127.0.0.1:9/v1", api_key=KEY)
    for secret, kept in ((KEY, ""), (OTHERS, "sk-")):
        said = b"x" * before + b" " + secret.encode() + b" \x1b[31m"
        with capture_logs() as logs:
            Upstream(config, bearer).tell("upstream_fault", f"no: {shown(said)}")
        detail = logs[0]["detail"]
        assert detail.isprintable()
        assert len(detail) <= 2048
        rest = detail.removeprefix("no: ").lstrip("x").strip()
        assert (f"{kept}… \\x1b[31m").startswith(rest)


def test_a_short_line_is_whole() -> None:
    assert printable("a\x00b") == "a\\x00b"
    assert printable("Bearer abcdef1 and more") == "Bearer … and more"
    assert printable("abcdef", 3) == "abc"
