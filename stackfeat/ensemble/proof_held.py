"""Proof for held-out rows: no fit of any level was given one, its group or a later row.

In:  a Prover; the held-out rows and how they were divided; the places of their predictions.
Out: faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stackfeat.data.holdout import Holdout
from stackfeat.data.samples import Samples
from stackfeat.ensemble.fitted_rows import unpack_rows
from stackfeat.ensemble.proof import Fault, Kind, Prover

WHOSE = "that are held out of all levels"


class HeldProver:
    """Checks the held-out rows of one run against all its fits; every entry is looked at once.

    Parameters
    ----------
    held : Samples
        The held-out rows.
    holdout : Holdout
        Where these and the training rows stand in the training file.
    key : str
        Of the held-out rows: what predicts them must have read these.
    """

    def __init__(self, prover: Prover, held: Samples, holdout: Holdout, key: str) -> None:
        self.prover, self.held, self.holdout, self.key = prover, held, holdout, key
        self.done: set[tuple[str, str]] = set()

    def rows(self) -> list[Fault]:
        """Return the faults of the division itself: both parts must be what the run says they are."""
        samples, holdout = self.prover.samples, self.holdout
        checked = [self.prover.checked(key) for key in (self.prover.keys[0], self.key)]
        faults = [fault for one in checked for fault in one.faults]
        if faults:
            return faults
        kept, held = (one.entry.manifest["recipe"] for one in checked if one.entry is not None)
        if held.get("part") != "holdout" or {**held, "part": kept["part"]} != kept:
            return [self._mismatch(self.key, "it is not of the same division as the training rows")]
        if not (
            np.array_equal(holdout.ids[holdout.kept], samples.ids)
            and np.array_equal(holdout.ids[holdout.held], self.held.ids)
        ):
            return [self._mismatch(self.key, "its rows, and the training rows, are not those it divided")]
        return []

    def fits(self, keys: Iterable[str]) -> list[Fault]:
        """Compare the rows that fits were given with the held-out rows."""
        return [fault for key in keys for fault in self._fit(key)]

    def place(self, place: Sequence[str]) -> list[Fault]:
        """Return the faults of one array of predictions of held-out rows, and of all that it was made from."""
        return self._emitted(place[0])

    def _fit(self, key: str) -> list[Fault]:
        checked = self.prover.checked(key)
        if ("fit", key) in self.done:
            return []
        self.done.add(("fit", key))
        if checked.rows is None:
            return list(checked.faults) or [self._mismatch(key, "it is no fit")]
        samples, held = self.prover.samples, self.held
        fitted = unpack_rows(checked.rows, samples.n_rows)
        own = np.isin(held.ids, samples.ids[fitted])
        found: list[tuple[Kind, np.ndarray]] = [("own label", own)]
        if samples.group is not None and held.group is not None:
            found.append(("group", np.isin(held.group, samples.group[fitted]) & ~own))
        if samples.time is not None and held.time is not None and fitted.any():
            found.append(("later rows", (samples.time[fitted].max() > held.time) & ~own))
        return [
            self.prover.row_fault(kind, key, wrong.nonzero()[0], held.ids, WHOSE)
            for kind, wrong in found
            if wrong.any()
        ]

    def _emitted(self, key: str) -> list[Fault]:
        if ("emit", key) in self.done:
            return []
        self.done.add(("emit", key))
        checked = self.prover.checked(key)
        if checked.entry is None:
            return list(checked.faults)
        recipe = checked.entry.manifest["recipe"]
        if recipe["stage"] == "emit":
            return self._from_fit(key, recipe)
        if recipe["stage"] == "align_emit":
            return [*self._maps(recipe["align"]), *self._emitted(recipe["emit"])]
        return [self._mismatch(key, f"an entry of stage {recipe['stage']!r} emits no held-out rows")]

    def _from_fit(self, key: str, recipe: Mapping[str, Any]) -> list[Fault]:
        if recipe["samples"] != self.key:
            return [self._mismatch(key, "it emits other rows than those held out")]
        faults = self._fit(recipe["fit"])
        for view in recipe["views"]:
            for block in view["blocks"]:
                # One place, or several whose mean is read.
                for read in [block] if isinstance(block[0], str) else block:
                    faults += self._emitted(read[0])
        return faults

    def _maps(self, key: str) -> list[Fault]:
        """Maps are fitted on what fits emit for anchors, which are rows that these fits were given."""
        if ("maps", key) in self.done:
            return []
        self.done.add(("maps", key))
        checked = self.prover.checked(key)
        if checked.entry is None:
            return list(checked.faults)
        recipe = checked.entry.manifest["recipe"]
        if recipe["stage"] not in ("align", "align_refit"):
            return [self._mismatch(key, "it holds no maps")]
        faults = self._maps(recipe["align"]) if "align" in recipe else []
        faults += self.fits([*recipe["fits"], *([recipe["fit"]] if "fit" in recipe else [])])
        return faults if recipe["reference"] is None else faults + self._reference(recipe["reference"])

    def _reference(self, key: str) -> list[Fault]:
        """An untrained net is read on anchors too; which rows those are follows from its recipe."""
        checked = self.prover.checked(key)
        if checked.entry is None:
            return list(checked.faults)
        recipe = checked.entry.manifest["recipe"]
        if (recipe.get("samples"), recipe.get("folds")) != self.prover.keys:
            return [self._mismatch(key, "its anchors are not rows that the run trained on")]
        return []

    def _mismatch(self, key: str, detail: str) -> Fault:
        return self.prover.entry_fault("mismatch", key, detail)
