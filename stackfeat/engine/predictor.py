"""Predictor: a finished stack that scores later rows with the very models of the run.

In:  the predictor folder of a run, and rows read by the run's schema.
Out: predictions: each row takes the way that the run's test rows took, averaged as they were.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.engine.fitted import fit_recipe, load_fitted
from stackfeat.engine.graph import graph_without
from stackfeat.engine.intervals import SavedIntervals
from stackfeat.engine.jobs import Averaging
from stackfeat.engine.passage import Parts, Passage
from stackfeat.engine.plan import Plan
from stackfeat.engine.wiring import Wiring
from stackfeat.errors import (
    DataError,
    DataWarning,
    StackfeatError,
    StoreError,
    StructureError,
    UsageError,
    as_written,
)
from stackfeat.executors import pinned_threads
from stackfeat.log import VERSION
from stackfeat.members.imported import FittedImport, missing_text
from stackfeat.meta.votes.averaging import Average
from stackfeat.meta.widening import Widening, averaged
from stackfeat.registry.source import library_versions
from stackfeat.store import EntryStore, Store
from stackfeat.store.disk import MANIFEST, hash_file, write_file
from stackfeat.store.manifest import read_sealed, read_written, refuse_other_format, seal
from stackfeat.store.store import PinnedStore
from stackfeat.structure import checked, must, parse_json, structured
from stackfeat.tasks.task import Task

FORMAT = 2
WIRING, HASHES, MODELS = "predictor.json", "hashes.json", "models"
INPUT = "input.schema.json"
"""For programs that send rows; it is not read here."""
REMEDY = "run the config again with this version"


@dataclass(frozen=True)
class Predictor:
    """Models of a run and how they are wired.

    Attributes
    ----------
    plan : Plan
        Nodes up to the submitted member, with the keys of their fits.
    store : EntryStore
        Where the fits are.
    block : str
        The block that is predicted.
    unsaved : mapping of str to str
        Members whose fits could not be saved, and why: what needs them predicts nothing.
    keeps : bool
        Whether fits stay in memory once they were read, for predictors that are asked many times.
    widenings : mapping of str to Widening
        Of averages over all pipelines, by block.
    interval : str
        Key of the intervals of the predicted block; empty where there are none.
    """

    plan: Plan
    store: EntryStore
    block: str
    averaging: Averaging
    task: Task
    trust_code: bool = False
    folder: Path | None = None
    unsaved: Mapping[str, str] = field(default_factory=dict)
    keeps: bool = False
    widenings: Mapping[str, Widening] = field(default_factory=dict)
    interval: str = ""

    @cached_property
    def parts(self) -> Parts:
        """Its fits and maps."""
        return Parts(self.store, self.trust_code, self.keeps)

    def predict(self, samples: Samples) -> np.ndarray:
        """Return averaged predictions, float64 (n_rows, n_outputs).

        The models see rows in batches of one fixed size, so a row's prediction does not
        depend on the rows it comes with, unless ``average: rank`` asks for its rank among them.
        """
        self.refuse_unsaved()
        with self._of_its_versions():
            return self._predict(samples, None)

    def averaged(self, samples: Samples, average: Average) -> np.ndarray:
        """Return predictions averaged in another way, float64 (n_rows, n_outputs)."""
        averaging = replace(self.averaging, average=average)
        # A widening is that of one kind of average.
        kept = self.widenings if average == self.averaging.average else {}
        return replace(self, averaging=averaging, widenings=kept).predict(samples)

    def predict_pipeline(self, samples: Samples, fold: int) -> np.ndarray:
        """Return what the pipeline of one fold of the first repeat predicts, float64 (n_rows, n_outputs).

        Nothing behind it was fitted on a label of that fold, where `averaging` is late by fold.
        """
        assert self.averaging.averaging == "late" and self.averaging.chain == "fold"
        return self._predict(samples, fold)

    def refuse_unsaved(self) -> None:
        """Refuse a stack that needs a member which could not be saved.

        Raises
        ------
        StackfeatError
            Naming the members, why, and which of them votes can do without.
        """
        needed = {node.full_name for node in self.plan.graph.nodes} & self.unsaved.keys()
        if not needed:
            return
        reasons = "; ".join(f"{name}: {why}" for name, why in self.unsaved.items() if name in needed)
        readers = set(needed)
        for node in self.plan.graph.nodes:
            if not node.does_without_inputs and readers & {block.rpartition("/")[0] for block in node.blocks}:
                readers.add(node.full_name)
        left_out = [node.full_name for node in self.plan.graph.nodes if node.full_name in readers]
        try:
            self.leave_out(left_out)
            remedy = f"the others predict {' '.join(f'--without {name}' for name in left_out)}"
        except UsageError:
            remedy = f"run the config again without {', '.join(sorted(needed))}, or submit a vote"
        raise StackfeatError(f"this stack cannot score later data: {reasons}; {remedy}")

    def predict_members(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return what each member that predicts says, by its name: float64 (n_rows, n_outputs).

        Averaged as the end is. These are all members that the predicted block is made of, and itself.
        """
        self.refuse_unsaved()
        with self._of_its_versions():
            return self._ask(samples, self.passage, self._predicting)

    @property
    def _predicting(self) -> dict[str, str]:
        """The members that predict, and the block of each."""
        return {node.full_name: node.prediction for node in self.plan.graph.nodes if node.prediction}

    @contextmanager
    def _of_its_versions(self) -> Iterator[None]:
        """Say of models that cannot be read or asked which versions of libraries they were made with.

        Raises
        ------
        StructureError
            If something stored is not as a run wrote it, or a library does not know it.
        """
        try:
            with as_written(f"the models of {self.folder or 'this predictor'}", REMEDY):
                yield
        except (StructureError, StoreError) as error:
            lacking = self._other_versions()
            if not lacking:
                raise
            here = ", ".join(f"{name} {library_versions(name)[name]}" for name in lacking)
            pins = " ".join(f"'{name}=={version}'" for name, version in lacking.items())
            cause = str(error).removesuffix(f"; {REMEDY}")
            raise StructureError(
                f"{cause}; these models were made with other versions than those here ({here}): pip install {pins}, "
                f"or {REMEDY}"
            ) from error

    def _other_versions(self) -> dict[str, str]:
        """Return the libraries that the models were made with in another version than is installed."""
        found: dict[str, str] = {}
        for key in dict.fromkeys(self.plan.fits.values()):
            found |= fit_recipe(self.store, key).libraries
        return {name: then for name, then in found.items() if then != library_versions(name)[name]}

    def views(self, samples: Samples) -> np.ndarray:
        """Return what each pipeline predicts, float64 (n_repeats, n_pipelines, n_rows, n_outputs)."""
        return self._member_views(samples, {"": self.block})[""]

    def member_views(self, samples: Samples) -> dict[str, np.ndarray]:
        """Return what each pipeline predicts by each member that `predict_members` names, each as `views`."""
        return self._member_views(samples, self._predicting)

    def _member_views(self, samples: Samples, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
        self.refuse_unsaved()
        with self._of_its_versions():
            found = self._views(samples, self.passage, wanted)
        repeats = self.plan.sources.n_repeats
        return {name: np.stack(one).reshape(repeats, -1, *one[0].shape) for name, one in found.items()}

    def averages(self, views: np.ndarray, member: str | None = None) -> np.ndarray:
        """Return the prediction that `views` make, of a member or at the end, float64 (n_rows, n_outputs)."""
        block = self.block if member is None else self._predicting[member]
        return self._average(list(views.reshape(-1, *views.shape[2:])), block)

    def region(self, samples: Samples, views: np.ndarray, level: float) -> np.ndarray:
        """Return the region of each row at a level, as `Task.region`."""
        if not self.task.has_regions:
            raise UsageError(
                f"intervals must be of values or classes; got task={self.task.kind}, whose scores only order the "
                "rows of a list; ask for predictions"
            )
        if self.intervals is None:
            raise DataError(
                f"{self.folder or 'this predictor'} must hold intervals; got none: it was written by an earlier "
                f"version, members were left out, or too few folds were predicted; {REMEDY}, and with all members"
            )
        if self.intervals.caution:
            warnings.warn(self.intervals.caution, DataWarning, stacklevel=4)
        # A widened average is no mean, of which more is known than of a single view.
        is_mean = self.averaging.average == "mean" and self.block not in self.widenings
        with self._of_its_versions():
            return self.intervals.region(samples, self.averages(views), views, level, is_mean=is_mean)

    @cached_property
    def intervals(self) -> SavedIntervals | None:
        """Its intervals; None where there are none."""
        return SavedIntervals.of(self.store.read(self.interval), self.task) if self.interval else None

    def load(self) -> None:
        """Read every fit and map now, so that no prediction has to."""
        with self._of_its_versions():
            for step in self.passage.steps:
                self.parts.of(step, self.passage.wanted)

    def _predict(self, samples: Samples, fold: int | None) -> np.ndarray:
        if fold is None:
            return self._ask(samples, self.passage, {"": self.block})[""]
        passage = Passage.of(self.plan, self.averaging, only=fold)
        places = [passage.plan.view_place(self.block, 0, fold, "fold")]
        alone = replace(self, widenings={})
        return alone._ask(samples, replace(passage, places={self.block: places}), {"": self.block})[""]

    @cached_property
    def passage(self) -> Passage:
        """The way of rows through all pipelines."""
        return Passage.of(self.plan, self.averaging)

    def _ask(self, samples: Samples, passage: Passage, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Return the averages of blocks, by what they are wanted as."""
        found = self._views(samples, passage, wanted)
        return {name: self._average(views, wanted[name]) for name, views in found.items()}

    def _average(self, views: Sequence[np.ndarray], block: str) -> np.ndarray:
        return averaged(views, self.task, self.averaging.average, self.widenings.get(block))

    def _views(
        self, samples: Samples, passage: Passage, wanted: Mapping[str, str]
    ) -> dict[str, list[np.ndarray]]:
        """Return blocks as each pipeline gives them, by what they are wanted as."""
        self._refuse_unknown(samples.ids)
        with pinned_threads(self.plan.sources.settings.threads):
            said = passage.said(self.parts, samples)
        return {name: [said[place] for place in passage.places[block]] for name, block in wanted.items()}

    def _refuse_unknown(self, ids: np.ndarray) -> None:
        """Raise where imported members have no prediction of some rows; what they have is looked up by id."""
        absent = {member: fitted.missing(ids) for member, fitted in self._imported.items()}
        members = [member for member, missing in absent.items() if len(missing)]
        if members:
            missing = np.unique(np.concatenate([absent[member] for member in members]))
            raise DataError(missing_text(members, missing))

    @property
    def looks_up(self) -> bool:
        """Whether members look predictions up by the ids of rows."""
        return bool(self._imported)

    @cached_property
    def _imported(self) -> dict[str, FittedImport]:
        """Members whose predictions are looked up, one fit of each."""
        needed, found = {node.full_name for node in self.plan.graph.nodes}, dict[str, FittedImport]()
        for (member, _, _), key in self.plan.fits.items():
            if member in needed and member not in found and self.store.read(key).has("import.json"):
                fitted = load_fitted(self.store, key, self.trust_code)
                assert isinstance(fitted, FittedImport)
                found[member] = fitted
        return found

    def leave_out(self, members: Sequence[str]) -> Predictor:
        """Return a predictor without some members: votes do without them, nothing else can.

        Parameters
        ----------
        members : sequence of str
            ``level/member`` or a member's name.

        Raises
        ------
        UsageError
            If there is no such member, or a fitted member reads it.
        """
        plan = replace(self.plan, graph=graph_without(self.plan.graph, members, self.block))
        # What was measured is the error of all members together.
        return replace(self, plan=plan, interval="")


def write_hashes(folder: Path, keys: Sequence[str]) -> None:
    """Write the hashes of the wiring, the schema of rows, and every manifest, which lists those of its files."""
    models = Store(folder / MODELS, "readonly")
    entries = {key: hash_file(models.read(key).path / MANIFEST) for key in keys}
    value = {"format": FORMAT, "version": VERSION, "wiring": hash_file(folder / WIRING), "entries": entries}
    value |= {"input": hash_file(folder / INPUT)} if (folder / INPUT).exists() else {}
    write_file(folder / HASHES, seal(value))


def load_predictor(
    folder: Path, *, trust_code: bool = False, keeps: bool = False
) -> tuple[Predictor, dict[str, Any]]:
    """Read a predictor folder; return the predictor and its whole description.

    Every byte is verified before it is parsed: ``hashes.json`` begins with its own hash and holds that of
    ``predictor.json`` and of every manifest, which holds those of its files. That finds damage; who made
    the folder it cannot tell, so everything read is checked as well.

    Raises
    ------
    DataError
        If there is no predictor, it is damaged, or it was written by another version.
    """
    described, store = read_predictor(folder)
    where = str(folder / WIRING)
    with as_written(where, REMEDY):
        wiring = Wiring.from_json(described, where)
        absent = [key for key in wiring.keys if key not in store.manifests]
        must(not absent, str(folder / HASHES), "name every entry", absent[:1])
        plan = wiring.plan()
    parts = (plan, store, wiring.block, wiring.averaging, wiring.task, trust_code, folder)
    return Predictor(*parts, wiring.unsaved, keeps, wiring.widenings, wiring.interval), described


def read_predictor(folder: Path) -> tuple[dict[str, Any], PinnedStore]:
    """Return the verified description of a predictor and its entries; raises as `load_predictor`."""
    path = folder / WIRING
    try:
        text = read_written(path, REMEDY)
        try:
            hashes = read_sealed(folder / HASHES, FORMAT, REMEDY)
        except FileNotFoundError:
            refuse_other_format(text, path, FORMAT, REMEDY)
            raise
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} must hold a predictor; got no file {Path(error.filename or folder).name}; run the config first"
        ) from error
    with as_written(str(folder), REMEDY):
        own = structured(_Hashes, hashes, str(folder / HASHES))
        if hashlib.sha256(text).hexdigest() != own.wiring:
            raise DataError(f"{path} must be as it was written; got contents of another hash; {REMEDY}")
        rows = folder / INPUT
        if own.input and (not rows.is_file() or hash_file(rows) != own.input):
            raise DataError(f"{rows} must be as it was written; got contents of another hash; {REMEDY}")
        described = checked(dict[str, Any], parse_json(text, str(path), finite=True), str(path))
    return described, PinnedStore(folder / MODELS, own.entries, REMEDY)


@dataclass(frozen=True)
class _Hashes:
    format: int
    wiring: str
    entries: Mapping[str, str]
    version: str = ""
    input: str = ""
