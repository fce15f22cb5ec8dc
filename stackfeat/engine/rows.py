"""Rows and folds in the store: read from files once, then by key.

In:  options of `data` and `folds`, the config's folder, a store.
Out: the keys of training rows, test rows and folds, which every later key builds on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.data.files.fingerprint import fingerprint
from stackfeat.data.files.tables import find_file
from stackfeat.data.options import FILES, DataOptions, FoldOptions
from stackfeat.data.splits.splitters import is_time_kind, resolve_kind
from stackfeat.engine.recipes import FoldsRecipe, Recipe, SamplesRecipe
from stackfeat.errors import DataError, DataWarning, LeakWarning
from stackfeat.metrics.registry import declared
from stackfeat.seeds import derive_seed
from stackfeat.store import EntryStore
from stackfeat.tasks.task import Kind

if TYPE_CHECKING:
    from stackfeat.data.samples import Samples
    from stackfeat.data.schema.load import LoadedData
    from stackfeat.data.splits.folds import Folds


EXTRA = "extra 2"
"""The part that rows which only train are; the number grows with the rules that keep some of them out of folds."""


@dataclass(frozen=True)
class RowRecipes:
    """What rows and folds are made from; cheap to work out, nothing is parsed.

    Attributes
    ----------
    samples, folds : Recipe
        Of the training rows and of their folds.
    test : Recipe or None
    kind : str
        Kind of the folds, ``auto`` resolved.
    is_time : bool
        Whether folds follow time.
    holdout : SamplesRecipe or None
        Of the held-out rows; `samples` and `folds` are then of the others.
    extra : SamplesRecipe or None
        Of the rows that only train.
    """

    samples: Recipe
    test: Recipe | None
    folds: Recipe
    kind: str
    is_time: bool
    holdout: SamplesRecipe | None = None
    extra: SamplesRecipe | None = None

    @property
    def files(self) -> list[Recipe]:
        """What is made of the data files and nothing else."""
        every = (self.samples, self.folds, self.test, self.holdout, self.extra)
        return [recipe for recipe in every if recipe is not None]


def row_recipes(
    data: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    *,
    memory: Path | None = None,
    source_hash: Callable[[str], str | None] = lambda name: None,
    holdout: float | str = 0.0,
) -> RowRecipes:
    """Work out the recipes from the bytes of the files.

    Parameters
    ----------
    memory : Path, optional
        A file that remembers hashes of data files by size, time and inode.
    source_hash : callable
        Hash of a user's splitter.
    holdout : float or "column"
        ``stack.holdout``.
    """
    options = {name: value for name, value in data.to_json().items() if name not in FILES}
    if data.target_transform == "auto":
        options["target_transform"] = declared(metric).target_transform
    file = fingerprint(find_file(data.train, folder), data, memory, folder)
    samples, held = SamplesRecipe.of(file, options, task, "train"), None
    test = None
    if data.test is not None:
        test_file = fingerprint(find_file(data.test, folder), data, memory, folder)
        test = SamplesRecipe.of(test_file, options, task, "test", samples.key)
    kind = resolve_kind(folds, task, data.groups is not None, data.time is not None, data.fold is not None)
    is_time = is_time_kind(kind, data.time is not None, folds.allow_leak)
    if holdout:
        apart = _holdout_options(holdout, "time" if is_time else kind, folds)
        samples = SamplesRecipe.of(file, options, task, "train", holdout=apart)
        held = SamplesRecipe.of(file, options, task, "holdout", holdout=apart)
    extra = None
    if data.extra is not None:
        extra_file = fingerprint(find_file(data.extra.train, folder), data, memory, folder)
        extra = SamplesRecipe.of(extra_file, options, task, EXTRA, samples.key)
    described = {**folds.to_json(), "kind": folds.kind if kind == "custom" else kind}
    unused = ["repeats_as"]
    unused += ["gap", "test_size", "max_train_size"] if kind != "time" else []
    # Whether a user's splitter has to follow time decides how its folds are used.
    unused += ["allow_leak"] if kind != "custom" else []
    unused += ["params"] if not folds.params else []
    for name in unused:
        described.pop(name)
    code = source_hash(folds.kind) if kind == "custom" else None
    made = FoldsRecipe(samples=samples.key, options=described, code=code)
    return RowRecipes(samples, test, made, kind, is_time, held, extra)


def _holdout_options(holdout: float | str, kind: str, folds: FoldOptions) -> dict[str, Any]:
    """What decides which rows are held out; the seed is that of the folds, but draws of its own."""
    if isinstance(holdout, str):
        return {"share": holdout}
    gap = folds.gap if kind == "time" else 0
    return {"share": holdout, "kind": kind, "gap": gap, "seed": derive_seed(folds.seed, "holdout")}


def ensure_rows(
    recipes: RowRecipes,
    data: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    store: EntryStore,
    splitter: Any = None,
) -> list[str]:
    """Read the files and make the folds, unless the store has them.

    Returns
    -------
    list of str
        Notes on the data and warnings, those of an earlier run included.

    Raises
    ------
    DataError
        If the files cannot be used.
    """
    wanted = recipes.files
    if not all(store.has(recipe.key) for recipe in wanted):
        from stackfeat.data.samples import save_samples
        from stackfeat.data.schema.load import load
        from stackfeat.data.splits.folds import save_folds

        with _noted() as read_notes:
            loaded = load(data, folder, task, metric)
        train = loaded.train
        with _noted() as fold_notes:
            if recipes.holdout is not None:
                train = _hold_out(recipes.holdout, loaded.train, store)
            made = _make_folds(folds, train, splitter, loaded.train.n_rows - train.n_rows)
        with recipes.samples.write(store) as writer:
            save_samples(train, writer)
            writer.json("schema", loaded.schema.to_json())
            writer.json("summary", loaded.summary.to_json())
            writer.json("n_rows", train.n_rows)
            writer.json("notes", [*loaded.notes, *read_notes])
        if recipes.test is not None and loaded.test is not None:
            with recipes.test.write(store) as writer:
                save_samples(loaded.test, writer)
                writer.json("notes", [f"warning: {line}" for line in loaded.drift])
        if recipes.extra is not None and loaded.extra is not None:
            _save_extra(recipes, loaded, train, store)
        with recipes.folds.write(store) as writer:
            save_folds(made, writer)
            writer.json("shape", {"n_folds": made.n_folds, "n_repeats": made.n_repeats})
            writer.json("notes", fold_notes)
    return [note for recipe in wanted for note in store.read(recipe.key).structure("notes", tuple[str, ...])]


def _hold_out(recipe: SamplesRecipe, train: Samples, store: EntryStore) -> Samples:
    """Store the held-out rows apart; return the rows that are kept."""
    from stackfeat.data.samples import save_samples
    from stackfeat.data.splits.holdout import describe_holdout, draw_holdout, save_holdout

    apart = recipe.holdout or {}
    holdout = draw_holdout(train, apart)
    with recipe.write(store) as writer:
        save_samples(train.take(holdout.held), writer)
        save_holdout(holdout, writer)
        writer.json("notes", [describe_holdout(holdout, train, apart)])
    return train.take(holdout.kept)


def _save_extra(recipes: RowRecipes, loaded: LoadedData, train: Samples, store: EntryStore) -> None:
    """Store the rows that only train, without those that share something with rows held out of all levels."""
    import numpy as np

    from stackfeat.data.samples import save_samples
    from stackfeat.data.splits.extra_rows import ExtraRows

    assert recipes.extra is not None and loaded.extra is not None
    is_kept = np.isin(loaded.train.ids, train.ids)
    rows = ExtraRows(loaded.extra, loaded.train, recipes.is_time)
    allowed = rows.allowed(np.flatnonzero(is_kept), np.flatnonzero(~is_kept))
    n_rows, n_left_out = loaded.extra.n_rows, loaded.extra.n_rows - len(allowed)
    notes = [f"{n_rows} extra rows, which train and are never scored"]
    if n_left_out:
        why = "they share an id, a group or all features with held-out rows, or are later than all others"
        notes.append(f"{n_left_out} of them are left out: {why}")
    with recipes.extra.write(store) as writer:
        save_samples(loaded.extra.take(allowed), writer)
        writer.json("notes", [*notes, *(f"warning: {line}" for line in loaded.extra_drift)])


def _make_folds(folds: FoldOptions, train: Samples, splitter: Any, n_apart: int) -> Folds:
    from stackfeat.data.splits.folds import make_folds

    try:
        return make_folds(folds, train, splitter)
    except DataError as error:
        if not n_apart:
            raise
        raise DataError(f"{error} (stack.holdout leaves {train.n_rows} rows, without {n_apart})") from error


@contextmanager
def _noted() -> Iterator[list[str]]:
    """Collect the texts of our own warnings; others are shown as usual."""
    ours: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield ours
    for warning in caught:
        if issubclass(warning.category, DataWarning | LeakWarning):
            ours.append(f"warning: {warning.message}")
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)


def n_folds(recipes: RowRecipes, folds: FoldOptions, store: EntryStore) -> int:
    """Return how many folds there are: from the options, or from the stored folds where rows decide."""
    key = recipes.folds.key
    if recipes.kind in ("column", "custom") and store.has(key):
        return int(store.read(key).structure("shape", dict[str, int])["n_folds"])
    return folds.n
