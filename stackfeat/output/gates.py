"""Gates: what the gate of each member made of each feature block, from what its fits noted.

In:  reports of fits, as in ``scores.json``.
Out: a `GateVerdict` for each block that a member judged, with the words for people.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stackfeat.meta.gating.blocks import GateStep
from stackfeat.output.digits import with_error
from stackfeat.structure import structured


@dataclass(frozen=True)
class GateVerdict:
    """What the gate of one member made of one feature block.

    Attributes
    ----------
    block, member : str
        Full names.
    n_entered, n_fits : int
        Fits of the member that the block entered, and all that judged it: one for each fold and repeat, and the one
        on all rows.
    gain, se : float or None
        Mean fall of the cross-validated loss over the fits that it entered, or where it entered none over those that
        tried it, and the mean of their standard errors: fits share most of their rows, so an average of them is
        hardly surer than one. None where no fit tried it.
    text : str
        All of this, and why it was refused.
    """

    block: str
    member: str
    n_entered: int
    n_fits: int
    gain: float | None
    se: float | None
    text: str


@dataclass(frozen=True)
class _Judged:
    """What the gate of one fit noted of one block."""

    has_entered: bool
    steps: tuple[GateStep, ...]
    limit: float

    @property
    def gain(self) -> tuple[float, float] | None:
        """What it gained in all steps by which it entered, or in the last that refused it; with the error."""
        accepted = [step for step in self.steps if step.accepted]
        if accepted:
            return sum(step.gain for step in accepted), math.hypot(
                *(step.standard_error for step in accepted)
            )
        return (self.steps[-1].gain, self.steps[-1].standard_error) if self.steps else None


def verdicts_of(reports: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[GateVerdict]:
    """Return the verdicts that are in the reports of fits, by member: those of ``scores.json`` have the same form."""
    found = []
    for member, listed in reports.items():
        judged: dict[str, list[_Judged]] = {}
        for report in listed:
            for block, one in _judged(report):
                judged.setdefault(block, []).append(one)
        found += [_verdict(block, member, fits) for block, fits in judged.items()]
    return found


def _judged(report: Mapping[str, Any]) -> Iterator[tuple[str, _Judged]]:
    """Yield the blocks that one fit judged: `gated_linear` notes it at the top, other members below ``gate``.

    Of several targets each has a fit of its own.
    """
    for own in report.get("targets", {}).values():
        yield from _judged(own)
    noted = report.get("gate", {}).get("trials", report)
    if "steps" not in noted or "threshold_se" not in noted:
        return
    steps = [structured(GateStep, step, "a step of a gate") for step in noted["steps"]]
    for block, scale in noted["scales"].items():
        of_block = tuple(step for step in steps if step.block == block)
        yield block, _Judged(scale > 0, of_block, noted["threshold_se"])


def _verdict(block: str, member: str, fits: Sequence[_Judged]) -> GateVerdict:
    entered = [fit for fit in fits if fit.has_entered]
    tried = [fit.gain for fit in entered or fits if fit.gain is not None]
    gain, se = (fmean(values) for values in zip(*tried, strict=True)) if tried else (None, None)
    measured = "" if gain is None or se is None else f"gain {with_error(gain, se)}"
    if entered:
        text = f"{block} entered in {len(entered)} of {len(fits)} fits of {member}, {measured}"
    else:
        (reason, n_fits), *others = Counter(map(_why_refused, fits)).most_common()
        reason = f"in {n_fits} of them {reason}" if others else reason
        why = f"{measured}; {reason}" if measured else reason
        text = f"{block} was refused in all {len(fits)} fits of {member}: {why}"
    return GateVerdict(block, member, len(entered), len(fits), gain, se, text)


def _why_refused(fit: _Judged) -> str:
    if fit.gain is None:
        return "other blocks promised more, and it was not tried"
    gain, error = fit.gain
    asked = "by a first screening " if fit.steps[-1].judged_by == "proxy" else ""
    if gain <= 0:
        return f"{asked}it does not lower the loss"
    if gain <= fit.limit * error:
        return f"{asked}its gain must be above {fit.limit:.2g} standard errors"
    return f"{asked}a gain below a thousandth of the loss must be above two standard errors"
