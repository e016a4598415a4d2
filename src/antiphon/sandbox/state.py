"""What sandboxes are like on this machine, for those who run the server (`antiphon doctor`)."""

from dataclasses import dataclass
from typing import Final

#: What there is instead of a cgroup for memory.
_NO_MEMORY: Final = (
    "no cgroup: looked at twice a second, and limited a process; what the kernel itself keeps "
    "(pipes, sockets, epoll) is only looked at"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One wall or limit, whether it holds here, and what there is instead or why."""

    what: str
    holds: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """`reason`: why there are no sandboxes here; None: there are. `walls`: of which kind."""

    reason: str | None
    walls: str = ""
    facts: tuple[Fact, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Code can be run."""
        return self.reason is None


def limits(groups: frozenset[str], is_first_to_go: bool) -> tuple[Fact, ...]:
    """Those that depend on the machine. `groups`: limits of cgroups that there are;
    `is_first_to_go`: the kernel ends sandboxes first when it has no memory left."""
    has_memory, has_processes, has_share = (name in groups for name in ("memory", "pids", "cpu"))
    return (
        Fact(
            "memory by the kernel",
            has_memory,
            "" if has_memory else _NO_MEMORY,
        ),
        Fact(
            "processes",
            True,
            "by cgroup and RLIMIT_NPROC" if has_processes else "by RLIMIT_NPROC, as another user",
        ),
        Fact(
            "share of processors",
            has_share,
            "" if has_share else "no cgroup: sandboxes are nice to others, and have few sessions",
        ),
        Fact(
            "ended first when memory is short",
            is_first_to_go,
            "" if is_first_to_go else "the program choom is missing (util-linux)",
        ),
    )
