"""Used approvals in memory (`store.base.approvals`); bounded by their time, as in the database."""


class MemoryApprovals:
    """See `UsedApprovals`."""

    def __init__(self) -> None:
        #: By project and id: the response, and when it may be forgotten.
        self._used: dict[tuple[str, str], tuple[str, int]] = {}

    async def use(self, project: str, id: str, response_id: str, expires_at: int) -> str:  # noqa: A002
        """See `UsedApprovals.use`."""
        user, _ = self._used.setdefault((project, id), (response_id, expires_at))
        return user

    async def user(self, project: str, id: str) -> str | None:  # noqa: A002
        """See `UsedApprovals.user`."""
        found = self._used.get((project, id))
        return found[0] if found else None

    def expire(self, now: int, limit: int) -> int:
        """Forget at most `limit` whose time was over at `now`; how many there were."""
        due = [key for key, (_, until) in self._used.items() if until <= now][:limit]
        for key in due:
            del self._used[key]
        return len(due)
