"""A stored run, read again: what it is made of, its config, its rows and folds, from the run folder and its store.

In:  the folder of a finished run, and the folder of its store.
Out: the index of its entries, the config that it resolved, training rows and folds; all checked, nothing computed.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from stackfeat.config.problems import findings_of
from stackfeat.config.run_config import RunConfig
from stackfeat.config.yaml_file import read_yaml
from stackfeat.data.samples import Samples, load_samples
from stackfeat.data.splits.folds import Folds, load_folds
from stackfeat.errors import DataError, StoreError, UsageError, as_written
from stackfeat.output.provenance import REMEDY, Index, read_provenance
from stackfeat.output.run_file import FILE as MARK
from stackfeat.output.run_file import whole_run
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
            raise UsageError(
                f"RUN must be the folder of a finished run, with {MARK}; got {folder}. "
                "Run its config with this version first: what is stored is not computed again"
            )
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
