"""The config of a run with every decision written in: members, parameters, rounds, gates, weights, types.

In:  a finished run: its config, how the submitted member is wired, what its fits report, how its file was read.
Out: the values of a config that chooses nothing, to be fitted to other rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stackfeat.config.run_config import RunConfig
from stackfeat.data.schema.columns import Schema
from stackfeat.data.splits.folds import Folds
from stackfeat.engine.graph import Graph, Node
from stackfeat.engine.plan import Plan
from stackfeat.members.finished import FinishedFits
from stackfeat.members.options import MemberOptions
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.metrics.decision_rule import Decision
from stackfeat.output.provenance import Index
from stackfeat.output.saved_predictor import SavedPredictor
from stackfeat.store import EntryStore

FITTED_RULES = ("threshold", "offsets", "cuts", "labels")


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, as far as it says what was decided.

    Attributes
    ----------
    plan : Plan
        The submitted member and all that it reads, as they were wired.
    submitted : str
        ``level/member``.
    store : EntryStore
        Where the fits are.
    """

    config: RunConfig
    plan: Plan
    submitted: str
    index: Index
    folds: Folds
    schema: Schema
    decision: Decision | None
    store: EntryStore

    @classmethod
    def of(
        cls, config: RunConfig, model: SavedPredictor, index: Index, folds: Folds, store: EntryStore
    ) -> FinishedRun:
        """Return a finished run, of which `model` is the predictor."""
        wired = model.predictor.plan
        options = {node.full_name: _options_of(config, node) for node in wired.graph.nodes}
        plan = Plan(Graph(wired.graph.nodes, options), replace(wired.sources, n_rows=folds.n_rows))
        way = model.way
        return cls(config, plan, model.submitted, index, folds, way.schema, way.decision, store)

    @property
    def graph(self) -> Graph:
        """The submitted member and all that it reads."""
        return self.plan.graph

    @property
    def seconds(self) -> float:
        """How long the fits of the run took, one after the other."""
        keys = {key for fits in self.index.fits.values() for key in fits.values()}
        return sum(FitInfo.of(self.store.read(key)).seconds for key in keys)

    def decided(self) -> dict[str, Any]:
        """Return the values of the config.

        Raises
        ------
        UsageError
            If a member cannot be fitted to other rows.
        """
        values = self.config.to_json()
        values |= {
            "data": {**values["data"], **self._data()},
            "levels": self._members(),
            "submit": self.submitted,
            "limits": {},
            "stack": {**values["stack"], "holdout": 0.0},
        }
        if self.decision is not None:
            is_fitted = self.decision.kind in FITTED_RULES and bool(self.decision.numbers)
            values["decision"] = self.decision.to_json() if is_fitted else "argmax"
        return values

    def _members(self) -> dict[str, dict[str, Any]]:
        """Return the members that the submitted one needs, by level."""
        needed: dict[str, set[str]] = {self.submitted: {self._predicted}}
        blocks, found = self.graph.blocks(), dict[str, dict[str, Any]]()
        for node in reversed(self.graph.nodes):
            if node.full_name not in needed:
                continue
            options = self.graph.options[node.full_name]
            found[node.full_name] = options.decided(self._fits(node, needed[node.full_name]))
            for block in found[node.full_name]["inputs"]:
                if block in blocks:
                    member = blocks[block][0].full_name
                    needed.setdefault(member, set()).add(block.removeprefix(f"{member}/"))
        levels: dict[str, dict[str, Any]] = {}
        for node in self.graph.nodes:
            if node.full_name in found:
                levels.setdefault(node.level, {})[node.name] = found[node.full_name]
        return levels

    @property
    def _predicted(self) -> str:
        block = self.graph.node(self.submitted).prediction
        assert block is not None
        return block.removeprefix(f"{self.submitted}/")

    def _fits(self, node: Node, outputs: set[str]) -> FinishedFits:
        reports = {
            fit: FitInfo.of(self.store.read(key)).report
            for fit, key in self.index.fits[node.full_name].items()
            if "-" not in fit
        }
        whole = [report for fit, report in reports.items() if fit.endswith("/all")]
        blocks = self.graph.blocks()
        return FinishedFits(
            name=node.full_name,
            folds=[report for fit, report in reports.items() if not fit.endswith("/all")],
            whole=whole[0] if whole else None,
            n_rows=int(np.median([len(train) for train, _ in self.folds.splits[0]])),
            raw=node.raw,
            blocks=node.blocks,
            features=frozenset(name for name in node.blocks if blocks[name][1].kind == "feature"),
            outputs=frozenset(outputs),
            is_nested=self.plan.is_nested(node),
        )

    def _data(self) -> dict[str, Any]:
        """Return the options of `data` that say how the file was read, without the files."""
        schema, task = self.schema, self.schema.task
        given = self.config.data
        found: dict[str, Any] = {"test": None, "sample_submission": None}
        found["types"] = {column.name: column.type for column in schema.columns}
        found["drop"] = []
        if schema.inputs:
            inputs = given.to_json()["inputs"] or {}
            found["inputs"] = inputs | {
                name: {**(inputs.get(name) or {}), "columns": list(columns)}
                for name, columns in schema.inputs.items()
            }
        if schema.has_order:
            found["class_order"] = list(task.classes)
        elif task.takes_positive:
            found["positive"] = task.classes[task.positive]
        if task.transforms:
            found["target_transform"] = task.transform
        marks = {column.name: column.notation for column in schema.columns}
        for option in ("decimal", "thousands"):
            if getattr(given, option) is None:
                told = {name: getattr(one, option) for name, one in marks.items() if not one.has_plain_marks}
                found[option] = {name: mark for name, mark in told.items() if mark} or None
        return found


def _options_of(config: RunConfig, node: Node) -> MemberOptions:
    """Return the options that a member was made by: under its own name, or under that of an `each`."""
    members = config.levels[node.level]
    return members[node.name] if node.name in members else members[node.name.partition(":")[0]]
