"""Work: what one job does, in whatever process it runs.

In:  a job's key; its recipes are read from the store, and so is everything they name.
Out: store entries. A worker holds no other state, so losing one costs one job.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stackfeat.data.folds import Folds
from stackfeat.data.inner import inner_split
from stackfeat.data.samples import Samples
from stackfeat.ensemble.graph import PLAIN_VOTES
from stackfeat.ensemble.holdout import run_holdout_score
from stackfeat.ensemble.members import make_member
from stackfeat.ensemble.remembered import folds_of, samples_of
from stackfeat.ensemble.scoring import diagnose_block, score_member
from stackfeat.errors import MemberError
from stackfeat.features.alignment import add_refit_space, align_fold_spaces, map_activations
from stackfeat.features.block import read_oof, read_view
from stackfeat.features.encodings.anchors import anchor_rows
from stackfeat.features.member import BlockRows, FitContext, FittedMember, Rows
from stackfeat.log import collected_lines
from stackfeat.store import EntryStore, EntryWriter, Store
from stackfeat.task import Task

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Worker:
    """A picklable function from a job's key to its entries.

    Attributes
    ----------
    root : str
        Folder of the store.
    cache : str
        How the store treats what is there.
    started : str or None
        When the run's own store was opened: with ``refresh`` older entries do not count.
    trust_code : bool
        Whether the user agreed to run code that the config names.
    """

    root: str
    cache: Literal["auto", "refresh", "readonly"] = "auto"
    started: str | None = None
    trust_code: bool = False

    def __call__(self, key: str) -> list[str]:
        """Do the job; return what was logged on the way."""
        store = Store(Path(self.root), self.cache, started=self.started)
        with collected_lines() as lines:
            run_steps(store, store.read_job(key)["steps"], trust_code=self.trust_code)
        return lines


def run_steps(store: EntryStore, steps: Sequence[Mapping[str, Any]], *, trust_code: bool = False) -> None:
    """Make the entries of a job's steps that are not stored yet; later steps reuse what is in memory."""
    held: dict[str, FittedMember] = {}
    for step in steps:
        if not store.has(step["key"]):
            STAGES[step["recipe"]["stage"]](store, step["key"], step["recipe"], held, trust_code)


def _run_fit(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    # Making the member imports its library, which is no cost of the fit.
    member = make_member(recipe["member"], trust_code)
    started = time.perf_counter()
    samples = samples_of(store, recipe["samples"])
    folds = folds_of(store, recipe["folds"])
    blocks = [(block, *read_oof(store, block, folds, recipe["repeat"])) for block in recipe["blocks"]]
    train, held_out = _row_sets(recipe, folds, [covered for _, _, covered in blocks])
    context = _context(recipe, samples, folds, train)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = member.fit(_rows(samples, recipe["raw"], blocks, train), context)
    arrays = {}
    if held_out is not None:
        emitted = fitted.emit(_rows(samples, recipe["raw"], blocks, held_out))
        arrays = {f"oof/{name}": values for name, values in emitted.items()}
    left_out = _left_out(recipe["fold"])
    for fold in left_out:
        rows = folds.splits[recipe["repeat"]][fold][1]
        emitted = fitted.emit(_rows(samples, recipe["raw"], blocks, rows))
        arrays |= {
            f"oof{fold}/{name}": values for name, values in emitted.items() if not name.startswith("tap/")
        }
    arrays |= {} if left_out else _anchor_arrays(fitted, recipe, samples)
    seconds = time.perf_counter() - started
    with store.write(key, "fit", recipe) as writer:
        for name, values in arrays.items():
            writer.array(name, values)
        writer.json("task", samples.task.to_json())
        info = {
            "seconds": seconds,
            "report": fitted.report(),
            "unsaved": None if left_out else _save(fitted, writer),
        }
        writer.json("info", {**info, "warnings": _texts(caught)})
    held[key] = fitted


def _texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """First lines of what a fit warned of, each once: a library repeats itself for every trial."""
    useful = (
        warning for warning in caught if not issubclass(warning.category, FutureWarning | DeprecationWarning)
    )
    texts = (f"{warning.category.__name__}: {str(warning.message).splitlines()[0]}" for warning in useful)
    return list(dict.fromkeys(texts))


def _row_sets(
    recipe: Recipe, folds: Folds, covered: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows to fit on and the rows to predict (None for the fit on all OOF rows).

    A base member trains on the splitter's rows. A later one trains on those of them that all
    its blocks cover: a splitter's gaps and windows hold at every level.
    """
    repeat, fold = recipe["repeat"], recipe["fold"]
    usable = np.logical_and.reduce(covered) if covered else np.ones(folds.n_rows, dtype=bool)
    if fold == "all":
        return np.flatnonzero(usable), None
    left_out = _left_out(fold)
    if left_out:
        one, other = (folds.splits[repeat][k][0] for k in left_out)
        return np.intersect1d(one, other), None
    train, held_out = folds.splits[repeat][fold]
    train = train[usable[train]]
    if not len(train) and recipe["member"].get("vote") not in PLAIN_VOTES:
        raise MemberError(
            f"fold {fold} must have training rows that all inputs predict; got none. "
            "Use fewer levels, more folds, or a larger folds.max_train_size"
        )
    return train, held_out


def _left_out(fold: int | str) -> list[int]:
    """Return the two folds that a nested fit leaves out, such as "0-1"; none for other fits."""
    return [int(part) for part in fold.split("-")] if isinstance(fold, str) and "-" in fold else []


def _context(recipe: Recipe, samples: Samples, folds: Folds, train: np.ndarray) -> FitContext:
    def inner(fraction: float) -> tuple[np.ndarray, np.ndarray]:
        fit_rows, valid_rows = inner_split(samples, train, folds.kind, fraction, recipe["seed"])
        return np.searchsorted(train, fit_rows), np.searchsorted(train, valid_rows)

    return FitContext(
        task=samples.task,
        y=samples.labels[train],
        weight=None if samples.weight is None else samples.weight[train],
        fold_of=folds.fold_of(recipe["repeat"])[train] if recipe["blocks"] else None,
        inner=inner,
        seed=recipe["seed"],
        settings=recipe["settings"],
    )


def _rows(
    samples: Samples, raw: list[str], blocks: list[tuple[Recipe, np.ndarray, np.ndarray]], rows: np.ndarray
) -> Rows:
    part = samples.take(rows)
    read = tuple(
        BlockRows(block["name"], block["kind"], block["encoding"], values[rows])
        for block, values, _ in blocks
    )
    return Rows(len(rows), {name: part.inputs[name] for name in raw}, read)


def _anchor_arrays(fitted: FittedMember, recipe: Recipe, samples: Samples) -> dict[str, np.ndarray]:
    """Activations of a seeded sample of training rows, the same rows for every fold."""
    if not any("aligned" in tap["encode"] for tap in recipe["member"].get("emit", ())):
        return {}
    rows = anchor_rows(samples.n_rows)
    emitted = fitted.emit(_rows(samples, recipe["raw"], [], rows))
    return {f"anchor/{name}": values for name, values in emitted.items() if name.startswith("tap/")}


def _save(fitted: FittedMember, writer: EntryWriter) -> str | None:
    """Save the state; return None, or why this member cannot score later data."""
    try:
        fitted.save(writer)
    except MemberError as error:
        return str(error)
    return None


def load_fitted(store: EntryStore, key: str, trust_code: bool) -> FittedMember:
    """Return the fitted member of a stored fit.

    Raises
    ------
    MemberError
        If its state could not be saved.
    """
    entry = store.read(key)
    problem = entry.json("info")["unsaved"]
    if problem:
        raise MemberError(f"this member cannot score other rows, because its state was not saved: {problem}")
    recipe = entry.manifest["recipe"]
    task = Task.from_json(entry.json("task"))
    return make_member(recipe["member"], trust_code).load(entry, task, recipe["settings"])


def _run_emit(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    fitted = held.get(recipe["fit"]) or load_fitted(store, recipe["fit"], trust_code)
    samples = samples_of(store, recipe["samples"])
    described = store.read(recipe["fit"]).manifest["recipe"]["blocks"]
    arrays = {}
    for view in recipe["views"]:
        blocks = tuple(
            BlockRows(block["name"], block["kind"], block["encoding"], read_view(store, place))
            for block, place in zip(described, view["blocks"], strict=True)
        )
        rows = Rows(samples.n_rows, {name: samples.inputs[name] for name in recipe["raw"]}, blocks)
        for name, values in fitted.emit(rows).items():
            arrays[f"view{view['fold']}/{name}"] = values
    _write_arrays(store, key, recipe, arrays)


def _run_align(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    folds = folds_of(store, recipe["folds"])
    fit_maps = align_fold_spaces if recipe["stage"] == "align" else add_refit_space
    arrays, report = fit_maps(store, recipe, folds)
    with store.write(key, recipe["stage"], recipe) as writer:
        for name, values in arrays.items():
            writer.array(name, values)
        writer.json("report", report)


def _run_align_emit(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    values = map_activations(store, recipe)
    _write_arrays(store, key, recipe, {f"view{recipe['fold']}": values})


def _run_score(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    scored, bootstrap = score_member(
        store,
        recipe,
        samples_of(store, recipe["samples"]),
        folds_of(store, recipe["folds"]),
        trust_code=trust_code,
    )
    with store.write(key, "score", recipe) as writer:
        writer.json("score", scored)
        writer.array("bootstrap", bootstrap)


def _run_diagnose(
    store: EntryStore, key: str, recipe: Recipe, held: dict[str, FittedMember], trust_code: bool
) -> None:
    found = diagnose_block(store, recipe, folds_of(store, recipe["folds"]))
    with store.write(key, "diagnose", recipe) as writer:
        writer.json("diagnosis", found)


def _write_arrays(store: EntryStore, key: str, recipe: Recipe, arrays: Mapping[str, np.ndarray]) -> None:
    with store.write(key, recipe["stage"], recipe) as writer:
        for name, values in arrays.items():
            writer.array(name, values)


Stage = Callable[[EntryStore, str, Recipe, dict[str, FittedMember], bool], None]

STAGES: dict[str, Stage] = {
    "fit": _run_fit,
    "emit": _run_emit,
    "align": _run_align,
    "align_refit": _run_align,
    "align_emit": _run_align_emit,
    "score": _run_score,
    "diagnose": _run_diagnose,
    "holdout_score": run_holdout_score,
}
