"""The task whose target is one value, or several, and whose prediction is a column for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from stackfeat.errors import one_line
from stackfeat.tasks.rows import checked_finite, is_above_zero, of_length, rank_shares
from stackfeat.tasks.task import Task

FAR_TIMES_RANGE = 3.0
SURE = 3.0
"""Standard errors beyond which a correlation is no chance."""


class Regression(Task):
    """One value for each row, or one for each of several targets."""

    family: ClassVar[Literal["classification", "regression"]] = "regression"
    output: ClassVar[Literal["proba", "prediction"]] = "prediction"
    prediction_text = "finite"
    dtype = np.float64
    fewest_classes = most_classes = 0
    is_stratified = False
    takes_positive = False
    transforms = ("none", "log1p")
    averages: ClassVar[tuple[str, ...]] = ("mean", "rank")
    losses: ClassVar[tuple[str, ...]] = ("mse", "mae", "huber")
    shares_unit = False
    linear_readings = ("proba", "logit")
    head_outputs = ("value",)
    needs: ClassVar[tuple[str, ...]] = ("value", "label")
    default_metric = row_metric = "rmse"
    method = "predict"
    estimator_suffix: ClassVar[Literal["Classifier", "Regressor"]] = "Regressor"
    unusable_training = ("class_weight", "label_smoothing", "mixup", "cutmix")
    calibrations = ("linear",)
    pictures: ClassVar[tuple[str, ...]] = (
        "predicted",
        "residuals",
        "targets",
        "calibrations",
        "distribution",
    )
    reported: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2")
    takes_targets = True
    has_widths = True
    region_words = ("intervals", "mean width")

    @property
    def n_outputs(self) -> int:
        return self.n_targets

    @property
    def columns(self) -> tuple[str, ...]:
        return ("prediction",) if self.n_targets == 1 else self.names

    def columns_of(self, member: str) -> tuple[str, ...]:
        if self.n_targets == 1:
            return super().columns_of(member)
        return tuple(f"{member}:{name}" for name in self.names)

    @property
    def described(self) -> str:
        return "" if self.n_targets == 1 else f"targets: {', '.join(map(one_line, self.names))}"

    @property
    def parts(self) -> tuple[Task, ...]:
        if self.n_targets == 1:
            return (self,)
        return tuple(Task(self.kind, transform=one) for one in self.transforms_by_target)

    @classmethod
    def of_parts(cls, parts: Sequence[Task], names: Sequence[str]) -> Task:
        each = tuple(one for part in parts for one in part.transforms_by_target)
        same = each[0] if len(set(each)) == 1 else each
        return Task(parts[0].kind, transform=same, n_targets=len(parts), targets=tuple(names))

    def to_target_scale(self, prediction: np.ndarray) -> np.ndarray:
        return self._where_logged(lambda values: np.maximum(np.expm1(values), 0.0), prediction)

    def to_member_scale(self, values: np.ndarray) -> np.ndarray:
        return self._where_logged(lambda given: np.log1p(np.maximum(given, 0.0)), values)

    def _where_logged(self, change: Callable[[np.ndarray], np.ndarray], values: np.ndarray) -> np.ndarray:
        """Change the columns of targets that members learn the logarithm of."""
        if self.transform == "none":
            return values
        if self.transform == "log1p":
            return np.asarray(change(values))
        changed = np.array(values, dtype=np.float64)
        for place in np.flatnonzero([one == "log1p" for one in self.transform]):
            changed[:, place] = change(changed[:, place])
        return changed

    def far_off(self, y: np.ndarray, prediction: np.ndarray) -> str:
        targets = self.to_target_scale(self.whole(y))
        low, high = targets.min(axis=0), targets.max(axis=0)
        reach = FAR_TIMES_RANGE * (high - low)
        beyond = (prediction < low - reach) | (prediction > high + reach)
        far = beyond.any(axis=1)
        if not far.any():
            return ""
        place = int(beyond[far][0].argmax())
        return (
            f"{int(far.sum())} rows lie far outside the targets ({low[place]:g} to {high[place]:g}), such as "
            f"{prediction[far][0, place]:g}: are they on the scale of the target?"
        )

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        name = type(estimator).__name__
        values = checked_finite(estimator.predict(columns), name)
        return of_length(values, np.shape(columns)[0], self.n_targets, name)[:, : self.n_targets]

    def counted(self, prediction: np.ndarray) -> np.ndarray:
        return prediction.reshape(len(prediction)) if self.n_targets == 1 else prediction

    def whole(self, given: np.ndarray) -> np.ndarray:
        return given.reshape(len(given), -1)

    def unit_of(self, y: np.ndarray) -> np.ndarray | None:
        return None if self.n_targets == 1 else np.asarray(self.standardisation(y, None)[1])

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        error = prediction - self.whole(y)
        return np.asarray(((error if unit is None else error / unit) ** 2).mean(axis=1))

    def average_rank(self, views: Sequence[np.ndarray]) -> np.ndarray:
        found = np.empty(views[0].shape)
        for place in range(self.n_targets):
            columns = [view[:, place] for view in views]
            mean_rank = np.mean([rank_shares(column) for column in columns], axis=0)
            ordered = np.mean([np.sort(column) for column in columns], axis=0)
            found[:, place] = _at_ranks(mean_rank, ordered)
        return found

    def ranked(self, prediction: np.ndarray, ordered: np.ndarray) -> np.ndarray:
        columns = zip(prediction.T, self.whole(ordered).T, strict=True)
        return np.column_stack([_at_ranks(rank_shares(one), values) for one, values in columns])

    def standardisation(self, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, Any]:
        mean = np.average(y, axis=0, weights=weight)
        spread = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight))
        scale = np.where(spread > 0, spread, 1.0)
        if y.ndim == 1:
            return float(mean), float(scale)
        return tuple(mean.tolist()), tuple(scale.tolist())

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        if self.n_targets == 1:
            said = self.counted(prediction)
            return {"truth": y.tolist(), "predicted": said.tolist(), "residual": (y - said).tolist()}
        found: dict[str, list[Any]] = {}
        for name, true, said in zip(self.names, y.T, prediction.T, strict=True):
            found |= {f"{name}, truth": true.tolist(), f"{name}, predicted": said.tolist()}
        return found

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return the mean, the mean on the members' scale and the median."""
        mean = np.average(y, axis=0, weights=weight)
        members = np.average(self.to_member_scale(y), axis=0, weights=weight)
        back = self.to_target_scale(np.reshape(members, (1, -1)))
        found = (mean, back, np.median(y, axis=0))
        return [np.reshape(value, -1).astype(np.float64) for value in found]

    def nonconformity(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(self.whole(y) - prediction))

    def region(self, prediction: np.ndarray, reach: np.ndarray) -> np.ndarray:
        bounds = np.stack([prediction - reach, prediction + reach], axis=-1)
        return self.to_target_scale(bounds[:, 0] if self.n_targets == 1 else bounds)

    def holds(self, region: np.ndarray, y: np.ndarray) -> np.ndarray:
        values, bounds = self.to_target_scale(self.whole(y)), region.reshape(len(y), -1, 2)
        inside = (bounds[:, :, 0] <= values) & (values <= bounds[:, :, 1])
        return np.asarray(inside.mean(axis=1))

    def region_size(self, region: np.ndarray) -> np.ndarray:
        bounds = region.reshape(len(region), -1, 2)
        return np.asarray((bounds[:, :, 1] - bounds[:, :, 0]).mean(axis=1))

    @property
    def region_names(self) -> list[str]:
        return [*self.columns_of("lower"), *self.columns_of("upper")]

    def region_columns(self, region: np.ndarray) -> dict[str, np.ndarray]:
        bounds = region.reshape(len(region), -1, 2)
        return dict(zip(self.region_names, (*bounds[:, :, 0].T, *bounds[:, :, 1].T), strict=True))

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        guess = 0.5 * random.permutation(y) + 0.5 * y.mean(axis=0)
        return np.asarray(np.rint(guess) if as_labels else guess)

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        if self.n_targets > 1:
            pairs = ((part, self.part_of_y(y, j), prediction[:, [j]]) for j, part in enumerate(self.parts))
            return all(part.is_near_chance(own, said, weight) for part, own, said in pairs)
        weights = np.ones(len(y)) if weight is None else weight
        constant = np.full(prediction.shape, np.average(y, weights=weights))
        gain = self.row_loss(y, constant) - self.row_loss(y, prediction)
        is_constant = np.ptp(prediction) == 0
        agreement = 0.0 if is_constant else np.corrcoef(y, self.counted(prediction))[0, 1]
        return not (is_above_zero(gain, weights) or agreement * np.sqrt(len(y)) > SURE)

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from values to Spearman's correlation with them."""
        if self.n_targets > 1:
            orderings = [part.ordering(prediction[:, [j]]) for j, part in enumerate(self.parts)]
            return lambda y: float(np.mean([one(y[:, j]) for j, one in enumerate(orderings)]))
        return rank_correlation(self.counted(prediction))


def rank_correlation(values: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function from other values to Spearman's correlation with these; 0 where one side is constant."""
    from scipy.stats import rankdata

    ranks = rankdata(values)
    centred = ranks - ranks.mean()

    def correlation(y: np.ndarray) -> float:
        other = rankdata(y)
        other = other - other.mean()
        length = np.sqrt((centred @ centred) * (other @ other))
        return float(centred @ other / length) if length > 0 else 0.0

    return correlation


def of_values(y: np.ndarray, names: Sequence[str] = ()) -> Task:
    """Return the task of one value a row, or of several."""
    return Task("regression", n_targets=1 if y.ndim == 1 else y.shape[1], targets=tuple(names))


def _at_ranks(ranks: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Values of a distribution (its sorted values) at ranks."""
    return np.asarray(np.interp(ranks, (np.arange(len(ordered)) + 0.5) / len(ordered), ordered))
