"""Predictor: a finished stack that scores later rows with the very models of the run.

In:  the predictor folder of a run, and rows read by the run's schema.
Out: predictions: each row takes the way that the run's test rows took, averaged as they were.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stackfeat.data.samples import Samples, save_samples
from stackfeat.ensemble.graph import Graph, Node, Options
from stackfeat.ensemble.members.imported import FittedImport, missing_text
from stackfeat.ensemble.options import VoteOptions
from stackfeat.ensemble.outputs import Output
from stackfeat.ensemble.plan import Plan, align_emit_steps, emit_step
from stackfeat.ensemble.predictions import test_prediction
from stackfeat.ensemble.units import Averaging, Fold, Sources
from stackfeat.ensemble.without import graph_without
from stackfeat.ensemble.work import load_fitted, run_steps
from stackfeat.errors import DataError, StackfeatError
from stackfeat.executors import pinned_threads
from stackfeat.features.keys import key_of
from stackfeat.nets.options import NetOptions, TapOptions
from stackfeat.store import EntryStore, LayeredStore, MemoryStore, Store
from stackfeat.task import Task

FORMAT = 1


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
    """

    plan: Plan
    store: EntryStore
    block: str
    averaging: Averaging
    task: Task
    trust_code: bool = False

    def predict(self, samples: Samples) -> np.ndarray:
        """Return averaged predictions, float64 (n_rows, n_outputs).

        The models see rows in batches of one fixed size, so a row's prediction does not
        depend on the rows it comes with, unless ``average: rank`` asks for its rank among them.
        """
        self._refuse_unknown(samples.ids)
        memory = MemoryStore()
        # A name of its own for every call: what was read under a key is remembered in a process.
        recipe = {"stage": "samples", "part": "later", "call": uuid.uuid4().hex}
        with memory.write(key_of(recipe), "samples", recipe) as writer:
            save_samples(samples, writer)
        plan = replace(
            self.plan, sources=replace(self.plan.sources, test=key_of(recipe)), emits={}, align_emits={}
        )
        layered = LayeredStore([memory, self.store])
        with pinned_threads(int(self.plan.sources.settings["threads"])):
            for steps in _emit_steps(plan, self.averaging):
                run_steps(layered, steps, trust_code=self.trust_code)
        return test_prediction(layered, plan, self.block, self.averaging, self.task)

    def _refuse_unknown(self, ids: np.ndarray) -> None:
        """Raise where imported members have no prediction of some rows; what they have is looked up by id."""
        absent: dict[str, np.ndarray] = {}
        for (member, _, _), key in self.plan.fits.items():
            is_needed = member in [node.full_name for node in self.plan.graph.nodes]
            if is_needed and member not in absent and self.store.read(key).has("import.json"):
                fitted = load_fitted(self.store, key, self.trust_code)
                assert isinstance(fitted, FittedImport)
                absent[member] = fitted.missing(ids)
        members = [member for member, missing in absent.items() if len(missing)]
        if members:
            missing = np.unique(np.concatenate([absent[member] for member in members]))
            raise DataError(missing_text(members, missing))

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
        return replace(
            self, plan=replace(self.plan, graph=graph_without(self.plan.graph, members, self.block))
        )


def needed_fits(
    plan: Plan, member: str, averaging: Averaging
) -> tuple[list[tuple[str, int, Fold]], list[tuple[str, int]]]:
    """Return which fits and alignments a prediction of `member` goes through."""
    fits: list[tuple[str, int, Fold]] = []
    aligns: list[tuple[str, int]] = []
    nodes = plan.graph.upstream(member)
    read = {block for node in nodes for block in node.blocks}
    for node in nodes:
        for repeat in range(plan.sources.n_repeats):
            fits += [(node.full_name, repeat, fold) for fold in _folds_used(plan, node, averaging)]
        aligns += [
            (name, repeat)
            for name, repeat in plan.test_maps
            if name in read and name.startswith(f"{node.full_name}/")
        ]
    return fits, aligns


def _folds_used(plan: Plan, node: Node, averaging: Averaging) -> list[Fold]:
    """Fits that test rows go through."""
    if averaging.averaging == "refit" or (averaging.chain == "all" and not node.is_base):
        return ["all"]
    return list(plan.folds_of(node))


def _emit_steps(plan: Plan, averaging: Averaging) -> list[list[dict[str, Any]]]:
    jobs = []
    for node in plan.graph.nodes:
        for repeat in range(plan.sources.n_repeats):
            steps = [emit_step(plan, node, repeat, fold) for fold in _folds_used(plan, node, averaging)]
            for output in node.outputs:
                if (node.block(output), repeat) in plan.test_maps:
                    steps += align_emit_steps(plan, node, output, repeat)
            jobs.append([{"key": step.key, "recipe": step.recipe} for step in steps if step is not None])
    return jobs


def describe(plan: Plan, member: str, averaging: Averaging, task: Task) -> dict[str, Any]:
    """Return JSON from which `load_predictor` rebuilds the wiring."""
    fits, aligns = needed_fits(plan, member, averaging)
    return {
        "format": FORMAT,
        "member": member,
        "block": plan.graph.node(member).prediction,
        "nodes": [_node_json(node) for node in plan.graph.upstream(member)],
        "fits": [[*unit, plan.fits[unit]] for unit in fits],
        "aligns": [[*unit, plan.test_maps[unit]] for unit in aligns],
        "n_folds": plan.sources.n_folds,
        "n_repeats": plan.sources.n_repeats,
        "is_time": plan.sources.is_time,
        "threads": plan.sources.settings["threads"],
        "averaging": averaging.to_json(),
        "task": task.to_json(),
    }


def load_predictor(folder: Path, *, trust_code: bool = False) -> tuple[Predictor, dict[str, Any]]:
    """Read a predictor folder; return the predictor and its whole description.

    Raises
    ------
    DataError
        If there is no predictor, or it is of another format.
    """
    path = folder / "predictor.json"
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} must hold a predictor; got no readable {path.name} ({error}). Run the config first"
        ) from error
    if values["format"] != FORMAT:
        raise DataError(
            f"{path} must have format {FORMAT}; got {values['format']}. Run the config again with this version"
        )
    if values.get("unsaved"):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in values["unsaved"].items())
        raise StackfeatError(f"this stack cannot score later data: {reasons}")
    averaging = Averaging.from_json(values["averaging"])
    sources = Sources(
        samples="",
        test=None,
        folds="",
        n_folds=values["n_folds"],
        n_repeats=values["n_repeats"],
        is_time=values["is_time"],
        seed=0,
        settings={"threads": values["threads"]},
        source_hash=lambda name: None,
        averaging=averaging.averaging,
    )
    plan = Plan(Graph([_node_from_json(node) for node in values["nodes"]]), sources)
    plan.fits.update({(member, repeat, fold): key for member, repeat, fold, key in values["fits"]})
    plan.test_maps.update({(block, repeat): key for block, repeat, key in values["aligns"]})
    task = Task.from_json(values["task"])
    store = Store(folder / "models", "readonly")
    return Predictor(plan, store, values["block"], averaging, task, trust_code), values


def _node_json(node: Node) -> dict[str, Any]:
    # Only the wiring: how a member was made stands in the recipes of its fits.
    outputs = [[output.name, output.kind, output.encoding] for output in node.outputs]
    return {
        "level": node.level,
        "name": node.name,
        "raw": list(node.raw),
        "blocks": list(node.blocks),
        "outputs": outputs,
        "first_fold": node.first_fold,
        **({"vote": True} if isinstance(node.options, VoteOptions) else {}),
    }


_NO_OPTIONS: Options = NetOptions(net="mlp")
_ANY_VOTE: Options = VoteOptions(vote="soft", inputs=())


def _node_from_json(values: dict[str, Any]) -> Node:
    outputs = tuple(
        Output(name, kind, TapOptions(tap=name) if kind == "feature" else None, encoding)
        for name, kind, encoding in values["outputs"]
    )
    return Node(
        level=values["level"],
        name=values["name"],
        options=_ANY_VOTE if values.get("vote") else _NO_OPTIONS,
        raw=tuple(values["raw"]),
        blocks=tuple(values["blocks"]),
        outputs=outputs,
        first_fold=values["first_fold"],
        path="",
    )
