"""The teacher: pipelines of a finished run, each asked alone to label rows that no file labels.

In:  what a stored run is made of.
Out: for each fold what its pipeline predicts, through the member that was chosen by the rows of the other folds and
     through meta-learners fitted on them, as its out-of-fold rows were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples
from stackfeat.encodings import CROSS_FOLD
from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.jobs import Averaging, Sources
from stackfeat.engine.plan import Plan
from stackfeat.engine.predictor import Predictor
from stackfeat.errors import DataError, UsageError, as_written
from stackfeat.members.options import Output
from stackfeat.members.settings import RunSettings
from stackfeat.output.provenance import REMEDY, BlockPlaces, Index
from stackfeat.store import EntryStore
from stackfeat.structure import checked, must, parse_json

SCORES = "scores.json"


@dataclass(frozen=True)
class Teacher:
    """Pipelines of a run.

    Attributes
    ----------
    whole : Predictor
        What the run saved: all pipelines, averaged as its test rows are.
    plan : Plan
        Of all members of the run, each fold's test rows apart.
    store : EntryStore
    submitted : str
        Full name of the member that is submitted.
    choices : mapping of str to str
        The member chosen for each fold by the rows of the others; empty where nothing was chosen.
    score : float
        What to expect of the submission.
    """

    whole: Predictor
    plan: Plan
    store: EntryStore
    submitted: str
    choices: Mapping[str, str]
    score: float

    @classmethod
    def of(cls, whole: Predictor, index: Index, is_time: bool, store: EntryStore, folder: Path) -> Teacher:
        """Return the pipelines of a run in this folder."""
        where = str(folder / SCORES)
        with as_written(where, REMEDY):
            scores = checked(dict[str, Any], parse_json((folder / SCORES).read_bytes(), where), where)
            auto = checked(dict[str, Any], scores.get("auto") or {"choices": {}}, where)
            choices = checked(dict[str, str], auto["choices"], where)
            own = scores["members"][str(scores["submitted"])]["score"]
            score = checked(float, auto.get("score", own), where)
            plan = plan_of(index, is_time, whole.plan.sources.settings.threads)
            submitted = str(scores["submitted"])
            known = {node.full_name for node in plan.graph.nodes}
            unknown = {submitted, *choices.values()} - known
            must(not unknown, where, "name members of the run", sorted(unknown)[:1])
        return cls(whole, plan, store, submitted, choices, score)

    def folds(self) -> list[int]:
        """Return the folds whose pipeline predicts."""
        plan = self.plan
        chosen = {fold: self._member(fold) for fold in range(plan.sources.n_folds)}
        return [fold for fold, name in chosen.items() if fold in plan.folds_of(plan.graph.node(name))]

    def pipeline(self, fold: int) -> Predictor:
        """Return the pipeline of a fold, which predicts by `Predictor.predict_pipeline`.

        Raises
        ------
        StackfeatError
            If one of its members could not be saved.
        DataError
            If one of them is made from files, and predicts no other rows.
        """
        own = self.stack(fold)
        imported = self.imported(own, fold)
        if imported:
            raise UsageError(
                f"a student is taught by members that predict any row; got {imported[0].full_name}, whose "
                "predictions come from files; submit a member that does not read it, and run the config again"
            )
        return own

    def stack(self, fold: int) -> Predictor:
        """Return the pipeline of a fold as `pipeline` does, whatever its members are."""
        name = self._member(fold)
        graph = Graph(self.plan.graph.upstream(name))
        block = graph.node(name).prediction
        assert block is not None
        averaging = Averaging(average="mean", chain="fold", last_view=False)
        plan = Plan(graph, self.plan.sources, fits=self.plan.fits, aligns=self.plan.aligns)
        whole = self.whole
        return Predictor(plan, self.store, block, averaging, whole.task, whole.trust_code, whole.folder)

    def imported(self, pipeline: Predictor, fold: int) -> list[Node]:
        """Return the members of a pipeline whose predictions come from files."""
        keys = {node: self.plan.fits.get((node.full_name, 0, fold)) for node in pipeline.plan.graph.nodes}
        return [node for node, key in keys.items() if key and self.store.read(key).has("import.json")]

    def everything(self, samples: Samples) -> np.ndarray:
        """Return what all pipelines of the run predict, averaged, float64 (n_rows, n_outputs)."""
        return self.whole.averaged(samples, "mean")

    def _member(self, fold: int) -> str:
        return self.choices.get(str(fold), self.submitted)


def plan_of(index: Index, is_time: bool, threads: int) -> Plan:
    """Return the plan that a run carried out, with the key of every fit; it names no rows to predict."""
    nodes = list(_nodes(index))
    sources = Sources(
        samples=index.samples,
        test=None,
        folds=index.folds,
        n_folds=index.n_folds,
        n_repeats=index.n_repeats,
        is_time=is_time,
        seed=0,
        settings=RunSettings(threads),
        source_hash=lambda name: None,
    )
    plan = Plan(Graph(nodes), sources)
    for member, keys in index.fits.items():
        for name, fit in keys.items():
            at, _, fold = name.partition("/")
            if at.isdecimal() and fold.isdecimal():
                plan.fits[member, int(at), int(fold)] = fit
    for block in index.blocks:
        for repeat, places in enumerate(block.oof):
            if block.encoding in CROSS_FOLD:
                key = next((place[0] for place in places if place is not None), None)
                if key is None:
                    raise DataError(f"{block.name} must have out-of-fold rows; got none; {REMEDY}")
                plan.aligns[block.name, repeat] = key
    return plan


def _nodes(index: Index) -> Iterator[Node]:
    by_member: dict[str, list[BlockPlaces]] = {}
    for block in index.blocks:
        by_member.setdefault(block.member, []).append(block)
    for member, blocks in by_member.items():
        level, _, name = member.partition("/")
        reads, places = blocks[0].reads, blocks[0].oof[0]
        yield Node(
            level,
            name,
            raw=tuple(one for one in reads if "/" not in one),
            blocks=tuple(one for one in reads if "/" in one),
            outputs=tuple(_output(member, block) for block in blocks),
            first_fold=next((fold for fold, place in enumerate(places) if place is not None), 0),
        )


def _output(member: str, block: BlockPlaces) -> Output:
    return Output(block.name.removeprefix(f"{member}/"), block.kind, encoding=block.encoding)
