"""Estimators as members: any scikit-learn style class, or `gated_linear`, over raw columns and blocks.

In:  raw tables and blocks of earlier levels.
Out: one prediction. Feature blocks are gated, and a linear model above the first level
     without a given penalty gets one by cross-validation grouped on the folds; boosting finds its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from stackfeat.errors import ConfigError, MemberError
from stackfeat.members.boosters import searches_rounds
from stackfeat.members.class_labels import with_class_codes
from stackfeat.members.construct import construct, is_tree_model
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.rounds import Rounds, find_rounds
from stackfeat.members.settings import EstimatorSettings
from stackfeat.meta.by_level import ByLevel
from stackfeat.meta.columns import Columns, Rows, combine
from stackfeat.meta.estimator_io import LightGBM, fit_estimator, predict_rows
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import choose_penalty, gate_blocks, has_free_penalty, is_linear
from stackfeat.meta.gating.gated_linear import GatedLinear, LinearChoice
from stackfeat.registry.parameters import object_problems, refuse_untrusted
from stackfeat.registry.quantile_learners import learns_quantiles, quantile_params
from stackfeat.registry.user_code import agreed_types
from stackfeat.store import Entry, EntryWriter
from stackfeat.store.skops_file import load_object, save_object, unknown_types
from stackfeat.structure import must
from stackfeat.tasks.task import Task

Context = FitContext[EstimatorSettings]


@dataclass(frozen=True)
class EstimatorMember:
    """An estimator before `fit`."""

    options: EstimatorOptions
    trust_code: bool = False

    @property
    def prepare(self) -> str:
        """`prepare` with ``auto`` resolved."""
        if self.options.prepare != "auto":
            return self.options.prepare
        return "trees" if is_tree_model(self.options.estimator) else "scaled"

    def fit(self, rows: Rows, context: Context) -> FittedEstimator:
        reader = Columns.fit(
            rows, context.task, prepare=self.prepare, read_as=self.options.read_as, seed=context.seed
        )
        base, features = reader.base(rows), reader.features(rows)
        choice = self._choose(base, features, rows, context)
        columns = combine(base, features, choice.scales)
        fitted = [
            fit_estimator(self._make(context, choice, seed), columns, context.y, context.weight, context.task)
            for seed in context.settings.seeds_from(context.seed)
        ]
        names = [block.name for block in rows.features()]
        report, curves = choice.report(names), tuple(one for found in choice.rounds for one in found.curves)
        return FittedEstimator(
            context.task, reader, tuple(fitted), choice.scales, report, self.trust_code, curves
        )

    def load(self, entry: Entry, task: Task, settings: EstimatorSettings) -> FittedEstimator:
        state = entry.structure("estimator", EstimatorState)
        extra = agreed_types(state.types) if self.trust_code else ()
        fitted = tuple(load_object(entry.bytes(f"estimator.{i}.skops"), extra) for i in range(state.n))
        if not self.trust_code:
            for estimator in fitted:
                refuse_untrusted(f"saved {type(estimator).__name__}", object_problems(estimator))
        if state.by_level:
            must(state.n % task.n_outputs == 0, "estimator.json.n", "be some for each quantile", state.n)
            starts = range(0, state.n, task.n_outputs)
            fitted = tuple(ByLevel(fitted[start : start + task.n_outputs]) for start in starts)
        return FittedEstimator(task, Columns.load(entry, task), fitted, state.scales, state.report)

    def _make(self, context: Context, choice: Choice, seed: int | None = None) -> Any:
        """Return the unfitted estimator with what was chosen; of a task of quantiles one for each, as one."""
        levels = context.task.quantiles if self.is_by_level(context.task) else ()
        if not levels:
            return self._learner(context, choice.params_at(0), seed)
        return ByLevel(
            [
                self._at_level(context, choice.params_at(place), level, seed)
                for place, level in enumerate(levels)
            ]
        )

    def is_by_level(self, task: Task) -> bool:
        """Whether it is fitted for each quantile: a class of one's own predicts them all by itself."""
        return task.is_by_level and learns_quantiles(self.options.estimator)

    def _at_level(
        self, context: Context, params: Mapping[str, Any], level: float, seed: int | None = None
    ) -> Any:
        return self._learner(context, {**params, **quantile_params(self.options.estimator, level)}, seed)

    def _learner(self, context: Context, params: Mapping[str, Any], seed: int | None = None) -> Any:
        estimator = construct(
            self.options.estimator,
            {**self.options.params, **params},
            seed=context.seed if seed is None else seed,
            threads=context.settings.threads,
            trust_code=self.trust_code,
        )
        return with_class_codes(estimator, context.task)

    def _choose(self, base: Any, features: list[np.ndarray], rows: Rows, context: Context) -> Choice:
        """Choose penalty and rounds on the base, gate the blocks with them, choose again with what came in."""
        everything = Choice((1.0,) * len(features), {}, None)
        chosen = self.options.chosen
        if chosen is not None:
            scales = tuple(chosen.scales.get(block.name, 0.0) for block in rows.features())
            return self._tuned(replace(everything, scales=scales), combine(base, features, scales), context)
        gated = self.options.gate and bool(features) and np.shape(base)[1] > 0
        if context.fold_of is None or not gated:
            return self._tuned(everything, combine(base, features, everything.scales), context)
        on_base = self._tuned(everything, base, context)
        gate = gate_blocks(
            lambda: self._make(context, on_base),
            base,
            [Block(b.name, v, "none") for b, v in zip(rows.features(), features, strict=True)],
            context.y,
            context.fold_of,
            context.task,
            gate_se=context.settings.gate,
            weight=context.weight,
            clusters=context.clusters,
            linear=is_linear(self._make(context, on_base)),
            seed=context.seed,
        )
        choice = replace(on_base, scales=tuple(gate.scales), gate=gate.report)
        if not any(scale > 0 for scale in choice.scales):
            return choice
        return self._tuned(choice, combine(base, features, choice.scales), context)

    def _tuned(self, choice: Choice, columns: Any, context: Context) -> Choice:
        """Return the choice with what the config leaves open: a linear model's penalty, a booster's rounds."""
        name, params = self.options.estimator, self.options.params
        if context.fold_of is not None and has_free_penalty(name, params):
            choice = replace(choice, params=self._penalty(columns, context.fold_of, context))
        if searches_rounds(name, params):
            choice = replace(choice, rounds=self._rounds(columns, context))
        return choice

    def _rounds(self, columns: Any, context: Context) -> tuple[Rounds, ...]:
        """Return the rounds of each fit: of one, or of one for each quantile."""
        name, params, fraction = (
            self.options.estimator,
            self.options.params,
            self.options.early_stopping_fraction,
        )
        makes: list[Callable[[], Any]] = [lambda: self._learner(context, {})]
        if self.is_by_level(context.task):
            makes = [partial(self._at_level, context, {}, level) for level in context.task.quantiles]
        return tuple(find_rounds(make, name, params, columns, context, fraction) for make in makes)

    def _penalty(self, columns: Any, fold_of: np.ndarray, context: Context) -> dict[str, Any]:
        return choose_penalty(
            lambda params: self._make(context, Choice((), dict(params), None)),
            self.options.estimator,
            columns,
            context.y,
            fold_of,
            context.task,
            weight=context.weight,
            seed=context.seed,
        )


@dataclass(frozen=True)
class EstimatorState:
    """What is stored beside the estimators of a fold.

    Attributes
    ----------
    n : int
        Estimators.
    scales : tuple of float
        With which each feature block came in.
    types : tuple of str
        Types in their files that only the user's trust allows.
    by_level : bool
        Whether there is one for each quantile.
    """

    n: int
    scales: tuple[float, ...]
    report: dict[str, Any]
    types: tuple[str, ...] = ()
    by_level: bool = False

    def __post_init__(self) -> None:
        must(self.n >= 1, "estimator.json.n", "be 1 or more", self.n)


@dataclass(frozen=True)
class Choice:
    """What was chosen before the fit: by cross-validation on the folds, and rounds on inner splits."""

    scales: tuple[float, ...]
    params: dict[str, Any]
    gate: Any
    rounds: tuple[Rounds, ...] = ()

    def params_at(self, place: int) -> dict[str, Any]:
        """Return the params that a fit is made with besides those of the config: the only one, or of a quantile."""
        return self.params | (dict(self.rounds[place].params) if self.rounds else {})

    def report(self, names: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {"params": self.params} if self.params else {}
        if self.rounds:
            reports = [rounds.report() for rounds in self.rounds]
            found["rounds"] = reports[0] if len(reports) == 1 else {"by_level": reports}
        if self.gate is not None:
            found["gate"] = {"scales": dict(zip(names, self.scales, strict=True)), "trials": self.gate}
        return found


@dataclass(frozen=True)
class FittedEstimator:
    """Estimators of one fold (one per seed) behind one reader of columns."""

    task: Task
    reader: Columns
    estimators: tuple[Any, ...]
    scales: tuple[float, ...]
    choices: dict[str, Any]
    trust_code: bool = False
    curves: tuple[Mapping[str, Any], ...] = ()

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        light = LightGBM.all_of(self.estimators) if self.reader.prepare == "trees" else None
        base = self.reader.base(rows) if light is None else self.reader.matrix(rows)
        columns = combine(base, self.reader.features(rows), self.scales)
        predictions = [predict_rows(one, columns, self.task) for one in light or self.estimators]
        return {self.task.output: np.mean(predictions, axis=0)}

    def save(self, writer: EntryWriter) -> None:
        by_level = [one.learners for one in self.estimators if isinstance(one, ByLevel)]
        estimators = [learner for learners in by_level for learner in learners] or self.estimators
        data = [save_object(estimator) for estimator in estimators]
        types = sorted({name for content in data for name in unknown_types(content)})
        if types and not self.trust_code:
            raise MemberError(
                f"{type(estimators[0]).__name__} holds types that are not on the list of known ones: "
                f"{', '.join(types)}. Run and predict with --trust-code, if you trust them"
            )
        for i, content in enumerate(data):
            writer.bytes(f"estimator.{i}.skops", content)
        state = {"n": len(data), "scales": list(self.scales), "report": self.choices, "types": types}
        writer.json("estimator", state | ({"by_level": True} if by_level else {}))
        self.reader.save(writer)

    def report(self) -> dict[str, Any]:
        return {**self.choices, **({"curves": list(self.curves)} if self.curves else {})}


_PARAMS = ("penalties", "scales", "max_blocks")


@dataclass(frozen=True)
class GatedMember:
    """Multinomial logistic or ridge regression before `fit`."""

    options: EstimatorOptions

    def fit(self, rows: Rows, context: Context) -> FittedGated:
        unknown = set(self.options.params) - set(_PARAMS)
        if unknown:
            raise ConfigError(
                f"gated_linear takes {', '.join(_PARAMS)}; got {sorted(unknown)}. Remove them from params"
            )
        columns = Columns.fit(
            rows, context.task, prepare="scaled", read_as=self.options.read_as, seed=context.seed
        )
        fold_of = context.fold_of if context.fold_of is not None else np.zeros(rows.n_rows, dtype=np.int64)
        base = columns.base(rows)
        model = GatedLinear(**self.options.params).fit(
            base,
            _blocks(rows, context.task),
            context.y,
            fold_of,
            context.task,
            gate_se=context.settings.gate,
            weight=context.weight,
            clusters=context.clusters,
            votes=columns.votes(rows, base.shape[1]),
            seed=context.seed,
            chosen=_choice(self.options),
        )
        return FittedGated(context.task, columns, model)

    def load(self, entry: Entry, task: Task, settings: EstimatorSettings) -> FittedGated:
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
    return [Block.encoded(block.name, block.values, block.encoded, task) for block in rows.features()]


def _choice(options: EstimatorOptions) -> LinearChoice | None:
    """Return what an earlier fit chose, where the config says it."""
    chosen = options.chosen
    if chosen is None or chosen.penalty is None:
        return None
    of_base = chosen.penalty if chosen.penalty_of_predictions is None else chosen.penalty_of_predictions
    return LinearChoice(of_base, chosen.penalty, chosen.shares, chosen.voters, chosen.scales)
