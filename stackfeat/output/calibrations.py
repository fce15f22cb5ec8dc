"""Calibrations: what the fits of each calibrated member kept, from what they noted.

In:  reports of fits, as in ``scores.json``; widenings of averages.
Out: a `CalibrationVerdict` for each member, with the words for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stackfeat.meta.widening import Widening
from stackfeat.output.digits import with_error


@dataclass(frozen=True)
class CalibrationVerdict:
    """What was made of the predictions of one member.

    Attributes
    ----------
    member : str
        Full name.
    families : mapping of str to int
        In how many fits each family was kept.
    n_fits : int
        One for each fold and repeat, and the one on all rows.
    gain, se : float
        Mean fall of the held-out loss over the fits that kept a family, or where none did, by the family that was
        nearest to it; and the mean of their standard errors, as fits share most of their rows.
    text : str
        All of this, and by what averages over pipelines are widened.
    """

    member: str
    families: Mapping[str, int]
    n_fits: int
    gain: float
    se: float
    text: str


def calibration_verdicts(
    reports: Mapping[str, Sequence[Mapping[str, Any]]], widenings: Mapping[str, Widening | None]
) -> list[CalibrationVerdict]:
    """Return the verdicts that are in the reports of fits, by member."""
    found = []
    for member, listed in reports.items():
        noted = [report["calibration"] for report in listed if "calibration" in report]
        if noted:
            found.append(_verdict(member, noted, widenings.get(member)))
    return found


def _verdict(
    member: str, noted: Sequence[Mapping[str, Any]], widening: Widening | None
) -> CalibrationVerdict:
    kept = [one for one in noted if one["family"] != "none"]
    families = Counter(one["family"] for one in kept)
    measured = kept or [max(one["trials"], key=lambda trial: trial["gain"]) for one in noted]
    gain, se = fmean(one["gain"] for one in measured), fmean(one["se"] for one in measured)
    if kept:
        named = ", ".join(f"{name} in {times} of {len(noted)} fits" for name, times in families.most_common())
        text = f"{member} by {named}, the loss falls by {with_error(gain, se)}"
    else:
        best = f"at best the loss falls by {with_error(gain, se)}"
        if gain < 0:
            best = f"even the best calibration raises the loss by {with_error(-gain, se)}"
        text = f"{member} stays as it is in all {len(noted)} fits: {best}"
    if widening is not None:
        factors = ", ".join(f"{factor:.3g}" for factor in dict.fromkeys(widening.factors))
        text += f"; averages over pipelines are widened by {factors}"
    return CalibrationVerdict(member, dict(families), len(noted), gain, se, text)
