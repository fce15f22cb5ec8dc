"""Estimators as members: any scikit-learn style class, or `gated_linear`, over raw columns and blocks.

In:  raw tables and blocks of earlier levels.
Out: one prediction. Feature blocks are gated, and a linear model above the first level
     without a given penalty gets one by cross-validation grouped on the folds; boosting finds its rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from stackfeat.errors import ConfigError, MemberError
from stackfeat.members.boosters import booster_of, searches_rounds
from stackfeat.members.class_labels import with_class_codes
from stackfeat.members.construct import construct, is_tree_model
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.rounds import Rounds, find_rounds
from stackfeat.members.settings import EstimatorSettings
from stackfeat.meta.by_level import ByLevel
from stackfeat.meta.columns import Columns, Rows, combine
from stackfeat.meta.estimator_io import LightGBM, fit_estimator, predict_rows, target_tags
from stackfeat.meta.gating.blocks import Block
from stackfeat.meta.gating.estimator_gate import choose_penalty, gate_blocks, has_free_penalty, is_linear
from stackfeat.meta.gating.gated_linear import GatedLinear, LinearChoice
from stackfeat.registry.parameters import object_problems, refuse_untrusted
from stackfeat.registry.quantile_learners import learns_quantiles, quantile_params
from stackfeat.registry.user_code import agreed_types
from stackfeat.store import Entry, EntryWriter
from stackfeat.store.skops_file import load_object, save_object, unknown_types
from stackfeat.structure import checked, must
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
        if self._takes_all_targets(context, features):
            parts: tuple[FittedPart, ...] = (self._fit_all(base, features, context),)
        else:
            parts = tuple(self._fit_part(base, features, rows, part) for part in context.parts())
        return FittedEstimator(context.task, reader, parts, self.trust_code)

    def _takes_all_targets(self, context: Context, features: list[np.ndarray]) -> bool:
        """Whether one fit learns several targets: it must, or it can and nothing is chosen for each of them."""
        if len(context.task.parts) == 1:
            return False
        name, params = self.options.estimator, self.options.params
        tags = target_tags(self._learner(context, {}))
        chooses = bool(features) or has_free_penalty(name, params) or booster_of(name) is not None
        return tags is not None and tags.multi_output and not (tags.single_output and chooses)

    def _fit_all(self, base: Any, features: list[np.ndarray], context: Context) -> FittedPart:
        """Fit all targets at once, each in units of its spread; feature blocks come in as they are."""
        task, choice = context.task, Choice((1.0,) * len(features), {}, None)
        units = task.standardisation(context.y, context.weight)
        y = task.as_y((context.y - np.asarray(units[0])) / np.asarray(units[1]))
        fitted = self._fitted(combine(base, features, choice.scales), y, choice, context)
        return FittedPart(task, fitted, choice.scales, {}, np.asarray(units) if np.ndim(units) > 1 else None)

    def _fit_part(self, base: Any, features: list[np.ndarray], rows: Rows, context: Context) -> FittedPart:
        """Fit one target."""
        choice = self._choose(base, features, rows, context)
        fitted = self._fitted(combine(base, features, choice.scales), context.y, choice, context)
        names = [block.name for block in rows.features()]
        report, curves = choice.report(names), tuple(one for found in choice.rounds for one in found.curves)
        return FittedPart(context.task, fitted, choice.scales, report, curves=curves)

    def _fitted(self, columns: Any, y: np.ndarray, choice: Choice, context: Context) -> tuple[Any, ...]:
        """Fit once for each seed."""
        seeds = context.settings.seeds_from(context.seed)
        return tuple(
            fit_estimator(self._chosen(context, choice, seed), columns, y, context.weight, context.task)
            for seed in seeds
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
        return FittedEstimator(task, Columns.load(entry, task), state.parts_of(fitted, task))

    def _make(self, context: Context, params: Mapping[str, Any], seed: int | None = None) -> Any:
        """Return the unfitted estimator with some params besides those of the config."""
        return self._with(context, lambda place: params, seed)

    def _chosen(self, context: Context, choice: Choice, seed: int | None = None) -> Any:
        """Return the unfitted estimator with what was chosen."""
        return self._with(context, choice.params_at, seed)

    def _with(self, context: Context, params_at: Callable[[int], Mapping[str, Any]], seed: int | None) -> Any:
        """Return one estimator; in a task of quantiles one for each, as one."""
        levels = context.task.quantiles if self.is_by_level(context.task) else ()
        if not levels:
            return self._learner(context, params_at(0), seed)
        return ByLevel(
            [self._at_level(context, params_at(place), level, seed) for place, level in enumerate(levels)]
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
            lambda: self._chosen(context, on_base),
            base,
            [Block(b.name, v, "none") for b, v in zip(rows.features(), features, strict=True)],
            context.y,
            context.fold_of,
            context.task,
            gate_se=context.settings.gate,
            weight=context.weight,
            clusters=context.clusters,
            linear=is_linear(self._chosen(context, on_base)),
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
            lambda params: self._make(context, params),
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
    parts : tuple of tuple of float
        Of several targets that were fitted one by one, the scales of blocks for each; `n` is divided by them.
    units : tuple of tuple of float
        Of several that were fitted at once, their means and their spreads.
    """

    n: int
    scales: tuple[float, ...]
    report: dict[str, Any]
    types: tuple[str, ...] = ()
    by_level: bool = False
    parts: tuple[tuple[float, ...], ...] = ()
    units: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        must(self.n >= 1, "estimator.json.n", "be 1 or more", self.n)
        are_whole = self.n % max(len(self.parts), 1) == 0
        must(are_whole, "estimator.json.n", "be as many for each target", self.n)

    def parts_of(self, fitted: Sequence[Any], task: Task) -> tuple[FittedPart, ...]:
        """Return fitted estimators by what they predict."""
        if not self.parts:
            units = np.asarray(self.units, dtype=np.float64) if self.units else None
            fits = units is None or units.shape == (2, task.n_targets)
            must(fits, "estimator.json.units", f"be two for each of {task.n_targets} targets", self.units)
            return (FittedPart(task, tuple(fitted), self.scales, self.report, units),)
        n_parts, size = len(self.parts), len(fitted) // len(self.parts)
        must(n_parts == len(task.parts), "estimator.json.parts", "be one for each target", n_parts)
        reports = checked(dict[str, dict[str, Any]], self.report.get(BY_TARGET, {}), "estimator.json.report")
        return tuple(
            FittedPart(part, tuple(fitted[place * size :][:size]), scales, reports.get(name, {}))
            for place, (part, name, scales) in enumerate(zip(task.parts, task.names, self.parts, strict=True))
        )


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


BY_TARGET = "targets"
"""Where the report of a fit has those of several targets, by their names."""


@dataclass(frozen=True)
class FittedPart:
    """Estimators (one per seed) of one target, or of several that were fitted at once.

    Attributes
    ----------
    scales : tuple of float
        With which each feature block came in.
    units : float64 array of shape (2, n_targets), or None
        Means and spreads of targets that the estimators predict in units of them.
    """

    task: Task
    estimators: tuple[Any, ...]
    scales: tuple[float, ...]
    choices: dict[str, Any]
    units: np.ndarray | None = None
    curves: tuple[Mapping[str, Any], ...] = ()

    @property
    def report(self) -> dict[str, Any]:
        """What was chosen, and what was seen on the way."""
        return {**self.choices, **({"curves": list(self.curves)} if self.curves else {})}

    def predict(self, columns: Any, asked: Sequence[Any]) -> np.ndarray:
        """Return the mean of what estimators, which may be asked in another way, say of columns."""
        said = np.mean([predict_rows(one, columns, self.task) for one in asked], axis=0)
        return np.asarray(said if self.units is None else said * self.units[1] + self.units[0])


@dataclass(frozen=True)
class FittedEstimator:
    """Estimators of one fold behind one reader of columns: a part for each target, or one for all."""

    task: Task
    reader: Columns
    parts: tuple[FittedPart, ...]
    trust_code: bool = False

    @property
    def estimators(self) -> tuple[Any, ...]:
        """Those of all parts."""
        return tuple(one for part in self.parts for one in part.estimators)

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        light = LightGBM.all_of(self.estimators) if self.reader.prepare == "trees" else None
        base = self.reader.base(rows) if light is None else self.reader.matrix(rows)
        features, asked = self.reader.features(rows), list(light or self.estimators)
        said = []
        for part in self.parts:
            n = len(part.estimators)
            said.append(part.predict(combine(base, features, part.scales), asked[:n]))
            del asked[:n]
        return {self.task.output: said[0] if len(said) == 1 else self.task.joined(said)}

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
        choices = report_of([part.choices for part in self.parts], self.task)
        state = {"n": len(data), "scales": list(self.parts[0].scales), "report": choices, "types": types}
        if by_level:
            state["by_level"] = True
        if len(self.parts) > 1:
            state["parts"] = [list(part.scales) for part in self.parts]
        if self.parts[0].units is not None:
            state["units"] = self.parts[0].units.tolist()
        writer.json("estimator", state)
        self.reader.save(writer)

    def report(self) -> dict[str, Any]:
        return report_of([part.report for part in self.parts], self.task)


def report_of(reports: Sequence[dict[str, Any]], task: Task) -> dict[str, Any]:
    """Return what was chosen for one target, or for each of several, by its name."""
    if len(reports) == 1:
        return reports[0]
    return {BY_TARGET: dict(zip(task.names, reports, strict=True))} if any(reports) else {}


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
        base, blocks = columns.base(rows), _blocks(rows, context.task)
        votes = columns.votes(rows, base.shape[1])
        models = []
        for place, part in enumerate(context.parts()):
            read_votes = {name: context.task.part_of_scores(vote, place) for name, vote in votes.items()}
            model = GatedLinear(**self.options.params).fit(
                base,
                [block.part(context.task, place) for block in blocks],
                part.y,
                fold_of,
                part.task,
                gate_se=context.settings.gate,
                weight=context.weight,
                clusters=context.clusters,
                votes=read_votes,
                seed=context.seed,
                chosen=_choice(self.options),
            )
            models.append(model)
        return FittedGated(context.task, columns, tuple(models))

    def load(self, entry: Entry, task: Task, settings: EstimatorSettings) -> FittedGated:
        state = entry.structure("gated", GatedState)
        arrays = {name: entry.array(f"gated/{name}") for name in state.arrays}
        reader = Columns.load(entry, task)
        if not state.parts:
            return FittedGated(task, reader, (GatedLinear.from_arrays(arrays, state.values),))
        must(len(state.parts) == len(task.parts), "gated.json.parts", "be one for each target", len(arrays))
        models = []
        for place, values in enumerate(state.parts):
            mark = f"{place}/"
            own = {name.removeprefix(mark): one for name, one in arrays.items() if name.startswith(mark)}
            models.append(GatedLinear.from_arrays(own, values))
        return FittedGated(task, reader, tuple(models))


@dataclass(frozen=True)
class GatedState:
    """What is stored beside the arrays of the model; of several targets `parts` has the values of each."""

    arrays: tuple[str, ...]
    values: dict[str, Any]
    parts: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class FittedGated:
    """A gated linear model behind its columns, or one for each of several targets."""

    task: Task
    columns: Columns
    models: tuple[GatedLinear, ...]

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        base, blocks = self.columns.base(rows), _blocks(rows, self.task)
        said = [
            model.predict(base, [block.part(self.task, place) for block in blocks])
            for place, model in enumerate(self.models)
        ]
        return {self.task.output: said[0] if len(said) == 1 else self.task.joined(said)}

    def save(self, writer: EntryWriter) -> None:
        parts = [(model.arrays(), model.to_json()) for model in self.models]
        arrays, values = parts[0]
        if len(parts) > 1:
            arrays = {
                f"{place}/{name}": one for place, (own, _) in enumerate(parts) for name, one in own.items()
            }
        state = {"arrays": sorted(arrays), "values": values if len(parts) == 1 else {}}
        writer.json("gated", state | ({"parts": [own for _, own in parts]} if len(parts) > 1 else {}))
        for name, one in arrays.items():
            writer.array(f"gated/{name}", one)
        self.columns.save(writer)

    def report(self) -> dict[str, Any]:
        return report_of([model.report() for model in self.models], self.task)


def _blocks(rows: Rows, task: Task) -> list[Block]:
    return [Block.encoded(block.name, block.values, block.encoded, task) for block in rows.features()]


def _choice(options: EstimatorOptions) -> LinearChoice | None:
    """Return what an earlier fit chose, where the config says it."""
    chosen = options.chosen
    if chosen is None or chosen.penalty is None:
        return None
    of_base = chosen.penalty if chosen.penalty_of_predictions is None else chosen.penalty_of_predictions
    return LinearChoice(of_base, chosen.penalty, chosen.shares, chosen.voters, chosen.scales)
