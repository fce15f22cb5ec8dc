"""Checks of imported rows one by one: ids, missing cells, ranges, sums.

In:  a `Candidate`.
Out: checks; where one fails, scores of these rows would mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stackfeat.ensemble.imports.candidate import Candidate, Check
from stackfeat.ensemble.imports.suspicion import shown
from stackfeat.probabilities import LARGEST_OVERSHOOT, LARGEST_SUM_ERROR

FAR_TIMES_RANGE = 3.0


def id_checks(given: Candidate) -> Iterator[Check]:
    """Yield whether every row that is needed is there, once."""
    aligned = given.aligned
    missing = given.rows[np.isnan(aligned.oof[given.rows]).all(axis=1)]
    if len(missing):
        yield Check(
            "ids",
            "failed",
            f"there must be a row for every training row; {len(missing)} of {len(given.rows)} are missing: ids "
            f"{shown(given.train.ids[missing])}. Write them too; rows are matched by id, never by position",
        )
    else:
        extra = f"; {len(aligned.other_ids)} other ids are not used" if len(aligned.other_ids) else ""
        yield Check("ids", "ok", f"all {len(given.rows)} training rows are there{extra}")
    if given.ignored:
        yield Check("columns", "note", f"columns that are no class are ignored: {', '.join(given.ignored)}")
    for name, samples, known in (
        ("test ids", given.test, aligned.test_ids),
        ("held-out ids", given.held, np.concatenate([aligned.other_ids, aligned.test_ids])),
    ):
        if samples is None:
            continue
        absent = samples.ids[~np.isin(samples.ids, known)]
        if len(absent):
            where = "test file" if name == "test ids" else "out-of-fold file"
            yield Check(
                name,
                "failed",
                f"there must be a row for every {name.removesuffix(' ids')} row in the {where}; {len(absent)} of "
                f"{samples.n_rows} are missing: ids {shown(absent)}",
            )
        else:
            yield Check(name, "ok", f"all {samples.n_rows} rows are there")
    if given.held is not None:
        both = given.held.ids[np.isin(given.held.ids, aligned.test_ids)]
        if len(both):
            yield Check(
                "held-out ids", "failed", f"ids of held-out rows are in the test file too: {shown(both)}"
            )


def value_checks(given: Candidate) -> Iterator[Check]:
    """Yield whether values are whole, in range, and sum to 1."""
    oof, ids = given.aligned.oof[given.rows], given.train.ids[given.rows]
    parts = [("out-of-fold", ids, oof)]
    parts += [("test", given.aligned.test_ids, values) for values in given.aligned.test]
    if given.held is not None:
        parts.append(("held-out", given.aligned.other_ids, given.aligned.other))
    failed = [check for part in parts for check in _part_checks(given, *part)]
    yield from failed
    if not failed:
        what = "in [0, 1], rows sum to 1" if given.train.task.is_classification else "finite"
        yield Check("values", "ok", what)
        if not given.train.task.is_classification:
            yield from _range_check(given, oof)


def _part_checks(given: Candidate, part: str, ids: np.ndarray, values: np.ndarray) -> Iterator[Check]:
    missing = np.isnan(values).any(axis=1)
    # Rows that are missing altogether were named among the ids.
    missing &= ~np.isnan(values).all(axis=1) | (part != "out-of-fold")
    if missing.any():
        yield Check(
            "missing values",
            "failed",
            f"{int(missing.sum())} {part} rows have empty cells or NaN: ids {shown(ids[missing])}",
        )
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        text = f"{int(infinite.sum())} {part} rows have infinite values: ids {shown(ids[infinite])}"
        yield Check("finite", "failed", text)
        return
    if not given.train.task.is_classification:
        return
    known = np.where(np.isnan(values), 0.5, values)
    wrong = (known < -LARGEST_OVERSHOOT) | (known > 1 + LARGEST_OVERSHOOT)
    bad = wrong.any(axis=1)
    if bad.any():
        yield Check(
            "range",
            "failed",
            f"probabilities must lie in [0, 1]; got {values[wrong][0]:g} in {int(bad.sum())} {part} rows: ids "
            f"{shown(ids[bad])}. If these are scores before the soft-max, apply it first",
        )
        return
    off = np.abs(values.sum(axis=1) - 1.0)
    bad = off > LARGEST_SUM_ERROR
    if bad.any():
        yield Check(
            "row sums",
            "failed",
            f"probabilities of a row must sum to 1 within {LARGEST_SUM_ERROR}; got {values[bad][0].sum():g} in "
            f"{int(bad.sum())} {part} rows: ids {shown(ids[bad])}",
        )


def _range_check(given: Candidate, oof: np.ndarray) -> Iterator[Check]:
    y = given.train.task.to_target_scale(given.train.labels)
    low, high = float(y.min()), float(y.max())
    reach = FAR_TIMES_RANGE * (high - low)
    far = (oof[:, 0] < low - reach) | (oof[:, 0] > high + reach)
    if far.any():
        text = (
            f"{int(far.sum())} rows lie far outside the targets ({low:g} to {high:g}), such as {oof[far][0, 0]:g}: "
            "are they on the scale of the target?"
        )
        yield Check("range", "warning", text)
