"""What to try next: at most three lines, each a rule that the results of this very run fulfil.

In:  the content of a report.
Out: sentences, the most urgent first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stackfeat.output.digits import with_error
from stackfeat.output.report.pictures.members import member_pairs
from stackfeat.output.report.pictures.picture import distinct, select

N_SHOWN = 3
_ALIKE = 0.98
_UNLIKE = 0.7
_STILL_FALLING = 0.01
_FEW_MEMBERS = 3

Content = Mapping[str, Any]
Rule = Callable[[Content], Iterator[str]]


def next_steps(content: Content) -> list[str]:
    """Return what the results say should be tried next."""
    found = [text for rule in RULES for text in rule(content)]
    return found[:N_SHOWN]


def _unfinished(content: Content) -> Iterator[str]:
    if content["left_out"]:
        n = len(content["left_out"])
        yield (
            f"Run the same command again with more time: {n} member{'s' * (n > 1)} did not fit limits.time, and what "
            "is stored is not computed again."
        )
    if content["failed"]:
        yield f"Repair or remove {', '.join(list(content['failed'])[:3])}: failed members add nothing."


def _drifting_columns(content: Content) -> Iterator[str]:
    off = [one["column"] for one in content["data"]["columns"] if one["test"]]
    if off:
        named = ", ".join(off[:3])
        more = f" and {len(off) - 3} more" if len(off) > 3 else ""
        yield f"Look at {named}{more}: test rows differ from training rows there (see Data)."


def _stacking_gains_nothing(content: Content) -> Iterator[str]:
    single = content["gains"]["single"]
    if single and single["se"] is not None and single["gain"] <= single["se"]:
        yield (
            f"Nothing measurable is gained over {single['member']} alone: members of another kind would help the "
            "stack more than more of the same."
        )


def _worse_than_a_constant(content: Content) -> Iterator[str]:
    weakest = content["gains"].get("weakest")
    if weakest and weakest["gain"] is not None and weakest["se"] and weakest["gain"] < -weakest["se"]:
        yield (
            f"Repair or remove {weakest['member']}: it is {with_error(-weakest['gain'], weakest['se'])} worse than a "
            "prediction that is the same for every row."
        )


def _twins(content: Content) -> Iterator[str]:
    base = set(_base(content))
    pairs = [pair for pair in _pairs(content) if pair[1] in base and pair[2] in base]
    if pairs and pairs[-1][0] >= _ALIKE:
        value, one, other = pairs[-1]
        yield f"Change {one} or {other}: their errors correlate by {value:.3f}, so one of them would do."


def _short_training(content: Content) -> Iterator[str]:
    numbers = content["pictures"].get("learning_curves")
    if numbers is None:
        return
    for name in distinct(numbers["member"]):
        rows = "validation" if "validation" in select(numbers, member=name)["rows"] else "training"
        part = select(numbers, member=name, rows=rows)
        falling = []
        for fold in distinct(part["fold"].tolist()):
            losses = part["loss"][part["fold"] == fold].astype(float)
            n = max(1, len(losses) // 10)
            falling.append(
                len(losses) > n
                and losses[-1] < (1 - _STILL_FALLING) * losses[-1 - n]
                and rows == "validation"
            )
        if falling and all(falling):
            unit = part["unit"][0]
            yield f"Give {name} more {unit}s: its validation loss still falls at the end in all {len(falling)} folds."


def _few_members(content: Content) -> Iterator[str]:
    base = _base(content)
    if len(base) < _FEW_MEMBERS:
        yield (
            f"Add members: {len(base)} on the first level leave{'s' * (len(base) == 1)} little to combine. A net "
            "beside trees, or the other way round, usually errs differently."
        )


def _unlike_members(content: Content) -> Iterator[str]:
    base = _base(content)
    # What is bad errs differently, too.
    good = set(base[: (len(base) + 1) // 2])
    pairs = [pair for pair in _pairs(content) if pair[1] in good and pair[2] in good]
    if pairs and pairs[0][0] <= _UNLIKE:
        value, one, other = pairs[0]
        yield (
            f"Add variants of {one} and {other}: of the better half of the first level their errors are least alike "
            f"(correlation {value:.2f})."
        )


def _close_race(content: Content) -> Iterator[str]:
    if content["se"] is None:
        return
    near = [
        one
        for one in content["members"]
        if abs(one["score"] - content["members"][0]["score"]) < content["se"]
    ]
    can_repeat = content["folds"] not in ("time", "column") and content["counts"]["repeats"] == 1
    if len(near) > 1 and can_repeat:
        yield (
            f"{len(near)} members lie within one standard error of the best: folds.repeats: 3 would tell them apart "
            "better than more members would."
        )


def _not_explained(content: Content) -> Iterator[str]:
    if "importance" not in content["pictures"]:
        yield "stackfeat explain RUN tells which columns and members matter; this run has not been explained yet."


def _not_audited(content: Content) -> Iterator[str]:
    yield "stackfeat audit RUN proves that no row's features saw its label, before much is built on this score."


def _base(content: Content) -> list[str]:
    """Members that read raw inputs only, the best first."""
    return [f"{one['level']}/{one['member']}" for one in content["members"] if one["is_base"]]


def _pairs(content: Content) -> list[tuple[float, str, str]]:
    numbers = content["pictures"].get("correlation")
    return [] if numbers is None else member_pairs(numbers)


RULES: tuple[Rule, ...] = (
    _unfinished,
    _drifting_columns,
    _worse_than_a_constant,
    _few_members,
    _stacking_gains_nothing,
    _short_training,
    _twins,
    _unlike_members,
    _close_race,
    _not_explained,
    _not_audited,
)
"""In the order of their weight; the last ones are true of most runs."""
