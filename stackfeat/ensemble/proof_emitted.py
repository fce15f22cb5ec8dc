"""Proof for rows outside the folds: a fit on all rows may say something of these only.

In:  a Prover; keys of fits on all rows.
Out: faults.
"""

from __future__ import annotations

from stackfeat.ensemble.fitted_rows import unpack_rows
from stackfeat.ensemble.proof import Fault, Prover


def whole_fit(prover: Prover, key: str) -> list[Fault]:
    """Return the faults of a fit on all rows (of a meta-learner, or a refit): it emits no row of the folds."""
    checked = prover.checked(key)
    if checked.entry is None or checked.rows is None:
        return list(checked.faults)
    recipe = checked.entry.manifest["recipe"]
    if recipe["fold"] != "all":
        stands = f"it was fitted for fold {recipe['fold']} and stands for a fit on all rows"
        return [prover.entry_fault("mismatch", key, stands)]
    faults: list[Fault] = []
    if any(name.startswith("oof") for name in checked.entry.manifest["files"]):
        fitted = unpack_rows(checked.rows, prover.folds.n_rows).nonzero()[0]
        faults.append(prover.row_fault("own label", key, fitted))
    for block in recipe["blocks"]:
        for fold, read in enumerate(block["oof"]):
            faults += [] if read is None else prover.place(read, recipe["repeat"], fold)
    return faults
