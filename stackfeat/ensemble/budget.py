"""Budget: what to compute first when time is limited, and what to leave out.

Every base member runs its first fold first; that tells what the rest will cost. Members
are then admitted from the cheapest up for as long as they are expected to fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stackfeat.ensemble.units import Job

RESERVE_SHARE = 0.15
RESERVE_SECONDS = 30.0


@dataclass(frozen=True)
class Deadlines:
    """When to stop starting jobs, in `time.monotonic()` seconds; None is never.

    Attributes
    ----------
    base : float or None
        For the first level: 15 % of the limit, at least 30 s, is kept for what comes after.
    later : float or None
        For fitted members above it; votes and writing always happen.
    """

    base: float | None = None
    later: float | None = None

    @classmethod
    def starting_at(cls, start: float, limit: float | None) -> Deadlines:
        """Share out a limit in seconds."""
        if limit is None:
            return cls()
        reserve = max(RESERVE_SHARE * limit, min(RESERVE_SECONDS, 0.5 * limit))
        return cls(start + limit - reserve, start + limit - 0.25 * reserve)


def first_folds(jobs: Sequence[Job]) -> list[Job]:
    """Return the first job of every member."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.member, job)
    return list(first.values())


def admit(
    jobs: Sequence[Job], seconds: Mapping[str, float], n_parallel: int, remaining: float
) -> tuple[list[Job], list[str]]:
    """Choose the members whose remaining jobs are expected to fit.

    Parameters
    ----------
    jobs : sequence of Job
        Not yet done.
    seconds : mapping
        Member to the seconds its first fold took.
    n_parallel : int
        Jobs that run side by side.
    remaining : float
        Seconds left for them.

    Returns
    -------
    admitted : list of Job
        Member by member, cheapest first, so that what is finished is finished whole.
    left_out : list of str
        Members not expected to fit. The cheapest is always admitted.
    """
    members: dict[str, list[Job]] = {}
    for job in jobs:
        members.setdefault(job.member, []).append(job)
    costs = {member: seconds.get(member, 0.0) * len(listed) for member, listed in members.items()}
    admitted: list[Job] = []
    left_out: list[str] = []
    used = 0.0
    for member in sorted(members, key=lambda name: costs[name]):
        cost = costs[member] / n_parallel
        if admitted and used + cost > remaining:
            left_out.append(member)
            continue
        used += cost
        admitted.extend(members[member])
    return admitted, left_out
