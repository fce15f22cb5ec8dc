"""How long members take, as the report shows it: nothing else in it depends on the machine."""

from __future__ import annotations

from dataclasses import dataclass

from stackfeat.output.completed_run import CompletedRun


@dataclass(frozen=True)
class Times:
    """How long a member takes: all its fits, and one row of a fold that it predicts, in seconds."""

    fit: float
    row: float | None = None


def times_of(finished: CompletedRun) -> dict[str, Times]:
    """Return the times of every scored member, whenever it was computed."""
    return {score.name: Times(finished.seconds(score)) for score in finished.scores}
