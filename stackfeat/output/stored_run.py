"""A stored run, read again: what it is made of, its config, its rows and folds, from the run folder and its store.

In:  the folder of a finished run, and the folder of its store.
Out: the index of its entries, the config that it resolved, training rows and folds; all checked, nothing computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stackfeat.config.problems import findings_of
from stackfeat.config.run_config import RunConfig
from stackfeat.config.yaml_file import read_yaml
from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.engine.recipes import FitRecipe
from stackfeat.errors import DataError, StoreError, UsageError, as_written
from stackfeat.output.provenance import AGAIN, REMEDY, Index, read_provenance
from stackfeat.output.run_file import FILE as MARK
from stackfeat.output.run_file import no_run, whole_run
from stackfeat.store import Store


def read_run(folder: Path) -> tuple[Index, RunConfig]:
    """Return what a run is made of, and its config.

    Raises
    ------
    UsageError
        If the folder is no finished run's.
    DataError
        If what is written there is damaged.
    """
    with whole_run(folder) as marked:
        index = read_provenance(folder)
        if marked is None:
            raise no_run(folder, MARK, AGAIN)
        path = folder / "config.yaml"
        try:
            values = read_yaml(path).values
            return index, RunConfig.model_validate(values)
        except ValueError as error:
            reason: object = error
            if isinstance(error, ValidationError):
                first = findings_of(error, values)[0]
                reason = f"{first.path}: {first.message}"
            raise DataError(
                f"{path} must be as the run wrote it; got {reason}; run the config again"
            ) from None


def open_rows(path: Path, index: Index) -> tuple[Store, Samples, Folds]:
    """Return the store of a run, its rows and its folds.

    Raises
    ------
    DataError
        If they are gone, or damaged.
    """
    if not path.is_dir():
        raise DataError(f"the run's store must be there; got no folder {path}; say where it is with --store")
    store = Store(path, "readonly")
    try:
        with as_written("the rows and folds of the run", REMEDY):
            return store, load_samples(store.read(index.samples)), load_folds(store.read(index.folds))
    except StoreError as error:
        raise DataError(
            f"the rows and folds of the run must be in its store; {error}; run the config again"
        ) from None


def entries_of(store: Store, folder: Path) -> set[str]:
    """Return the keys of all entries in a store that a run is made of, or that say something of these alone.

    The run's config computes nothing where they are there.

    Raises
    ------
    UsageError
        If the folder is no finished run's, or the store has nothing of it.
    DataError
        If what is written there is damaged.
    """
    index, _ = read_run(folder)
    read = {key: recipe for key in store.keys() if (recipe := _recipe(store, key)) is not None}  # noqa: SIM118
    reads = {key: {text for text in _texts(recipe) if text in read} for key, recipe in read.items()}
    found = set[str]()
    added = {text for text in _texts(asdict(index)) if text in read}
    if not added:
        raise UsageError(
            f"a run to keep must be one of this store; got {folder}, of which {store.root} has nothing; name its "
            "own store with --store"
        )
    while added:
        found |= added
        read_by_them = {other for key in added for other in reads[key]}
        # Fits that read the same rows, or members of this run, may be another run's.
        about_them = {
            key
            for key, own in reads.items()
            if own and own <= found and read[key].get("stage") != FitRecipe.stage
        }
        added = (read_by_them | about_them) - found
    return found


def _recipe(store: Store, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = store.manifest(key)["recipe"]
    except StoreError:
        return None
    return found


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in values of JSON, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
