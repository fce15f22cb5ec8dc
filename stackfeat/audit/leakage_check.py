"""The leakage check: no row of a block comes from a fit that was given its label, its group or later rows.

In:  the places of a block's OOF rows in a store, the training rows and the folds.
Out: violations, each with member, fold, count of rows and ids. Only what is stored is looked at:
     entries are hashed, keys are compared with recipes, row numbers are read as they were noted by the fit.

Held-out rows must be in no fit of any level, and a fit on all rows may predict rows outside the folds only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.extra_rows import Identity
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import Holdout
from stackfeat.encodings.alignment import report_of
from stackfeat.engine.jobs import EXTRA_ROWS, pack_rows, read_fitted_rows, unpack_rows
from stackfeat.engine.recipes import (
    AlignEmitRecipe,
    AlignRecipe,
    AlignRefitRecipe,
    EmitRecipe,
    FitRecipe,
    Recipe,
    ReferenceRecipe,
    SamplesRecipe,
    key_of,
    read_recipe,
)
from stackfeat.errors import DamagedEntryError, StoreError, StructureError
from stackfeat.store import Entry, EntryStore

Kind = Literal["own label", "group", "later rows", "damaged", "missing", "mismatch"]

Pair = tuple[np.ndarray, np.ndarray]

N_EXAMPLES = 5

_ARRAY = re.compile(r"oof(\d*)/")


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Attributes
    ----------
    kind : str
        own label, group, later rows (a leak); damaged, missing, mismatch (nothing can be proven).
    where : str
        The entry or file.
    member, fold : str
        Whose fit it is, and ``repeat/fold`` of it; empty where that is not known.
    n_rows : int
        Emitted rows concerned.
    ids : tuple of str
        A few of them.
    detail : str
        What is wrong; of rows, which they are where they are not those emitted out of fold.
    """

    kind: Kind
    where: str
    member: str = ""
    fold: str = ""
    n_rows: int = 0
    ids: tuple[str, ...] = ()
    detail: str = ""

    @property
    def is_leak(self) -> bool:
        return self.kind in ("own label", "group", "later rows")


@dataclass
class Checked:
    """One entry, and what is wrong with it whatever it emits.

    Attributes
    ----------
    rows : ndarray of uint8 or None
        Packed rows that it was fitted on; None where that cannot be known.
    is_noted : bool
        Whether the rows are those the fit noted itself; else they follow from fold and folds.
    """

    entry: Entry | None
    recipe: Recipe | None = None
    rows: np.ndarray | None = None
    is_noted: bool = False
    faults: list[Violation] = field(default_factory=list)


class LeakageChecker:
    """Checks places of one run; every entry is hashed once.

    Parameters
    ----------
    names : mapping of str to (str, str)
        Keys of fits to member and ``repeat/fold``, so that faults can be named.
    keys : tuple of (str, str)
        Keys of the training rows and of the folds: every fit must be one of these.
    """

    def __init__(
        self,
        store: EntryStore,
        samples: Samples,
        folds: Folds,
        names: Mapping[str, tuple[str, str]],
        keys: tuple[str, str],
    ) -> None:
        self.store, self.samples, self.folds, self.names, self.keys = store, samples, folds, names, keys
        self.fits: dict[str, Checked] = {}
        self.done: dict[tuple[str, str, int], list[Violation]] = {}
        self.codes = None if samples.group is None else np.unique(samples.group, return_inverse=True)[1]

    @property
    def n_fits(self) -> int:
        return sum(fit.rows is not None for fit in self.fits.values())

    @property
    def n_noted(self) -> int:
        return sum(fit.is_noted for fit in self.fits.values())

    def predicted(self, repeat: int, fold: int) -> np.ndarray:
        return self.folds.splits[repeat][fold][1]

    def place(self, place: Sequence[str], repeat: int, fold: int) -> list[Violation]:
        """Return the faults of one array of OOF rows, and of every fit its rows went through."""
        key, array = place
        known = (key, array, fold)
        if known not in self.done:
            self.done[known] = []
            self.done[known] = self._place(key, array, repeat, fold)
        return self.done[known]

    def _place(self, key: str, array: str, repeat: int, fold: int) -> list[Violation]:
        checked = self.checked(key)
        if checked.entry is None:
            return checked.faults
        recipe = checked.recipe
        match = _ARRAY.match(array)
        emitted = int(match[1]) if match and match[1] else fold
        wrong = _misplaced(recipe, repeat, emitted)
        if wrong:
            faults = [self.entry_violation("mismatch", key, wrong)]
            # A fit on all rows has seen the labels of every row it could stand for.
            is_whole = isinstance(recipe, FitRecipe) and recipe.fold == "all"
            return [*faults, *self._emits(key, repeat, fold)] if is_whole else faults
        if isinstance(recipe, AlignRecipe):
            return self._emits(recipe.fits[emitted], repeat, emitted)
        assert isinstance(recipe, FitRecipe)
        faults = self._emits(key, repeat, emitted)
        for block in recipe.blocks:
            for other, read in enumerate(block.oof):
                # The emitted rows, and those that the fit was trained on.
                if read is not None:
                    faults += self.place(read, repeat, other)
        return list(dict.fromkeys(faults))

    def checked(self, key: str) -> Checked:
        """Return an entry whose every byte, key and recipe are as written, or its faults."""
        if key not in self.fits:
            self.fits[key] = self._check(key)
        return self.fits[key]

    def _check(self, key: str) -> Checked:
        def wrong(kind: Kind, why: object) -> Checked:
            return Checked(None, faults=[self.entry_violation(kind, key, str(why))])

        try:
            entry = self.store.read(key)
            for name in entry.files:
                entry.file(name)
            recipe = entry.recipe
            rows = read_fitted_rows(entry) if recipe.get("stage") == "fit" else None
        except DamagedEntryError as error:
            return wrong("damaged", error)
        except StoreError as error:
            return wrong("missing", error)
        if key_of(recipe) != key or entry.kind != recipe.get("stage"):
            return wrong("mismatch", "its recipe is not that of its key")
        try:
            described = read_recipe(recipe)
        except StructureError as error:
            return wrong("mismatch", f"no run writes such: {error}")
        if not isinstance(described, FitRecipe):
            return Checked(entry, described)
        if (described.samples, described.folds) != self.keys:
            return wrong("mismatch", "it was fitted on other rows or folds")
        noted = self._implied(described) if rows is None else rows
        return Checked(entry, described, noted, rows is not None)

    def entry_violation(self, kind: Kind, key: str, detail: str) -> Violation:
        member, fold = self.names.get(key, ("", ""))
        return Violation(kind, f"entry {key[:12]}", member, fold, detail=detail)

    def _implied(self, recipe: FitRecipe) -> np.ndarray:
        """Return the most rows that a fit of this repeat and fold may have been given."""
        n_rows, fold = self.folds.n_rows, recipe.fold
        if fold == "all":
            return pack_rows(slice(None), n_rows)
        parts = [pack_rows(self.folds.splits[recipe.repeat][int(k)][0], n_rows) for k in str(fold).split("-")]
        return np.asarray(np.bitwise_and.reduce(parts))

    def _emits(self, key: str, repeat: int, fold: int) -> list[Violation]:
        """Compare the rows that a fit was given with the rows of a fold that it emits."""
        checked = self.checked(key)
        if checked.rows is None:
            return list(checked.faults)
        fitted, rows = unpack_rows(checked.rows, self.folds.n_rows), self.predicted(repeat, fold)
        time = self.samples.time
        groups = None if self.codes is None else (self.codes[fitted], self.codes[rows])
        times = None if time is None else (time[fitted], time[rows])
        found = _leaks(fitted[rows], groups, times)
        faults = [self.row_violation(kind, key, rows[wrong]) for kind, wrong in found]
        judged = self.samples.take(rows)
        return faults + [
            self.row_violation(kind, key, rows[wrong], whose=FROM_EXTRA)
            for kind, wrong in self.extra_leaks(checked, judged)
        ]

    def extra_leaks(self, checked: Checked, judged: Samples) -> list[tuple[Kind, np.ndarray]]:
        """Return which judged rows share an id, all features or a group with extra rows of a fit, or are earlier."""
        recipe, entry = checked.recipe, checked.entry
        if not isinstance(recipe, FitRecipe) or recipe.extra is None or entry is None:
            return []
        extra = load_samples(self.store.read(recipe.extra.samples))
        extra = extra.take(np.flatnonzero(unpack_rows(entry.array(EXTRA_ROWS), extra.n_rows)))
        groups = None if judged.group is None or extra.group is None else (extra.group, judged.group)
        times = None if judged.time is None or extra.time is None else (extra.time, judged.time)
        return _leaks(Identity.of(judged).is_one_of(Identity.of(extra)), groups, times)

    def row_violation(
        self, kind: Kind, key: str, rows: np.ndarray, ids: np.ndarray | None = None, whose: str = ""
    ) -> Violation:
        """Return a fault of rows: training rows, or those of other `ids`, and then `whose` says which."""
        member, fold = self.names.get(key, ("", ""))
        named = (self.samples.ids if ids is None else ids)[rows[:N_EXAMPLES]]
        return Violation(kind, f"fit {key[:12]}", member, fold, len(rows), tuple(map(str, named)), whose)

    def saw_labels(self, key: str, repeat: int, fold: int) -> bool:
        """Whether a fit (or one behind an alignment) was given labels of a fold's rows."""
        checked = self.checked(key)
        if checked.entry is None:
            return True
        if isinstance(checked.recipe, AlignRecipe | AlignRefitRecipe):
            return any(self.saw_labels(fit, repeat, fold) for fit in checked.recipe.fits)
        if checked.rows is None:
            return True
        wanted = pack_rows(self.predicted(repeat, fold), self.folds.n_rows)
        return bool(np.bitwise_and(checked.rows, wanted).any())


def _leaks(own: np.ndarray, groups: Pair | None, times: Pair | None) -> list[tuple[Kind, np.ndarray]]:
    """Return which emitted rows a fit must not have been given, each by the first reason.

    Parameters
    ----------
    own : ndarray of bool, shape (n_emitted,)
        Whether the fit was given the row itself.
    groups, times : tuple of two ndarrays, (n_fitted,) and (n_emitted,), or None
        Those of the rows that were fitted on, and of the emitted ones.
    """
    found: list[tuple[Kind, np.ndarray]] = [("own label", own)]
    if groups is not None:
        found.append(("group", np.isin(groups[1], groups[0]) & ~own))
    if times is not None and len(times[0]):
        found.append(("later rows", (times[0].max() > times[1]) & ~own))
    return [(kind, wrong.nonzero()[0]) for kind, wrong in found if wrong.any()]


def _misplaced(recipe: Recipe | None, repeat: int, fold: int) -> str:
    """Say why an entry cannot be the one that emitted these rows; empty where it can."""
    if not isinstance(recipe, FitRecipe):
        is_align = isinstance(recipe, AlignRecipe)
        return "" if is_align else f"an entry of stage {_stage(recipe)} emits no out-of-fold rows"
    if recipe.repeat != repeat or str(fold) not in str(recipe.fold).split("-"):
        stands = f"repeat {recipe.repeat}, fold {recipe.fold}"
        return f"it was fitted for {stands} and stands for repeat {repeat}, fold {fold}"
    return ""


def _stage(recipe: Recipe | None) -> str:
    return repr(None if recipe is None else recipe.stage)


def indirect(checker: LeakageChecker, oof: Sequence[Sequence[Sequence[str] | None]]) -> list[str]:
    """Say through what else labels could have reached the rows of a block.

    These ways are judged by rerunning on permuted labels: they are part of every stack, or measured
    not to leak. A block that only its own fits stand behind has none.
    """
    found: list[str] = []
    n_values = n_saw = 0
    read: set[str] = set()
    for repeat, places in enumerate(oof):
        for fold, place in enumerate(places):
            checked = None if place is None else checker.checked(place[0])
            if place is None or checked is None or checked.entry is None:
                continue
            recipe = checked.recipe
            if isinstance(recipe, AlignRecipe):
                anchors = report_of(checked.entry).n_anchors
                spaces = f"{len(recipe.fits)} fold spaces, on {anchors} training rows each"
                found.append(f"orthogonal maps between {spaces}")
            if not isinstance(recipe, FitRecipe):
                continue
            values, saw = _trained_on(checker, place[0], recipe, repeat, fold)
            n_values, n_saw = n_values + values, n_saw + saw
            read |= {block.name for block in recipe.blocks}
    if n_values:
        share = f"{n_saw / n_values:.0%}" if n_saw else "none"
        blocks = f"{len(read)} {'block' if len(read) == 1 else 'blocks'}"
        found.append(
            f"trained on OOF values of other rows ({blocks}), {share} of them from "
            f"fits on rows of this fold too{', as in any stack that is not nested' if n_saw else ''}"
        )
    return list(dict.fromkeys(found))


def _trained_on(
    checker: LeakageChecker, key: str, recipe: FitRecipe, repeat: int, fold: int
) -> tuple[int, int]:
    """Count the out-of-fold values a fit was trained on, and those whose fits saw labels of `fold`."""
    rows = checker.checked(key).rows
    assert rows is not None
    fitted = unpack_rows(rows, checker.folds.n_rows)
    n_values = n_saw = 0
    for block in recipe.blocks:
        for other, place in enumerate(block.oof):
            count = 0 if place is None else int(fitted[checker.predicted(repeat, other)].sum())
            if place is not None and count:
                n_values += count
                n_saw += count if checker.saw_labels(place[0], repeat, fold) else 0
    return n_values, n_saw


FROM_EXTRA = "of which the fit got extra rows alike"

WHOSE = "that are held out of all levels"


class HoldoutChecker:
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

    def __init__(self, checker: LeakageChecker, held: Samples, holdout: Holdout, key: str) -> None:
        self.checker, self.held, self.holdout, self.key = checker, held, holdout, key
        self.done: set[tuple[str, str]] = set()

    def rows(self) -> list[Violation]:
        """Return the faults of the division itself: both parts must be what the run says they are."""
        samples, holdout = self.checker.samples, self.holdout
        checked = [self.checker.checked(key) for key in (self.checker.keys[0], self.key)]
        faults = [fault for one in checked for fault in one.faults]
        if faults:
            return faults
        kept, held = (one.recipe for one in checked)
        if (
            not isinstance(kept, SamplesRecipe)
            or not isinstance(held, SamplesRecipe)
            or held.part != "holdout"
            or replace(held, part=kept.part) != kept
        ):
            return [self._mismatch(self.key, "it is not of the same division as the training rows")]
        if not (
            np.array_equal(holdout.ids[holdout.kept], samples.ids)
            and np.array_equal(holdout.ids[holdout.held], self.held.ids)
        ):
            return [self._mismatch(self.key, "its rows, and the training rows, are not those it divided")]
        return []

    def fits(self, keys: Iterable[str]) -> list[Violation]:
        """Compare the rows that fits were given with the held-out rows."""
        return [fault for key in keys for fault in self._fit(key)]

    def place(self, place: Sequence[str]) -> list[Violation]:
        """Return the faults of one array of predictions of held-out rows, and of all that it was made from."""
        return self._trace("emit", place[0])

    def _fit(self, key: str) -> list[Violation]:
        checked = self.checker.checked(key)
        if ("fit", key) in self.done:
            return []
        self.done.add(("fit", key))
        if checked.rows is None:
            return list(checked.faults) or [self._mismatch(key, "it is no fit")]
        samples, held = self.checker.samples, self.held
        fitted = unpack_rows(checked.rows, samples.n_rows)
        groups: Pair | None = None
        times: Pair | None = None
        if samples.group is not None and held.group is not None:
            groups = samples.group[fitted], held.group
        if samples.time is not None and held.time is not None:
            times = samples.time[fitted], held.time
        found = _leaks(np.isin(held.ids, samples.ids[fitted]), groups, times)
        found += self.checker.extra_leaks(checked, held)
        return [self.checker.row_violation(kind, key, wrong, held.ids, WHOSE) for kind, wrong in found]

    def _trace(self, role: Literal["emit", "maps", "anchors"], key: str) -> list[Violation]:
        """Return the faults of what predicts held-out rows, of maps on its way, and of the anchors of maps.

        Maps are fitted on what fits emit for anchors, which are rows that these fits were given. An untrained
        net is read on anchors too; which rows those are follows from its recipe.
        """
        if (role, key) in self.done:
            return []
        self.done.add((role, key))
        checked = self.checker.checked(key)
        if checked.entry is None:
            return list(checked.faults)
        match role, checked.recipe:
            case "emit", EmitRecipe() as recipe:
                if recipe.samples != self.key:
                    return [self._mismatch(key, "it emits other rows than those held out")]
                read = [place[0] for view in recipe.views for place in view.places]
                return [
                    *self._fit(recipe.fit),
                    *(fault for one in read for fault in self._trace("emit", one)),
                ]
            case "emit", AlignEmitRecipe() as recipe:
                return [*self._trace("maps", recipe.align), *self._trace("emit", recipe.emit)]
            case "emit", other:
                return [self._mismatch(key, f"an entry of stage {_stage(other)} emits no held-out rows")]
            case "maps", AlignRecipe() | AlignRefitRecipe() as recipe:
                faults = self.fits(recipe.fits)
                if isinstance(recipe, AlignRefitRecipe):
                    faults = [*self._trace("maps", recipe.align), *faults, *self.fits([recipe.fit])]
                return (
                    faults if recipe.reference is None else faults + self._trace("anchors", recipe.reference)
                )
            case "maps", _:
                return [self._mismatch(key, "it holds no maps")]
            case _, ReferenceRecipe() as recipe if (recipe.samples, recipe.folds) == self.checker.keys:
                return []
        return [self._mismatch(key, "its anchors are not rows that the run trained on")]

    def _mismatch(self, key: str, detail: str) -> Violation:
        return self.checker.entry_violation("mismatch", key, detail)


def check_refit(checker: LeakageChecker, key: str) -> list[Violation]:
    """Return the faults of a fit on all rows (of a meta-learner, or a refit): it emits no row of the folds."""
    checked = checker.checked(key)
    if checked.entry is None or checked.rows is None:
        return list(checked.faults)
    recipe = checked.recipe
    assert isinstance(recipe, FitRecipe)
    if recipe.fold != "all":
        stands = f"it was fitted for fold {recipe.fold} and stands for a fit on all rows"
        return [checker.entry_violation("mismatch", key, stands)]
    faults: list[Violation] = []
    if any(name.startswith("oof") for name in checked.entry.files):
        fitted = unpack_rows(checked.rows, checker.folds.n_rows).nonzero()[0]
        faults.append(checker.row_violation("own label", key, fitted))
    for block in recipe.blocks:
        for fold, read in enumerate(block.oof):
            faults += [] if read is None else checker.place(read, recipe.repeat, fold)
    return faults
