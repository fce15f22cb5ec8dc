"""Under a time limit, cheap members come first and what does not fit is named."""

from __future__ import annotations

from stackfeat.ensemble.budget import Deadlines, admit, first_folds
from stackfeat.ensemble.units import Job, Step


def jobs(*members: str, n: int = 3) -> list[Job]:
    return [Job(name, 0, k, (Step(f"{name}-{k}", {}),)) for name in members for k in range(n)]


def test_the_first_fold_of_every_member_is_found() -> None:
    assert [(job.member, job.fold) for job in first_folds(jobs("a", "b"))] == [("a", 0), ("b", 0)]


def test_members_are_admitted_from_the_cheapest_up_for_as_long_as_they_fit() -> None:
    admitted, left_out = admit(
        jobs("slow", "fast", "middle"), {"slow": 100.0, "fast": 1.0, "middle": 5.0}, 2, 10.0
    )
    assert [job.member for job in admitted] == ["fast"] * 3 + ["middle"] * 3
    assert left_out == ["slow"]


def test_the_cheapest_member_is_admitted_even_if_time_is_short() -> None:
    admitted, left_out = admit(jobs("a", "b"), {"a": 50.0, "b": 60.0}, 1, 1.0)
    assert {job.member for job in admitted} == {"a"}
    assert left_out == ["b"]


def test_fifteen_percent_and_at_least_thirty_seconds_are_kept_for_what_comes_after() -> None:
    assert Deadlines.starting_at(0.0, 1000.0).base == 850.0
    assert Deadlines.starting_at(0.0, 100.0).base == 70.0
    assert Deadlines.starting_at(0.0, None) == Deadlines(None, None)
    later = Deadlines.starting_at(0.0, 1000.0).later
    assert later is not None and 850.0 < later < 1000.0
