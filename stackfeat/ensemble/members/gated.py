"""`gated_linear` as a member: predictions always in, every feature block behind a gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stackfeat.ensemble.columns import Columns
from stackfeat.ensemble.gating.blocks import Block
from stackfeat.ensemble.gating.gated_linear import GatedLinear
from stackfeat.ensemble.options import EstimatorOptions
from stackfeat.errors import ConfigError
from stackfeat.features.member import FitContext, Rows
from stackfeat.store import Entry, EntryWriter
from stackfeat.task import Task

_PARAMS = ("penalties", "scales", "max_blocks")


@dataclass(frozen=True)
class GatedMember:
    """Multinomial logistic or ridge regression before `fit`."""

    options: EstimatorOptions

    def fit(self, rows: Rows, context: FitContext) -> FittedGated:
        unknown = set(self.options.params) - set(_PARAMS)
        if unknown:
            raise ConfigError(
                f"gated_linear takes {', '.join(_PARAMS)}; got {sorted(unknown)}. Remove them from params"
            )
        columns = Columns.fit(rows, context.task, prepare="scaled", read_as=self.options.read_as)
        fold_of = context.fold_of if context.fold_of is not None else np.zeros(rows.n_rows, dtype=np.int64)
        base = columns.base(rows)
        model = GatedLinear(**self.options.params).fit(
            base,
            _blocks(rows, context.task),
            context.y,
            fold_of,
            context.task,
            gate_se=float(context.settings.get("gate_se", 0.5)),
            weight=context.weight,
            votes=columns.votes(rows, base.shape[1]),
            seed=context.seed,
        )
        return FittedGated(context.task, columns, model)

    def load(self, entry: Entry, task: Task, settings: Mapping[str, Any]) -> FittedGated:
        state = entry.structure("gated", GatedState)
        arrays = {name: entry.array(f"gated/{name}") for name in state.arrays}
        return FittedGated(task, Columns.load(entry, task), GatedLinear.from_arrays(arrays, state.values))


@dataclass(frozen=True)
class GatedState:
    """What is stored beside the arrays of the model."""

    arrays: tuple[str, ...]
    values: dict[str, Any]


@dataclass(frozen=True)
class FittedGated:
    """A gated linear model behind its columns."""

    task: Task
    columns: Columns
    model: GatedLinear

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        return {self.task.output: self.model.predict(self.columns.base(rows), _blocks(rows, self.task))}

    def save(self, writer: EntryWriter) -> None:
        arrays = self.model.arrays()
        writer.json("gated", {"arrays": sorted(arrays), "values": self.model.to_json()})
        for name, values in arrays.items():
            writer.array(f"gated/{name}", values)
        self.columns.save(writer)

    def report(self) -> dict[str, Any]:
        return self.model.report()


def _blocks(rows: Rows, task: Task) -> list[Block]:
    return [Block.encoded(block.name, block.values, block.encoding, task) for block in rows.features()]
