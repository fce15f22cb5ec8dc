"""How long members take, as the report shows it: nothing else in it depends on the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stackfeat.meta.estimator_io import FitInfo


@dataclass(frozen=True)
class Times:
    """How long a member takes: all its fits, and one row of a fold that it predicts, in seconds."""

    fit: float
    row: float | None = None


def times_of(fits: Mapping[tuple[str, int, Any], FitInfo]) -> dict[str, Times]:
    """Return the times of every member, whenever it was computed.

    Parameters
    ----------
    fits : mapping
        What fits noted, by member, repeat and fold.
    """
    found: dict[str, list[FitInfo]] = {}
    for (member, *_), info in fits.items():
        found.setdefault(member, []).append(info)
    return {member: _times(infos) for member, infos in found.items()}


def _times(infos: Sequence[FitInfo]) -> Times:
    rows = [info.row_seconds for info in infos if info.row_seconds is not None]
    return Times(round(sum(info.seconds for info in infos), 3), fmean(rows) if rows else None)
