"""The port to approvals that were used (reliability R-124)."""

from typing import Protocol


class UsedApprovals(Protocol):
    """Which response used which approval. Times in Unix seconds."""

    async def use(self, project: str, id: str, response_id: str, expires_at: int) -> str:  # noqa: A002
        """Use an approval for a response, durably, unless another one has it; which one has it
        then. It is remembered until `expires_at`, at least."""
        ...

    async def user(self, project: str, id: str) -> str | None:  # noqa: A002
        """The response that has used it."""
        ...
