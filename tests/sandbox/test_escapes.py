"""The escape corpus against a real sandbox (`cases.py`)."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from antiphon.sandbox.base import Sandbox
from antiphon.sandbox.launcher import Launcher
from tests.sandbox.bench import LIMITS, SECRET, Outside, Traces, outside, printed, works
from tests.sandbox.cases import ESCAPES
from tests.sandbox_environment import sandbox_environment

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def world() -> Iterator[Outside]:
    """A server that code would like to reach, with a secret in its environment."""
    os.environ["ANTIPHON_API_KEYS"] = SECRET
    with outside() as made:
        yield made
    del os.environ["ANTIPHON_API_KEYS"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(world: Outside) -> AsyncIterator[Sandbox]:
    """One for all of them."""
    launcher = Launcher(sandbox_environment())
    before = Traces.here()
    yield await launcher.start(LIMITS)
    await launcher.aclose()
    assert Traces.here() <= before


@pytest.mark.parametrize("name", ESCAPES)
async def test_code_does_not_get_out(name: str, sandbox: Sandbox, world: Outside) -> None:
    before = Traces.here()
    ran = await sandbox.run(world.code(ESCAPES[name]), 30)
    text = printed(ran)
    assert ran.ending == "ok", text
    assert "no:" in text
    assert "YES" not in text, "\n".join(line for line in text.splitlines() if "YES" in line)
    assert SECRET not in text
    assert not ran.renewed
    await works(sandbox)
    assert Traces.here().files <= before.files
    assert Traces.here().tasks <= before.tasks
