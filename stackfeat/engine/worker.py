"""The worker: what one job does, in whatever process it runs.

In:  a job's key; its recipes are read from the store, and so is everything they name.
Out: store entries. A worker holds no other state, so losing one costs one job.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.data.splits.folds import Folds
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.encodings import CROSS_FOLD, ENCODINGS
from stackfeat.encodings.alignment import (
    FoldSpaces,
    Maps,
    add_refit_space,
    align_fold_spaces,
    alignment_arrays,
    alignment_report,
    load_alignments,
    map_parts,
    under,
)
from stackfeat.encodings.relative import MAX_ANCHORS, N_ANCHORS
from stackfeat.engine.blocks import (
    Contents,
    anchors_of,
    assemble,
    folds_of,
    samples_of,
    store_reader,
    usable_anchors,
)
from stackfeat.engine.extra_training import ExtraTraining
from stackfeat.engine.fitted import Fit, emit, emit_views, fit_recipe, load_fitted
from stackfeat.engine.intervals import fit_intervals
from stackfeat.engine.jobs import EXTRA_ROWS, pack_rows, write_fitted_rows
from stackfeat.engine.judged import clusters_of
from stackfeat.engine.recipes import (
    AlignEmitRecipe,
    AlignRecipe,
    AlignRefitRecipe,
    BlockReference,
    EmitRecipe,
    FitRecipe,
    MemberRecipe,
    Recipe,
    ReferenceRecipe,
    read_recipe,
)
from stackfeat.engine.scoring import diagnose_block, score_holdout, score_member
from stackfeat.engine.selection import select_member
from stackfeat.errors import MemberError, StackfeatError, StoreError, described, machine_fault
from stackfeat.log import collected_lines
from stackfeat.members import learns_from_rows, make_member
from stackfeat.members.protocol import FitContext, FittedMember, Tapped
from stackfeat.members.settings import NetSettings, Settings
from stackfeat.meta.columns import BlockRows, Rows
from stackfeat.registry.allowed import allowed_class, is_allowed_path
from stackfeat.store import Entry, EntryStore, EntryWriter, Scratch, Store
from stackfeat.structure import plain

if TYPE_CHECKING:
    from stackfeat.members.net import NetMember


def row_sets(
    recipe: FitRecipe, folds: Folds, covered: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows to fit on and the rows to predict (None for the fit on all OOF rows).

    A base member trains on the splitter's rows. A later one trains on those of them that all
    its blocks cover: a splitter's gaps and windows hold at every level.
    """
    repeat, fold = recipe.repeat, recipe.fold
    usable = np.logical_and.reduce(covered) if covered else np.ones(folds.n_rows, dtype=bool)
    if fold == "all":
        return np.flatnonzero(usable), None
    left_out = recipe.folds_left_out
    if left_out:
        one, other = (folds.splits[repeat][k][0] for k in left_out)
        return np.intersect1d(one, other), None
    train, held_out = folds.splits[repeat][int(fold)]
    train = train[usable[train]]
    if not len(train) and learns_from_rows(recipe.member):
        raise MemberError(
            f"fold {fold} must have training rows that all inputs predict; got none. "
            "Use fewer levels, more folds, or a larger folds.max_train_size"
        )
    return train, held_out


def context_of(
    recipe: FitRecipe,
    samples: Samples,
    folds: Folds,
    train: np.ndarray,
    sources: Mapping[str, Entry],
    scratch: Scratch | None = None,
) -> FitContext[Settings]:
    """Return what a fit on the rows `train` knows besides them."""
    fold_of = folds.fold_of(recipe.repeat)
    # Both are for choices above the first level alone.
    clusters = clusters_of(samples, fold_of, folds.is_time) if recipe.blocks else None
    needs_anchors = any(ENCODINGS[name].needs_anchors for name in recipe.encodings)
    return FitContext(
        task=samples.task,
        y=samples.labels[train],
        weight=None if samples.weight is None else samples.weight[train],
        fold_of=fold_of[train] if recipe.blocks else None,
        clusters=None if clusters is None else clusters[train],
        inner=InnerSplits(samples, train, folds.kind, recipe.seed),
        seed=recipe.seed,
        settings=recipe.settings,
        anchors=anchors(recipe, samples, folds, N_ANCHORS) if needs_anchors else None,
        scratch=scratch,
        repeat=recipe.repeat,
        fold=recipe.fold,
        sources=sources,
    )


def block_rows(
    samples: Samples,
    raw: Sequence[str],
    blocks: Sequence[tuple[BlockReference, np.ndarray, np.ndarray]],
    rows: np.ndarray,
) -> Rows:
    """Return what a member reads of the training rows with these numbers."""
    part = samples.take(rows)
    read = tuple(
        BlockRows(block.name, block.kind, block.encoding, values[rows]) for block, values, _ in blocks
    )
    return Rows(len(rows), {name: part.inputs[name] for name in raw}, read, part.ids, rows, part.query)


def anchors(recipe: MemberRecipe, samples: Samples, folds: Folds, n_most: int = MAX_ANCHORS) -> Rows:
    """Return the raw inputs of a seeded sample of training rows, the same rows for every fold."""
    return block_rows(samples, recipe.raw, [], anchors_of(folds, n_most))


@dataclass(frozen=True)
class Worker:
    """A picklable function from a job's key to its entries.

    Attributes
    ----------
    open_store : callable
        Opens the run's store in the process of the worker.
    trust_code : bool
        Whether the user agreed to run code that the config names.
    """

    open_store: Callable[[], Store]
    trust_code: bool = False

    @classmethod
    def of(cls, store: Store, trust_code: bool) -> Worker:
        """Return a worker on a store."""
        opened = partial(Store, store.root, store.cache, started=store.started, run=store.run)
        return cls(opened, trust_code)

    def __call__(self, key: str) -> list[str]:
        """Do the job; return what was logged on the way."""
        store = self.open_store()
        with collected_lines() as lines:
            try:
                run_steps(store, self._steps(store, key), trust_code=self.trust_code)
            except Exception as error:
                # Here, because the causes of an error do not travel to another process.
                fault = machine_fault(error, (store.root,))
                if fault is None or fault is error:
                    raise
                raise fault from error
        return lines

    def prepare(self, key: str) -> None:
        """Import the libraries that a job needs; what is wrong with them, the job says."""
        with suppress(Exception):
            for step in self._steps(self.open_store(), key):
                if isinstance(step, MemberRecipe):
                    make_member(step.member, self.trust_code)
                    if is_allowed_path(name := step.member.get("estimator", "")):
                        allowed_class(name)

    def _steps(self, store: Store, key: str) -> list[Recipe]:
        """Return what is to be done; nothing where the job is gone because somebody has its result."""
        try:
            steps = store.read_job(key)["steps"]
        except StoreError:
            if store.has(key):
                return []
            raise
        return [read_recipe(step) for step in steps]


def run_steps(store: EntryStore, steps: Sequence[Recipe], *, trust_code: bool = False) -> None:
    """Make the entries of a job's steps that are not stored yet; later steps reuse what is in memory."""
    held: dict[str, FittedMember] = {}
    for step in steps:
        if store.has(step.key):
            continue
        if isinstance(step, FitRecipe):
            held[step.key] = _fit(store, step, trust_code)
            continue
        if isinstance(step, EmitRecipe):
            fitted = held.get(step.fit) or load_fitted(store, step.fit, trust_code)
            arrays, values = _emit(store, step, fitted)
        else:
            arrays, values = STAGES[step.stage](store, step, trust_code)
        with step.write(store) as writer:
            _write_arrays(writer, arrays)
            for name, value in values.items():
                writer.json(name, value)


def _write_arrays(writer: EntryWriter, arrays: Mapping[str, np.ndarray]) -> None:
    for name, values in arrays.items():
        writer.array(name, values)


def _fit(store: EntryStore, recipe: FitRecipe, trust_code: bool) -> FittedMember:
    """Fit a member for one fold, and store it with the rows that it predicts."""
    # Making the member imports its library, which is no cost of the fit.
    member = make_member(recipe.member, trust_code)
    started = time.perf_counter()
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    blocks = [(block, *assemble(store, block.oof, folds, recipe.repeat)) for block in recipe.blocks]
    train, held_out = row_sets(recipe, folds, [covered for _, _, covered in blocks])
    scratch = store.scratch(recipe.key)
    sources = {role: store.read(source) for role, source in recipe.sources.items()}
    context = context_of(recipe, samples, folds, train, sources, scratch)
    read, report = block_rows(samples, recipe.raw, blocks, train), dict[str, Any]()
    extra = None if recipe.extra is None else ExtraTraining.of(store, recipe, samples, folds, train)
    if extra is not None:
        report = extra.report()
        if len(extra.numbers):
            read, context = extra.joined(read), extra.known(context)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = member.fit(read, context)

    is_pair = bool(recipe.folds_left_out)
    predicted = {f"oof{fold}": folds.splits[recipe.repeat][fold][1] for fold in recipe.folds_left_out}
    predicted |= {} if held_out is None else {"oof": held_out}
    arrays: dict[str, np.ndarray] = {}
    begun, n_predicted = time.perf_counter(), sum(map(len, predicted.values()))
    for place, rows in predicted.items():
        emitted = emit(fitted, block_rows(samples, recipe.raw, blocks, rows), samples.task)
        # No fold spaces are aligned that two folds are left out of.
        arrays |= {
            f"{place}/{name}": values
            for name, values in emitted.items()
            if not (is_pair and name.startswith("tap/"))
        }
    row_seconds = (time.perf_counter() - begun) / n_predicted if n_predicted else None
    arrays |= {} if is_pair else _anchor_arrays(fitted, recipe, samples, folds)
    seconds = time.perf_counter() - started
    with recipe.write(store) as writer:
        _write_arrays(writer, arrays)
        write_fitted_rows(writer, train, folds.n_rows)
        if extra is not None:
            writer.array(EXTRA_ROWS, pack_rows(extra.numbers, extra.rows.extra.n_rows))
        writer.json("task", samples.task.to_json())
        unsaved = None if is_pair else _save(fitted, writer)
        info = {
            "seconds": seconds,
            "row_seconds": row_seconds,
            "report": {**fitted.report(), **report},
            "unsaved": unsaved,
        }
        writer.json("info", {**info, "warnings": _texts(caught)})
    if scratch is not None:
        scratch.remove()
    return fitted


def _texts(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """First lines of what a fit warned of, each once: a library repeats itself for every trial."""
    useful = (
        warning for warning in caught if not issubclass(warning.category, FutureWarning | DeprecationWarning)
    )
    texts = (f"{warning.category.__name__}: {str(warning.message).splitlines()[0]}" for warning in useful)
    return list(dict.fromkeys(texts))


def _anchor_arrays(
    fitted: FittedMember, recipe: MemberRecipe, samples: Samples, folds: Folds
) -> dict[str, np.ndarray]:
    """Activations of the rows that fold spaces are aligned on."""
    if not recipe.encodings & CROSS_FOLD.keys():
        return {}
    caught = cast(Tapped, fitted).activations(anchors(recipe, samples, folds))
    return {f"anchor/{name}": values for name, values in caught.items()}


def _save(fitted: FittedMember, writer: EntryWriter) -> str | None:
    """Save the state; return None, or why this member cannot score later data."""
    try:
        fitted.save(writer)
    except MemberError as error:
        return str(error)
    except Exception as error:
        if isinstance(error, StackfeatError) or machine_fault(error) is not None:
            raise
        return described(error)
    return None


def _emit(store: EntryStore, recipe: EmitRecipe, fitted: FittedMember) -> Contents:
    samples = samples_of(store, recipe.samples)
    return emit_views(recipe, Fit(fit_recipe(store, recipe.fit), fitted), samples, store_reader(store)), {}


def _read_untrained(store: EntryStore, recipe: ReferenceRecipe, trust_code: bool) -> Contents:
    member = cast("NetMember", make_member(recipe.member, trust_code))
    samples, folds = samples_of(store, recipe.samples), folds_of(store, recipe.folds)
    rows = anchors(recipe, samples, folds)
    return member.reference(rows, samples.task, recipe.seed, cast(NetSettings, recipe.settings)), {}


def _align(store: EntryStore, recipe: AlignRecipe | AlignRefitRecipe, trust_code: bool) -> Contents:
    fits = [store.read(key) for key in recipe.fits]
    n_nets = cast(NetSettings, fit_recipe(store, recipe.fits[0]).settings).seeds
    reference = None if recipe.reference is None else store.read(recipe.reference).array
    folds = folds_of(store, recipe.folds)
    usable = usable_anchors(folds, recipe.repeat)[: len(fits)]
    anchors = [under("anchor", fit.array) for fit in fits]
    spaces = FoldSpaces(anchors, n_nets, reference, usable, folds.is_time)
    if isinstance(recipe, AlignRecipe):
        alignments = align_fold_spaces(spaces, recipe.parts, recipe.reduce, recipe.seed)
        mapped = {
            f"oof/{fold}": map_parts(alignments, fold, n_nets, under("oof", fit.array))
            for fold, fit in enumerate(fits)
        }
    else:
        refit = under("anchor", store.read(recipe.fit).array)
        alignments = add_refit_space(spaces, load_alignments(store.read(recipe.align)), refit)
        mapped = {}
    report = alignment_report(spaces, alignments, has_refit=isinstance(recipe, AlignRefitRecipe))
    return alignment_arrays(alignments) | mapped, {"report": plain(report)}


def _align_emit(store: EntryStore, recipe: AlignEmitRecipe, trust_code: bool) -> Contents:
    maps, read = Maps.of(store.read(recipe.align)), store.read(recipe.emit).array
    view = f"view{recipe.fold}"
    return {view: maps.mapped(recipe.fold, under(view, read))}, {}


STAGES: dict[str, Callable[[EntryStore, Any, bool], Contents]] = {
    "reference": _read_untrained,
    "align": _align,
    "align_refit": _align,
    "align_emit": _align_emit,
    "score": score_member,
    "select": select_member,
    "interval": fit_intervals,
    "holdout_score": score_holdout,
    "diagnose": diagnose_block,
}
"""What makes the entries of a stage from the store alone, by its name."""
