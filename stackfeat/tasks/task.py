"""Task: what is predicted, in one small value that every stage is given; each kind of task is a subclass.

In:  the name of a kind, labels and predictions as numpy arrays.
Out: whatever depends on the kind: names, losses and options it allows; predictions checked, put on
     another scale, averaged or compared with chance. Nobody else asks which kind a task is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np

from stackfeat.errors import UsageError
from stackfeat.structure import must, structured
from stackfeat.tasks.rows import checked_finite, spread_rows

Kind = Literal["binary", "multiclass", "regression", "quantile", "ranking", "multilabel"]
TASKS = {
    "binary": "stackfeat.tasks.classification:Binary",
    "multiclass": "stackfeat.tasks.classification:Multiclass",
    "regression": "stackfeat.tasks.regression:Regression",
    "quantile": "stackfeat.tasks.quantile:Quantile",
    "ranking": "stackfeat.tasks.ranking:Ranking",
    "multilabel": "stackfeat.tasks.multilabel:Multilabel",
}
"""Kinds by name. A new kind is a class in a file of this folder, a row here and its name in `Kind`."""
Label = str | int | float | bool
Transform = Literal["none", "log1p"]
MOST_CLASSES = 1_000_000
DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
OUTPUTS = ("proba", "prediction")
"""What the predictions of a kind may be called."""


@lru_cache
def task_class(kind: str) -> type[Task]:
    """Return the class of a kind, for what depends on no labels."""
    if kind not in TASKS:
        raise UsageError(f"task must be one of {', '.join(TASKS)}; got task={kind!r}; choose one of them")
    module, name = TASKS[kind].split(":")
    found: type[Task] = getattr(import_module(module), name)
    return found


@dataclass(frozen=True)
class Fault:
    """What is wrong with somebody else's predictions: the claim that does not hold, what was got, in which rows."""

    name: str
    claim: str
    got: str
    rows: np.ndarray
    remedy: str = ""


@dataclass(frozen=True)
class Task:
    """What is predicted. ``Task(kind, ...)`` is an instance of the kind's own class.

    Attributes
    ----------
    kind : {"binary", "multiclass", "regression", "quantile", "ranking", "multilabel"}
    classes : tuple
        Labels in ``np.unique`` order, with the file's type; empty for regression.
    positive : int
        Binary: index in `classes` of the class whose probability counts.
    transform : {"none", "log1p"}, or a tuple of these
        Regression: members learn the target on this scale; a tuple says it for each of several targets.
    n_targets : int
        How many values are predicted for a row.
    quantiles : tuple of float
        Quantile: the levels that are predicted, between 0 and 1, ascending; empty for other tasks.
    targets : tuple of str
        Their names where they have some: the columns of predictions in files.
    family : {"classification", "regression"}
        Whether scikit-learn's classifiers or its regressors learn it.
    output : str
        Name of the block that holds predictions, one of `OUTPUTS`.
    prediction_text : str
        What is true of sound predictions.
    dtype : numpy type
        Of `y`: codes of classes, or values.
    fewest_classes, most_classes : int
    is_stratified : bool
        Whether folds hold the classes in proportion.
    takes_positive : bool
        Whether one class may be named as the one that counts.
    transforms, averages, losses, head_outputs : tuple of str
        What `transform`, ``stack.average``, ``train.loss`` and a net's ``output`` may be, the default first;
        the last average is the remedy where fold models are on different scales.
    shares_unit : bool
        Whether the columns of all predictions, as linear models read them, have one unit.
    linear_readings : tuple of str
        Ways of reading predictions (`as`) of which a linear model's weighted sum is again a prediction.
    needs : tuple of str
        What a metric may ask for, the default first.
    default_metric : str
        For a first config.
    row_metric : str
        The metric that is made of `row_loss`.
    method : str
        The method of an estimator that gives predictions.
    estimator_suffix : str
        How names of the estimators end that can learn it.
    unusable_training : tuple of str
        Training options that make no sense here.
    calibrations : tuple of str
        Families that predictions may be calibrated by, the simplest first: names of `meta.calibration`. They are
        judged by `row_loss`.
    calibration_se : float
        Standard errors by which that loss must fall for a family to be kept; below 0 it may rise by as many.
    pictures : tuple of str
        Pictures of the report that show how good predictions are, by their names in its table.
    reported : tuple of str
        Metrics that the report shows besides the one that decides.
    takes_targets : bool
        Whether a row may have several targets.
    has_amounts : bool
        Whether targets are numbers of any size, whose notation a file may leave open.
    has_label_sets : bool
        Whether a row may have any number of labels.
    is_label : bool
        Whether it is one of several labels by itself, which rows of a fit may all have, or none.
    has_widths : bool
        Whether predictions leave open how far off they are, so that this is learnt for intervals.
    region_words : (str, str)
        What the regions of rows are called, and their mean size.
    is_by_level : bool
        Whether estimators are fitted once for each of `quantiles`.
    has_regions : bool
        Whether there are any: a score that only orders rows has none.
    has_lists : bool
        Whether rows stand in lists (`data.query`), within which alone predictions are compared.
    """

    kind: Kind
    classes: tuple[Label, ...] = ()
    positive: int = 1
    transform: Transform | tuple[Transform, ...] = "none"
    n_targets: int = 1
    quantiles: tuple[float, ...] = ()
    targets: tuple[str, ...] = ()

    family: ClassVar[Literal["classification", "regression"]]
    output: ClassVar[Literal["proba", "prediction"]]
    prediction_text: ClassVar[str]
    dtype: ClassVar[type[np.int64] | type[np.float64]]
    fewest_classes: ClassVar[int]
    most_classes: ClassVar[int]
    is_stratified: ClassVar[bool]
    takes_positive: ClassVar[bool]
    transforms: ClassVar[tuple[str, ...]]
    averages: ClassVar[tuple[str, ...]]
    losses: ClassVar[tuple[str, ...]]
    shares_unit: ClassVar[bool]
    linear_readings: ClassVar[tuple[str, ...]]
    head_outputs: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]]
    default_metric: ClassVar[str]
    row_metric: ClassVar[str]
    method: ClassVar[str]
    estimator_suffix: ClassVar[Literal["Classifier", "Regressor"]]
    unusable_training: ClassVar[tuple[str, ...]]
    calibrations: ClassVar[tuple[str, ...]] = ()
    calibration_se: ClassVar[float] = 1.0
    pictures: ClassVar[tuple[str, ...]]
    reported: ClassVar[tuple[str, ...]]
    takes_targets: ClassVar[bool] = False
    has_amounts: ClassVar[bool] = True
    has_label_sets: ClassVar[bool] = False
    is_label: ClassVar[bool] = False
    has_widths: ClassVar[bool]
    region_words: ClassVar[tuple[str, str]]
    is_by_level: ClassVar[bool] = False
    has_regions: ClassVar[bool] = True
    has_lists: ClassVar[bool] = False

    def __new__(cls, *values: Any, **named: Any) -> Task:
        if cls is not Task:
            return object.__new__(cls)
        return object.__new__(task_class(values[0] if values else named["kind"]))

    # Names and numbers

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one per class, or one per target."""
        raise NotImplementedError

    @property
    def n_regions(self) -> int:
        """Columns of `nonconformity`: one per class, or one per target."""
        return self.n_outputs

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a prediction in files."""
        raise NotImplementedError

    def columns_of(self, member: str) -> tuple[str, ...]:
        """Return the names of a member's columns beside those of others."""
        return (member,)

    @property
    def described(self) -> str:
        """Classes and the one that counts, in a line for people; empty where there are none."""
        return ""

    @property
    def widths(self) -> tuple[int, ...]:
        """How many columns of somebody else's can be made into a prediction, the usual number first."""
        return (self.n_outputs,)

    @property
    def counted_classes(self) -> Sequence[int]:
        """Columns that a metric of one class against the rest reads."""
        return range(self.n_outputs)

    def to_json(self) -> dict[str, Any]:
        values = {**asdict(self), "classes": list(self.classes), "quantiles": list(self.quantiles)}
        # Defaults are left out, so that entries of one target, or of no quantiles, stay as they were.
        if self.n_targets == 1:
            values.pop("n_targets")
        if not self.quantiles:
            values.pop("quantiles")
        if not self.targets:
            values.pop("targets")
        return values

    @classmethod
    def from_json(cls, values: object, where: str = "task") -> Task:
        """Return the task that `to_json` described; StructureError if there is no such task."""
        task = structured(cls, values, where)
        task.check(where)
        return task

    def check(self, where: str) -> None:
        """Raise StructureError unless classes, targets and transform fit the kind."""
        n_classes = len(self.classes)
        fits = self.fewest_classes <= n_classes <= self.most_classes
        must(fits, f"{where}.classes", f"be those of a {self.kind} task", self.classes)
        must(len(set(map(repr, self.classes))) == n_classes, f"{where}.classes", "differ", self.classes)
        must(self.positive in (0, 1), f"{where}.positive", "be 0 or 1", self.positive)
        must(1 <= self.n_targets <= MOST_CLASSES, f"{where}.n_targets", "be 1 or more", self.n_targets)
        fits = self.is_by_level or not self.quantiles
        must(fits, f"{where}.quantiles", "be of a quantile task", self.quantiles)
        n_names = len(set(self.targets))
        fits = n_names == len(self.targets) and n_names in (0, self.n_targets)
        must(fits, f"{where}.targets", "be a name for each target", self.targets)
        fits = not isinstance(self.transform, tuple) or len(self.transform) == self.n_targets
        must(fits, f"{where}.transform", "be one for each target", self.transform)
        known = all(one in self.transforms for one in self.transforms_by_target)
        must(known, f"{where}.transform", "be of a regression", self.transform)

    # Several targets

    @property
    def transforms_by_target(self) -> tuple[Transform, ...]:
        """The transform of each target."""
        one = self.transform
        return one if isinstance(one, tuple) else (one,) * self.n_targets

    @property
    def names(self) -> tuple[str, ...]:
        """What each target is called: by its place where it has no name."""
        return self.targets or tuple(f"target_{place}" for place in range(self.n_targets))

    @property
    def parts(self) -> tuple[Task, ...]:
        """The tasks of one target that this is made of: the task itself where there is one."""
        return (self,)

    @classmethod
    def of_parts(cls, parts: Sequence[Task], names: Sequence[str]) -> Task:
        """Return the task of several targets, given those of each, and their names."""
        raise NotImplementedError

    def part_of_y(self, y: np.ndarray, place: int) -> np.ndarray:
        """Return one target of several as `y` of its own task."""
        return y if self.n_targets == 1 else np.asarray(y[:, place])

    def part_of_prediction(self, prediction: np.ndarray, place: int) -> np.ndarray:
        """Return what a prediction (n_rows, n_outputs) says of one target, as a prediction of its own task."""
        return prediction if self.n_targets == 1 else prediction[:, place : place + 1]

    def part_of_scores(self, scores: np.ndarray, place: int) -> np.ndarray:
        """Return unbounded scores, (n, n_outputs) as `unbounded` gives them, as those of one target's task."""
        return scores if self.n_targets == 1 else scores[:, place : place + 1]

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return predictions of the parts as one prediction (n_rows, n_outputs)."""
        return parts[0] if len(parts) == 1 else np.hstack(parts)

    # The target

    def to_target_scale(self, prediction: np.ndarray) -> np.ndarray:
        """Map what members learn, or predict, back to the file's scale; probabilities stay as they are."""
        return prediction

    def to_member_scale(self, values: np.ndarray) -> np.ndarray:
        """Map predictions on the file's scale to that of members; probabilities are made to sum to 1."""
        return values

    def as_y(self, y: np.ndarray) -> np.ndarray:
        """Return a target as members are fitted on it: int64 codes, or float64 values."""
        return np.asarray(y).astype(self.dtype)

    def check_y(self, y: np.ndarray, where: str) -> None:
        """Raise StructureError unless a stored target can be one of this task."""
        must(y.dtype.kind == "f", where, "be of kind f", y.dtype.str)

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Return groups of rows, as int64, that a draw of rows represents in proportion."""
        return np.zeros(len(y), dtype=np.int64)

    @classmethod
    def target_problem(cls, y: np.ndarray) -> tuple[np.ndarray, str]:
        """Return which numbers of a file are no targets of this task, bool (n_rows,), and what must hold."""
        return np.zeros(len(y), dtype=bool), ""

    def in_lists(self, y: np.ndarray, lists: np.ndarray) -> np.ndarray:
        """Return a target that knows the list of each row, given by its number."""
        return y

    def lists(self, y: np.ndarray) -> np.ndarray | None:
        """Return the number of each row's list, int64 (n_rows,); None where rows stand for themselves."""
        return None

    def learnt(self, y: np.ndarray) -> np.ndarray:
        """Return the target as an estimator is fitted on it."""
        return y

    def in_unit(self, y: np.ndarray) -> np.ndarray:
        """Return a target in the unit in which members' predictions are combined."""
        return y

    def shuffled(self, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return a target with the labels of rows in another order."""
        return np.asarray(y[random.permutation(len(y))])

    def spread(self, y: np.ndarray, cap: int, seed: int) -> np.ndarray:
        """Return at most about `cap` rows that represent all of them; see `spread_rows`."""
        return spread_rows(y, cap, seed)

    def labels_of(self, codes: np.ndarray) -> np.ndarray:
        """Return targets, or decided predictions, as they stand in a file."""
        return codes

    def indicators(self, y: np.ndarray) -> np.ndarray:
        """Return a target as float64 columns: one of ones and zeros for each class that occurs, or the values."""
        return np.asarray(y, dtype=np.float64).reshape(len(y), -1)

    def class_totals(self, y: np.ndarray, weight: np.ndarray | None) -> list[float] | None:
        """Return the sum of the weights of each class's rows (without weights their number); None of values."""
        return None

    def balanced_weights(self, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """Return weights of rows with which all classes weigh the same."""
        return weight

    # Predictions

    def checked(self, prediction: np.ndarray, who: str) -> np.ndarray:
        """Return what a member predicts as float64, rounding errors taken away; MemberError if it is none."""
        return checked_finite(prediction, who)

    def within(self, prediction: np.ndarray, lists: np.ndarray | None) -> np.ndarray:
        """Return a member's prediction on the scale of all members, whose unit may be that of each list."""
        return prediction

    def ranked_within(self, prediction: np.ndarray, lists: np.ndarray | None) -> np.ndarray:
        """Return predictions as a vote of ranks reads them: ranks where rows stand in lists."""
        return prediction

    def faults(self, prediction: np.ndarray) -> Iterator[Fault]:
        """Yield what is wrong with finite predictions of somebody else's, the worst first."""
        yield from ()

    def as_rows(self, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return predictions as labelled rows to learn from: numbers of rows, targets, shares of a row's weight."""
        n_rows = len(prediction)
        return np.arange(n_rows), self.counted(prediction).reshape(n_rows), np.ones(n_rows)

    def placed(self, said: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
        """Return a learner's bare output as a prediction, float64 (n_rows, n_outputs).

        Parameters
        ----------
        said : array (n_rows,) or (n_rows, n_seen)
            Values; of classes probabilities, of two the second one's alone will do.
        seen : int array, optional
            Codes of the classes that were learnt; the others get 0.
        """
        return np.asarray(said, dtype=np.float64).reshape(len(said), -1)

    def of_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return the prediction that a net's last layer, (n_rows, n), stands for: values, or scores of classes."""
        return np.asarray(scores)

    def far_off(self, y: np.ndarray, prediction: np.ndarray) -> str:
        """Return a sentence about predictions, on the file's scale, that lie far from all targets; or nothing."""
        return ""

    def ask(self, estimator: Any, columns: Any) -> np.ndarray:
        """Return what a fitted estimator predicts for rows, float64 (n_rows, n_outputs), checked."""
        raise NotImplementedError

    def decided(self, prediction: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row as a code, or the value."""
        return self.counted(prediction)

    def judged(self, prediction: np.ndarray, as_labels: bool) -> np.ndarray:
        """Return what a metric of no probabilities reads of predictions, or of codes: codes, or values."""
        values = self.counted(prediction).astype(np.float64)
        return np.rint(values) if as_labels else values

    def plain_decision(self, as_labels: bool) -> Literal["argmax", "round", "value", "labels"]:
        """Return how predictions become labels, or stay what they are, where nothing is fitted."""
        return "round" if as_labels else "value"

    def check_submitted(self, prediction: np.ndarray, single: bool) -> None:
        """Raise DataError unless finite predictions, of which one column is written if `single`, are sound."""

    def counted(self, prediction: np.ndarray) -> np.ndarray:
        """Return the one column of a prediction that counts, (n_rows,), or all where there is no such one."""
        return prediction

    def whole(self, given: np.ndarray) -> np.ndarray:
        """Return the prediction (n_rows, n_outputs) of which this is the `counted` column, or which it is itself."""
        return given

    def unit_of(self, y: np.ndarray) -> np.ndarray | None:
        """Return the units in which losses of several targets may be added, (n_targets,); None where they may be."""
        return None

    def row_loss(self, y: np.ndarray, prediction: np.ndarray, unit: np.ndarray | None = None) -> np.ndarray:
        """Return how wrong each row's prediction is: log-loss of classes, squared error of values.

        Parameters
        ----------
        y : ndarray of shape (n_rows,) or (n_rows, n_targets)
            Class codes, or values on the members' scale.
        prediction : ndarray of shape (n_rows, n_outputs)
        unit : ndarray of shape (n_targets,), optional, see `unit_of`

        Returns
        -------
        float64 array of shape (n_rows,)
            Of several targets the mean of their squared errors.

        Examples
        --------
        >>> task = Task("binary", ("no", "yes"))
        >>> task.row_loss(np.array([1, 0]), np.array([[0.5, 0.5], [0.2, 0.8]])).round(2)
        array([0.69, 1.61])
        """
        raise NotImplementedError

    def average(self, views: Sequence[np.ndarray], how: str) -> np.ndarray:
        """Average what several pipelines predict for the same rows.

        Parameters
        ----------
        views : sequence of ndarray of shape (n_rows, n_outputs)
        how : {"mean", "logit", "rank"}
            ``logit`` (classes) averages centred log-probabilities: the normalised geometric mean.
            ``rank`` puts every pipeline on one scale by the order of these rows. Binary: the mean rank
            stands for the probability. Regression: the mean rank goes through the mean of the pipelines'
            quantiles, back to a value.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            float64.
        """
        return np.asarray(getattr(self, f"average_{how}", self.average_mean)(views))

    def average_mean(self, views: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(np.mean(np.stack(views), axis=0))

    def ranked(self, prediction: np.ndarray, ordered: np.ndarray) -> np.ndarray:
        """Replace predictions by their ranks, or by the values of a sorted column that have these ranks."""
        raise NotImplementedError

    def unbounded(self, prediction: np.ndarray, smallest: float) -> np.ndarray:
        """Return predictions as columns without bounds: centred log-probabilities, or the values."""
        return np.asarray(prediction, dtype=np.float64)

    def standardisation(self, y: np.ndarray, weight: np.ndarray | None) -> tuple[Any, Any]:
        """Return mean and spread that a net's target is put in units of: floats, or tuples by target."""
        return 0.0, 1.0

    def sureness(self, prediction: np.ndarray) -> np.ndarray:
        """Return how sure each row is of its class; 0 for values."""
        return np.zeros(len(prediction))

    def evidence(self, prediction: np.ndarray) -> np.ndarray:
        """Return predictions on the scale on which columns contribute to them: values, or log-odds of each class."""
        return np.asarray(prediction, dtype=np.float64)

    def explained(self, prediction: np.ndarray) -> np.ndarray:
        """Return which outputs of each row are explained, int64 (n_rows, n): all values, or one class."""
        return np.tile(np.arange(self.n_outputs), (len(prediction), 1))

    def moved(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return how far each row's prediction has moved, float64 (n_rows,): of values, or of probability."""
        return np.asarray(np.abs(after - before).mean(axis=1))

    def perfect(self, y: np.ndarray) -> np.ndarray:
        """Return the prediction (n_rows, n_outputs) that is right in every row."""
        return self.whole(y)

    def told(self, y: np.ndarray, prediction: np.ndarray) -> dict[str, list[Any]]:
        """Return the columns in which people read rows and their predictions: the truth, what was said, how far off.

        Parameters
        ----------
        y : ndarray of shape (n_rows,)
            Codes, or values on the scale of the target, as `prediction` of shape (n_rows, n_outputs) is.
        """
        raise NotImplementedError

    def said_and_came(self, y: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what was said and what came of it, on the scale of the target, both of one length.

        Values; or of each row the probability of the class that counts, or else of the most probable one, and whether
        the row is of this class.
        """
        return np.ravel(prediction), np.ravel(y)

    # Intervals

    def levels_off(self, y: np.ndarray, prediction: np.ndarray) -> int:
        """Return how far coverage of quantiles is off: 0 where it is near enough, one more for each doubling."""
        return 0

    def at_level(self, prediction: np.ndarray, level: float) -> np.ndarray | None:
        """Return the region of a level, as `region`, that predictions themselves say; None where they do not."""
        return None

    def nonconformity(self, y: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Return how far targets lie from predictions, float64 (n_rows, n_columns), both on the members' scale.

        A column for each target, or class; NaN where a row says nothing of it.
        """
        raise NotImplementedError

    def region(self, prediction: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Return what targets are not farther from predictions than `reach`, float64 (n_rows, n_columns).

        Returns
        -------
        float64 array of shape (n_rows, 2), or bool array of shape (n_rows, n_classes)
            Lower and upper bound on the file's scale (n_rows, n_targets, 2 of several targets); or a set of classes.
        """
        raise NotImplementedError

    def holds(self, region: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the share of each row's targets, on the members' scale, that its region holds: float64 (n_rows,)."""
        raise NotImplementedError

    def region_size(self, region: np.ndarray) -> np.ndarray:
        """Return the width of each row's region, or how many classes are in it: float64 (n_rows,)."""
        raise NotImplementedError

    @property
    def region_names(self) -> list[str]:
        """Names of the columns of regions in a file; none of a task that has no regions."""
        return []

    def region_columns(self, region: np.ndarray) -> dict[str, np.ndarray]:
        """Return regions as columns of a file."""
        raise NotImplementedError

    # Chance

    def constants(self, y: np.ndarray, weight: np.ndarray | None) -> list[np.ndarray]:
        """Return predictions of one row, (n_outputs,), that know nothing of a row: one of them is the best constant.

        y and they are on the scale of the target.
        """
        raise NotImplementedError

    def guess(self, y: np.ndarray, as_labels: bool, random: np.random.Generator) -> np.ndarray:
        """Return made-up predictions of rows, (n_rows,) or (n_rows, n_outputs), to try a metric on."""
        raise NotImplementedError

    def is_near_chance(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> bool:
        """Whether predictions are not clearly better than a constant one; y and they on the members' scale."""
        raise NotImplementedError

    def ordering(self, prediction: np.ndarray) -> Callable[[np.ndarray], float]:
        """Return a function from labels to how well a prediction orders them."""
        raise NotImplementedError
