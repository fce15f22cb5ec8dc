"""Options of `estimator` members: scikit-learn style learners, named by a path; torch-free.

In:  a member's mapping in a config, or in the recipe of a fit.
Out: what follows from it: code that it names, keys, cost, the learner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, field_validator

from stackfeat.members.boosters import booster_of, searched_loss, searches_rounds
from stackfeat.members.finished import FinishedFits, middle
from stackfeat.members.options import VERSIONS, CalibratedOptions, made
from stackfeat.members.run_facts import RunFacts
from stackfeat.members.settings import EstimatorSettings, RunSettings
from stackfeat.options import Options, one_is_a_list
from stackfeat.registry.allowed import wrong_kind
from stackfeat.registry.mistakes import estimator_mistakes
from stackfeat.registry.names import ESTIMATORS
from stackfeat.registry.parameter_kinds import nested_estimator
from stackfeat.registry.parameters import estimator_problems, parameter_problems
from stackfeat.registry.quantile_learners import quantile_problem
from stackfeat.registry.resolve import is_user_code, name_problems, suggest
from stackfeat.registry.signatures import fit_takes
from stackfeat.registry.source import library_versions
from stackfeat.tasks.task import task_class

if TYPE_CHECKING:
    from stackfeat.members.protocol import Member

GATED_LINEAR = "gated_linear"
FEW_TREES = 50
_QUICK = (
    "sklearn.linear_model",
    "sklearn.naive_bayes",
    "sklearn.tree",
    "sklearn.dummy",
    "sklearn.discriminant",
)
_MODERATE = ("lightgbm", "xgboost", "catboost", "sklearn.ensemble", GATED_LINEAR)
_TREES = re.compile(r"Forest|Tree|Boost|LGBM|XGB")
_COMBINED = ("StackingClassifier", "StackingRegressor", "VotingClassifier", "VotingRegressor")
_TREE_COUNTS = {"lightgbm.": "n_estimators", "xgboost.": "n_estimators", "catboost.": "iterations"}
_STOPPING = ("early_stopping_rounds",)
"""Parameters that ask for what is decided once rounds are given."""
_ONE = 1e-9
"""Shares whose sum is that near to 1 were fitted to have a sum of 1."""
ReadAs = Literal["auto", "proba", "logit", "rank"]


class ChosenGate(Options):
    """What the gate of an earlier fit let in; of `gated_linear` also what its coefficients shrink to."""

    scales: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="The scale of each feature block that comes in with all its columns."
    )
    penalty: float | None = Field(None, gt=0, description="gated_linear: of the columns of blocks.")
    penalty_of_predictions: float | None = Field(
        None, gt=0, description="gated_linear: of the predictions; default: penalty."
    )
    shares: Literal["equal", "simplex", "free"] | None = Field(
        None, description="gated_linear: the vote that coefficients shrink to; null: to zero."
    )
    voters: tuple[str, ...] = Field((), description="gated_linear: blocks whose readouts take part in it.")

    @property
    def blocks(self) -> tuple[str, ...]:
        """The feature blocks that come in."""
        return (*self.scales, *self.voters)


class EstimatorOptions(CalibratedOptions):
    """A member whose learner is a scikit-learn style estimator."""

    estimator: str = Field(
        description="'lightgbm.LGBMClassifier', 'sklearn...', 'gated_linear' or 'pkg.mod:Class'."
    )
    params: dict[str, Any] = {}
    inputs: tuple[str, ...] | None = Field(None, description="Raw inputs by name, blocks by pattern.")
    each: str | None = Field(None, description="One member for every matching block.")
    prepare: Literal["auto", "trees", "scaled", "sparse", "none"] = "auto"
    gate: bool = True
    chosen: ChosenGate | None = Field(
        None, description="What came through the gate of an earlier fit: nothing is judged again."
    )
    nested: bool | Literal["auto"] = Field(
        "auto",
        description="Raw columns or ungated activations beside predictions: train on predictions of models "
        "that saw neither fold; auto: below 10,000 rows.",
    )
    seeds: int = Field(1, ge=1, le=100, description="Fits per fold; their predictions are averaged.")
    read_as: ReadAs = Field("auto", alias="as", description="How predictions of earlier levels are read.")
    early_stopping_fraction: float = Field(
        0.15, gt=0, lt=0.9, description="Share of inner rows that boosting finds its rounds on."
    )

    _one = field_validator("inputs", mode="before")(one_is_a_list)

    def member(self, trust_code: bool = False) -> Member:
        if self.estimator == GATED_LINEAR:
            return self.calibrated(made("estimator:GatedMember", self))
        return self.calibrated(made("estimator:EstimatorMember", self, trust_code))

    def code_problems(self, task: str, folder: Path, trust_code: bool) -> Iterator[tuple[str, str, bool]]:
        options = {"trust_code": trust_code, "search_path": folder}
        found: dict[str, tuple[str, str, bool]] = {}
        for place, name in [("estimator", self.estimator), *_names_inside("params", self.params)]:
            is_nested = place != "estimator"
            for problem in name_problems(place, name, ESTIMATORS, "estimator", nested=is_nested, **options):
                found[place] = problem
            if place not in found and not is_nested and (message := _kind_problem(name, task)):
                found[place] = (place, message, False)
        if "estimator" not in found and task_class(task).is_by_level and self._is_of_a_library:
            unable = quantile_problem(self.estimator, self.params)
            found |= {} if unable is None else {unable[0]: (*unable, False)}
        yield from found.values()
        is_refused = "estimator" in found and found["estimator"][2]
        untrusted = [] if trust_code or is_refused else estimator_problems(self.estimator, self.params)
        mistakes = () if "estimator" in found else estimator_mistakes(self.estimator, self.params, folder)
        for problem in parameter_problems(untrusted, mistakes):
            if problem[0] not in found:
                yield problem

    @property
    def _is_of_a_library(self) -> bool:
        return self.estimator != GATED_LINEAR and not is_user_code(self.estimator, ESTIMATORS)

    @property
    def learner(self) -> str:
        return self.estimator.rpartition(".")[2].rpartition(":")[2]

    @property
    def reads(self) -> tuple[str, ...] | None:
        return self.inputs

    @property
    def each_block(self) -> str | None:
        return self.each

    def named_classes(self) -> Iterator[tuple[str, Sequence[object]]]:
        weights = self.params.get("class_weight")
        if isinstance(weights, Mapping) and not nested_estimator(weights):
            yield "params.class_weight", list(weights)

    def settings(self, run: RunSettings, *, has_blocks: bool, has_features: bool) -> EstimatorSettings:
        version = None
        if self.estimator == GATED_LINEAR:
            version = VERSIONS["gated_linear"]
        elif self.gate and has_features:
            version = VERSIONS["gate"]
        is_searched = searches_rounds(self.estimator, self.params)
        return EstimatorSettings(
            threads=run.threads,
            seeds=self.seeds * run.seed_copies,
            gate_se=run.gate_se if has_blocks else None,
            loss=searched_loss(self.estimator, self.params, run.loss, run.metric),
            rounds=VERSIONS["rounds"] if is_searched else None,
            version=version,
            calibration=self.calibration_version,
        )

    def libraries(self) -> dict[str, str]:
        package = self.estimator.replace(":", ".").split(".")[0]
        named = {"sklearn": "scikit-learn", GATED_LINEAR: "scipy"}.get(package, package)
        return library_versions(named, "numpy", "scipy", "scikit-learn")

    @property
    def code(self) -> str | None:
        return self.estimator

    @property
    def cost(self) -> int:
        if self.estimator.startswith(_QUICK):
            return 1
        return 2 if self.estimator.startswith(_MODERATE) else 3

    @property
    def nesting(self) -> bool | Literal["auto"]:
        return self.nested

    @property
    def is_gated(self) -> bool:
        return self.gate

    def recipe(self) -> dict[str, Any]:
        values = super().recipe()
        # It came later: recipes of members without it are as they were.
        return values if self.chosen else {name: one for name, one in values.items() if name != "chosen"}

    def input_problems(
        self, raw: Sequence[str], blocks: Sequence[str], features: Sequence[str]
    ) -> Iterator[str]:
        if blocks and self.prepare == "sparse":
            yield f"prepare: sparse is for members that read raw inputs alone; got {blocks[0]!r}. Use scaled"
        for name in () if self.chosen is None else self.chosen.blocks:
            if name not in features:
                yield (
                    f"chosen must name feature blocks that are among the inputs; got {name!r}."
                    f"{suggest(name, features)} Add it to inputs, or remove it from chosen"
                )

    def problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        yield from super().problems(run)
        yield from self._weight_problems(run)
        if self.chosen is None:
            return
        is_linear = self.estimator == GATED_LINEAR
        if not self.gate:
            yield "chosen", "says what came through a gate; got gate: false. Remove one of them"
        if is_linear and self.chosen.penalty is None:
            yield "chosen.penalty", "gated_linear shrinks its coefficients; got no penalty. Give one"
        for name in () if is_linear else ("penalty", "penalty_of_predictions", "shares", "voters"):
            if self.chosen.is_set(name):
                yield f"chosen.{name}", f"is for gated_linear; got estimator={self.estimator}. Remove it"

    def _weight_problems(self, run: RunFacts) -> Iterator[tuple[str, str]]:
        """Yield that an estimator of a library takes no weights of rows, where a run has some."""
        extra = run.data.extra
        by_factor = extra is not None and extra.factor not in ("auto", 1)
        if not self._is_of_a_library or (run.data.weight is None and not by_factor):
            return
        if fit_takes(self.estimator, "sample_weight") is False:
            cause = "data.extra.factor" if run.data.weight is None else "data.weight"
            remedy = "set factor: auto" if run.data.weight is None else "remove data.weight"
            yield (
                "estimator",
                f"must take sample_weight in fit, because {cause} is set; {self.estimator} does not. Use another "
                f"estimator, or {remedy}",
            )

    @property
    def is_tree_learner(self) -> bool:
        return bool(_TREES.search(self.estimator.replace(":", ".").rsplit(".", 1)[-1]))

    def reduced(self) -> Self:
        name = self.estimator
        count = next((count for package, count in _TREE_COUNTS.items() if name.startswith(package)), None)
        is_combined = name.endswith(_COMBINED)
        if name.startswith("sklearn.ensemble.") and not is_combined:
            count = "max_iter" if "HistGradientBoosting" in name else "n_estimators"
        if count is None and "n_estimators" in self.params:
            count = "n_estimators"
        params = self.params
        if count is not None:
            given = params.get(count, FEW_TREES)
            params = {**params, count: min(given, FEW_TREES) if isinstance(given, int) else given}
        return self.model_copy(update={"params": params, "seeds": 1})

    def decided(self, fits: FinishedFits) -> dict[str, Any]:
        reports = fits.deciding
        values = {**super().decided(fits), "each": None, "nested": fits.is_nested}
        if any("targets" in report for report in reports):
            # What was chosen for each of several targets has no place in a config: it is chosen again.
            return values
        if self.estimator == GATED_LINEAR:
            return values if self.chosen is not None else values | _decided_linear(fits, reports[0])
        chosen = reports[0].get("params", {}) | self._decided_rounds(reports)
        params = {name: value for name, value in (self.params | chosen).items() if name not in _STOPPING}
        gate = reports[0].get("gate")
        if gate is None:
            return values | {"params": params}
        scales = {name: scale for name, scale in gate["scales"].items() if scale > 0}
        chosen_gate = {"scales": scales} if scales else None
        return values | {"params": params, "inputs": fits.inputs_with(scales), "chosen": chosen_gate}

    def _decided_rounds(self, reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return how many rounds of boosting there are: the median of those that were found."""
        reported = [report["rounds"] for report in reports if "rounds" in report]
        if any("by_level" in rounds for rounds in reported):
            # Each quantile has its own, which a config cannot say: they are searched again.
            return {}
        found = [rounds["params"] for rounds in reported if "params" in rounds]
        if found:
            return {name: middle([params[name] for params in found]) for name in found[0]}
        booster = booster_of(self.estimator)
        return {booster.rounds[0]: booster.own_rounds} if reported and booster is not None else {}

    def why_unsaveable(self, trust_code: bool) -> str | None:
        from stackfeat.members.construct import construct
        from stackfeat.store.skops_file import unsaveable

        if self.estimator == GATED_LINEAR:
            return None
        try:
            estimator = construct(self.estimator, {}, seed=0, threads=1, trust_code=trust_code)
        except Exception:
            # What is wrong with the class itself is said when it is fitted.
            return None
        return unsaveable(estimator)


def _decided_linear(fits: FinishedFits, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `gated_linear` that say what a fit of it chose."""
    steps = [step for step in report["steps"] if step["accepted"] and step["enters"] == "columns"]
    scales = {step["block"]: step["scale"] for step in steps}
    penalty, voters = report["penalty"], list(report["voters"])
    chosen = {
        "scales": scales,
        "penalty": penalty,
        "penalty_of_predictions": report.get("penalty_of_predictions", penalty),
        "shares": _kind_of_shares(list(report.get("vote", {}).values()), has_readouts=bool(voters)),
        "voters": voters,
    }
    return {"params": {}, "chosen": chosen, "inputs": fits.inputs_with([*scales, *voters])}


def _kind_of_shares(shares: Sequence[float], *, has_readouts: bool) -> str | None:
    """Return which kind of vote has these shares; reports of fits name the shares alone."""
    if not shares:
        return None
    if has_readouts or abs(sum(shares) - 1) > _ONE:
        return "free"
    return "equal" if len(set(shares)) == 1 else "simplex"


def _names_inside(place: str, values: Any) -> Iterator[tuple[str, str]]:
    """Yield the estimators inside arguments, written {estimator: ..., params: ...} at any depth."""
    # What is no mapping where params should stand is refused with the parameters.
    is_list = isinstance(values, list | tuple)
    items = values.items() if isinstance(values, dict) else enumerate(values if is_list else ())
    for key, value in items:
        if nested_estimator(value):
            yield f"{place}.{key}.estimator", value["estimator"]
            yield from _names_inside(f"{place}.{key}.params", value.get("params") or {})
        elif isinstance(value, dict | list | tuple):
            yield from _names_inside(f"{place}.{key}", value)


def _kind_problem(name: str, task: str) -> str | None:
    """Find a regressor in a classification task, or the reverse, by the names that these packages use."""
    if task_class(task).has_lists:
        # Of a classifier the mean grade orders rows as a value does.
        return None
    right = task_class(task).estimator_suffix
    found = wrong_kind(name, right)
    if found is None:
        return None
    remedy = f"Try {found}" if found else f"Name a {right.lower()}"
    return f"must be a {right.lower()} for task {task}; got {name}. {remedy}"
