"""Rows and folds in the store: read from files once, then by key.

In:  options of `data` and `folds`, the config's folder, a store.
Out: the keys of training rows, test rows and folds, which every later key builds on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.data.fingerprint import fingerprint
from stackfeat.data.fold_kind import is_time_kind, resolve_kind
from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.errors import DataWarning, LeakWarning
from stackfeat.features.keys import Recipe, folds_recipe, key_of, samples_recipe
from stackfeat.store import EntryStore, Store
from stackfeat.task import Kind

_FILES = ("train", "test", "sample_submission")


@dataclass(frozen=True)
class RowRecipes:
    """What rows and folds are made from; cheap to work out, nothing is parsed.

    Attributes
    ----------
    samples, folds : dict
        Recipes of the training rows and of their folds.
    test : dict or None
    kind : str
        Kind of the folds, ``auto`` resolved.
    is_time : bool
        Whether folds follow time.
    """

    samples: Recipe
    test: Recipe | None
    folds: Recipe
    kind: str
    is_time: bool


def row_recipes(
    data: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    *,
    memory: Path | None = None,
    source_hash: Callable[[str], str | None] = lambda name: None,
) -> RowRecipes:
    """Work out the recipes from the bytes of the files.

    Parameters
    ----------
    memory : Path, optional
        A file that remembers hashes of data files by size, time and inode.
    source_hash : callable
        Hash of a user's splitter.
    """
    options = {name: value for name, value in data.to_json().items() if name not in _FILES}
    if data.target_transform == "auto":
        options["target_transform"] = "log1p" if metric == "rmsle" else "none"
    samples = samples_recipe(_identity(data.train, folder, data, memory), options, task, "train")
    test = None
    if data.test is not None:
        test = samples_recipe(
            _identity(data.test, folder, data, memory), options, task, "test", key_of(samples)
        )
    kind = resolve_kind(folds, task, data.group is not None, data.time is not None, data.fold is not None)
    described = {**folds.to_json(), "kind": folds.kind if kind == "custom" else kind}
    unused = ["repeats_as"]
    unused += ["gap", "test_size", "max_train_size"] if kind != "time" else []
    # Whether a user's splitter has to follow time decides how its folds are used.
    unused += ["allow_leak"] if kind != "custom" else []
    for name in unused:
        described.pop(name)
    code = source_hash(folds.kind) if kind == "custom" else None
    is_time = is_time_kind(kind, data.time is not None, folds.allow_leak)
    return RowRecipes(samples, test, folds_recipe(key_of(samples), described, code), kind, is_time)


def _identity(name: str, folder: Path, data: DataOptions, memory: Path | None) -> str:
    if name.startswith("sklearn:"):
        return name
    return fingerprint(folder / name, data, memory)


def ensure_rows(
    recipes: RowRecipes,
    data: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    store: Store,
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
    wanted = [recipes.samples, recipes.folds, *([] if recipes.test is None else [recipes.test])]
    if not all(store.has(key_of(recipe)) for recipe in wanted):
        _read_and_split(recipes, data, folds, folder, task, metric, store, splitter)
    return [note for recipe in wanted for note in store.read(key_of(recipe)).json("notes")]


def _read_and_split(
    recipes: RowRecipes,
    data: DataOptions,
    folds: FoldOptions,
    folder: Path,
    task: Kind,
    metric: str,
    store: Store,
    splitter: Any,
) -> None:
    from stackfeat.data.folds import make_folds, save_folds
    from stackfeat.data.load import load
    from stackfeat.data.samples import save_samples

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = load(data, folder, task, metric)
    read_notes = [*loaded.notes, *_texts(caught)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = make_folds(folds, loaded.train, splitter)
    fold_notes = _texts(caught)
    with store.write(key_of(recipes.samples), "samples", recipes.samples) as writer:
        save_samples(loaded.train, writer)
        writer.json("schema", loaded.schema.to_json())
        writer.json("n_rows", loaded.train.n_rows)
        writer.json("notes", read_notes)
    if recipes.test is not None and loaded.test is not None:
        with store.write(key_of(recipes.test), "samples", recipes.test) as writer:
            save_samples(loaded.test, writer)
            writer.json("notes", [])
    with store.write(key_of(recipes.folds), "folds", recipes.folds) as writer:
        save_folds(made, writer)
        writer.json("shape", {"n_folds": made.n_folds, "n_repeats": made.n_repeats})
        writer.json("notes", fold_notes)


def _texts(caught: list[warnings.WarningMessage]) -> list[str]:
    """Texts of our own warnings; others are shown as usual."""
    ours = []
    for warning in caught:
        if issubclass(warning.category, DataWarning | LeakWarning):
            ours.append(f"warning: {warning.message}")
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    return ours


def n_folds(recipes: RowRecipes, folds: FoldOptions, store: EntryStore) -> int:
    """Return how many folds there are: from the options, or from the stored folds where rows decide."""
    key = key_of(recipes.folds)
    if recipes.kind in ("column", "custom") and store.has(key):
        return int(store.read(key).json("shape")["n_folds"])
    return folds.n
