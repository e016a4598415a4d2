"""``/health``: what an operator's machines are told (R-122)."""

from pathlib import Path

import httpx2

from antiphon.app import Antiphon
from antiphon.settings import Settings


async def test_ready_until_the_shutdown_begins(tmp_path: Path) -> None:
    """R-73, R-122: no new requests for a server that turns them away; it lives on."""
    none = tmp_path / "none.toml"
    antiphon = Antiphon(Settings(config=none, database_url="memory://", discover=False))
    transport = httpx2.ASGITransport(app=antiphon.asgi)
    async with httpx2.AsyncClient(transport=transport, base_url="http://antiphon") as client:
        assert (await client.get("/health/ready")).status_code == 200
        antiphon.engine.stopping = True
        refused = await client.get("/health/ready")
        assert (refused.status_code, refused.json()) == (503, {"status": "shutting down"})
        assert (await client.get("/health/live")).status_code == 200
    await antiphon.router.aclose()
