"""`NetClassifier` and `NetRegressor`: nets as scikit-learn estimators.

In:  a net by name, class, factory or module, training options as flat parameters; X (2-D, N-D, DataFrame, dict of
     arrays) and labels, or values of one or several targets.
Out: the fitted nets of one member, in memory: classes and probabilities, or values, and layers. Predictions are
     padded to fixed batches, so a row's are bitwise the same however rows are chunked.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import ValidationError
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from stackfeat.data.samples import Samples
from stackfeat.data.splits.holdout import InnerSplits
from stackfeat.errors import UsageError
from stackfeat.members.class_labels import ClassCodes
from stackfeat.members.net import FittedNets, NetMember, net_arrays
from stackfeat.members.net_options import NetOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import NetSettings
from stackfeat.meta.columns import Rows
from stackfeat.nets.copies import as_factory
from stackfeat.nets.options import TrainOptions, with_training_defaults
from stackfeat.registry.mistakes import net_mistakes
from stackfeat.registry.names import NET_FACTS, TEXT_NETS
from stackfeat.sklearn._compat import Interval, StrOptions, _fit_context
from stackfeat.sklearn.inputs import InputReader, check_inputs, check_weight, count
from stackfeat.sklearn.module_parameter import HasModule
from stackfeat.sklearn.quantiles import ScoreOfLevels, read_levels
from stackfeat.sklearn.targets import SMALLEST_SHARE, note_targets, read_classes, read_values
from stackfeat.tasks.multilabel import Multilabel
from stackfeat.tasks.task import Task

_POSITIVE = Interval(Real, 0, None, closed="neither")
_AUTO = StrOptions({"auto"})
_SHARE = Interval(Real, 0, 1, closed="left")
_SMALLEST = np.finfo(np.float64).tiny

NET_CONSTRAINTS: dict[str, Any] = {
    "module": "no_validation",
    "net_params": [dict, None],
    "epochs": [Interval(Integral, 1, None, closed="left"), _AUTO],
    "batch_size": [Interval(Integral, 1, None, closed="left"), _AUTO],
    "largest_batch": [Interval(Integral, 1, None, closed="left"), _AUTO],
    "lr": [_POSITIVE, _AUTO],
    "base_lr": [_POSITIVE, _AUTO],
    "weight_decay": [Interval(Real, 0, None, closed="left"), _AUTO],
    "schedule": [StrOptions({"auto", "cosine", "onecycle", "constant", "coslog4"})],
    "warmup": [_SHARE, _AUTO],
    "clip_norm": [_POSITIVE, _AUTO, None],
    "loss": [StrOptions({"auto", "cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "pinball"})],
    "patience": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean", StrOptions({"auto", "fixed", "refit", "inner"})],
    "validation_fraction": [Interval(Real, 0, 0.9, closed="neither")],
    "amp": [StrOptions({"auto", "on", "off"})],
    "channels_last": [StrOptions({"auto", "off"})],
    "folds_at_once": [StrOptions({"auto", "off"})],
    "ema": [Interval(Real, 0, 1, closed="neither"), None],
    "mixup": [_POSITIVE, None],
    "cutmix": [_POSITIVE, None],
    "scaling": [StrOptions({"auto", "quantile", "standard", "clipped", "none"})],
    "output": [StrOptions({"auto", "logits", "proba", "log_proba", "value"})],
    "texts": [str, list, tuple, None],
    "seeds": [Interval(Integral, 1, 100, closed="both")],
    "warm_start": ["boolean"],
    "device": [str],
    "threads": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

STOPPING_PATIENCE = 10
"""Epochs without a better validation loss for ``early_stopping=True`` without `patience`."""


@dataclass(eq=False, repr=False)
class BaseNet(HasModule):
    """Parameters and training of a net as an estimator; not for direct use."""

    module: Any = "mlp"
    _: KW_ONLY
    net_params: dict[str, Any] | None = None
    epochs: int | str = "auto"
    batch_size: int | str = "auto"
    largest_batch: int | str = "auto"
    lr: float | str = "auto"
    base_lr: float | str = "auto"
    weight_decay: float | str = "auto"
    schedule: str = "auto"
    warmup: float | str = "auto"
    clip_norm: float | str | None = "auto"
    loss: str = "auto"
    patience: int | None = None
    early_stopping: str | bool = "auto"
    validation_fraction: float = 0.15
    amp: str = "auto"
    channels_last: str = "auto"
    folds_at_once: str = "auto"
    ema: float | None = None
    mixup: float | None = None
    cutmix: float | None = None
    scaling: str = "auto"
    output: str = "auto"
    texts: Any = None
    seeds: int = 1
    warm_start: bool = False
    device: str = "auto"
    threads: int | None = 1
    random_state: Any = None
    verbose: int = 0

    _parameter_constraints: ClassVar[dict[str, Any]] = NET_CONSTRAINTS
    _expected_failures: ClassVar[Mapping[str, str]] = {
        "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is not the same as two equal rows where "
        "rows are drawn in mini-batches: the two fall into different batches, as in SGDClassifier"
    }

    def _fit_nets(self, X: Any, y: np.ndarray, task: Task, weight: np.ndarray | None) -> Self:
        """Train on rows that are checked already, and learn how to read X."""
        self._refuse_mistakes()
        self.inputs_ = InputReader.fit(X, as_table=self.scaling != "none", texts=self._texts())
        inputs = self.inputs_.read(X)
        start: FittedNets | None = getattr(self, "fitted_", None) if self.warm_start else None
        if start is not None and replace(start.task, targets=()) != replace(task, targets=()):
            raise UsageError(
                "warm_start must go on with the classes (targets) of the first fit; got "
                f"{list(task.classes) or task.n_targets}, before {list(start.task.classes) or start.task.n_targets}; "
                "set warm_start=False"
            )
        options = self.net_options(task.kind)
        for name, message in options.train.problems(task.kind):
            if name in task.unusable_training:
                raise UsageError(f"{name} {message}")
        member = NetMember(options, trust_code=True, factory=self._factory(), warm=start)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        samples = Samples(ids=np.arange(len(y)), inputs=inputs, y=y, task=task, group=task.lists(y))
        inner = InnerSplits(samples, np.arange(len(y)), "group" if task.has_lists else "kfold", seed)
        settings = NetSettings(
            loss=task.losses[0], threads=int(self.threads or 1), device=self.device, seeds=self.seeds
        )
        context = FitContext(task, y, weight, None, inner, seed, settings)
        self.fitted_: FittedNets = member.fit(Rows(len(y), inputs), context)
        self.task_ = task
        note_targets(self, task)
        self._tell()
        return self

    def _factory(self) -> Any:
        """Return what builds the net, or None where `module` is a name."""
        if isinstance(self.module, str):
            return None
        factory = as_factory(self.module)
        if not callable(factory):
            raise UsageError(
                "module must be a name such as 'mlp', 'pkg.mod:Net', a class, a factory, or an nn.Module; "
                f"got module={self.module!r}"
            )
        if factory is not self.module and self.net_params:
            raise UsageError(
                "net_params must be None where module is built already; "
                f"got net_params={self.net_params!r}; give its class instead"
            )
        return factory

    def _texts(self) -> tuple[str, ...]:
        """Return the columns whose words are read."""
        given = (
            () if self.texts is None else (self.texts,) if isinstance(self.texts, str) else tuple(self.texts)
        )
        if not all(isinstance(column, str) for column in given):
            raise UsageError(f"texts must be names of columns; got {self.texts!r}; name them")
        return given

    def _refuse_mistakes(self) -> None:
        """Raise UsageError where `net_params` are not those of a built-in net."""
        if isinstance(self.module, str):
            kind, _, folder = self.module.partition(":")
            if kind in TEXT_NETS and folder:
                raise UsageError(
                    f"module must be trained in a run where it reads a folder of its own; got {self.module!r}; use "
                    "'text_bag' or 'text_cnn' here"
                )
            if kind in TEXT_NETS and not self._texts():
                raise UsageError(
                    f"texts must name a column that {self.module!r} can read; got none; say texts=['COLUMN'], or use "
                    "another net"
                )
            for _, message in net_mistakes(self.module, self.net_params or {}, NET_FACTS):
                raise UsageError(f"net_params: {message}")

    def net_options(self, task: str) -> NetOptions:
        """Return the parameters as the pipeline's options of a net.

        Parameters
        ----------
        task : {"binary", "multiclass", "multilabel", "regression"}
            What suits a net may depend on it.

        Raises
        ------
        ValueError
            If parameters do not fit each other.
        """
        name = self.module
        if not isinstance(name, str):
            kind = name if inspect.isclass(name) or inspect.isfunction(name) else type(name)
            name = f"{kind.__module__}:{kind.__qualname__}"
        return NetOptions(
            net=name,
            params=dict(self.net_params or {}),
            train=with_training_defaults(self.module, self._train_options(), task),
            emit=(),
            seeds=int(self.seeds),
            scaling="standard" if self.scaling == "none" else self.scaling,
            output=self.output,
        )

    def _train_options(self) -> TrainOptions:
        given = {name: getattr(self, name) for name in TrainOptions.model_fields if hasattr(self, name)}
        values = {
            name: value for name, value in given.items() if not (isinstance(value, str) and value == "auto")
        }
        if isinstance(self.early_stopping, bool | np.bool_):
            values["early_stopping"] = "refit" if self.early_stopping else "fixed"
            if self.early_stopping and self.patience is None:
                values["patience"] = STOPPING_PATIENCE
        # A weight for each class becomes weights of rows.
        class_weight = "balanced" if values.pop("class_weight", None) == "balanced" else "none"
        try:
            return TrainOptions(**values, class_weight=class_weight)
        except ValidationError as error:
            raise UsageError("; ".join(problem["msg"] for problem in error.errors())) from error

    def _tell(self) -> None:
        """Note how training went, and print it where `verbose` asks for it."""
        reports = [net.report for net in self.fitted_.nets]
        self.n_iter_ = max(report.epochs for report in reports)
        self.loss_curve_ = list(reports[0].losses)
        self.validation_curve_ = list(reports[0].validation_losses)
        for number, report in enumerate(reports if self.verbose else ()):
            if self.verbose > 1:
                lines = (f"  epoch {i + 1}: loss {loss:.5f}" for i, loss in enumerate(report.losses))
                print("\n".join(lines))
            place = f" net {number + 1} of {len(reports)}:" if len(reports) > 1 else ""
            print(
                f"[{type(self).__name__}]{place} {report.epochs} epochs, loss {report.losses[-1]:.5f}, "
                f"best epoch {report.best_epoch}"
            )

    @property
    def module_(self) -> Any:
        """The trained ``nn.Module`` (the first of `seeds`)."""
        check_is_fitted(self)
        return self.fitted_.nets[0].module

    def arrays(self, X: Any) -> list[np.ndarray]:
        """Return what ``forward`` is given for X: prepared numbers, codes, arrays.

        Parameters
        ----------
        X : array, DataFrame or dict

        Returns
        -------
        list of ndarray
            Each with a row per sample.
        """
        check_is_fitted(self)
        fitted = self.fitted_
        return net_arrays(self.rows(X), fitted.prepare, fitted.nets[0].spec.accepts_categories)[0]

    def embed(self, X: Any, taps: Any = "penultimate") -> dict[str, np.ndarray]:
        """Read layers of the trained net (the first of `seeds`).

        Parameters
        ----------
        X : array, DataFrame or dict
        taps : str, Tap, layer of the trained net, sequence of them, or mapping of name to tap
            As in `stackfeat.extract`; ``"penultimate"`` is the input of the last weighted layer.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, n_columns)
            float32, by tap.

        Raises
        ------
        LayerNotFoundError, TapError
            If a tap cannot be read.
        """
        arrays = self.arrays(X)
        listed = taps if isinstance(taps, list | tuple | dict) else [taps]
        return self.fitted_.nets[0].embed(arrays, listed)

    def rows(self, X: Any) -> Rows:
        """Return the rows of X as members of a run read them."""
        checked = check_inputs(self, X, reset=False)
        return Rows(count(checked), self.inputs_.read(checked))

    def _emit(self, X: Any) -> np.ndarray:
        """Return probabilities (n_samples, n_classes) or values (n_samples, n_targets), float64."""
        check_is_fitted(self)
        prediction: np.ndarray = self.fitted_.emit(self.rows(X))[self.task_.output]
        return prediction

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.scaling != "none"
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.three_d_array = True
        return tags


@dataclass(eq=False, repr=False)
class NetClassifier(ClassifierMixin, BaseNet):
    """A PyTorch net as a classifier, trained as the pipeline trains its members.

    Parameters
    ----------
    module : str, class, callable or nn.Module, default="mlp"
        A name of the table of nets, ``"pkg.mod:Net"``, a class or factory, or a module. Of `n_features`,
        `n_outputs`, `cardinalities` and `shapes` the constructor gets those that its signature names.
        A module is never trained itself: every fit starts from a deep copy.
    net_params : dict, optional
        Further arguments of the constructor.
    epochs, batch_size, largest_batch, lr, base_lr, weight_decay, schedule, warmup, clip_norm, label_smoothing, \
loss, patience, validation_fraction, amp, channels_last, folds_at_once, ema, mixup, cutmix
        As ``train`` of a config. ``"auto"`` is what suits the net and the number of rows: batches of a tenth of them,
        a rate to match, and from 50 to 50,000 rows as many epochs as an inner split says (see docs/training.md).
        What is given is used as it is.
    early_stopping : {"auto", "fixed", "refit", "inner"} or bool, default="auto"
        ``auto``: ``refit`` where `patience` is given, else as many epochs as `epochs` says. ``refit`` finds the
        best epoch on a stratified share of the rows and trains again on all of them; ``inner`` keeps that model.
        True is ``refit`` with a patience of 10 unless given, False is ``fixed``.
    class_weight : {"none", "balanced"}, dict or None, default=None
    scaling : {"auto", "quantile", "standard", "clipped", "none"}, default="auto"
        Preparation of 2-D numeric columns; ``auto`` is ``clipped`` on at most 100 rows, else ``quantile``. ``none``
        hands the array to the net as it is.
    output : {"auto", "logits", "proba", "log_proba"}, default="auto"
        What ``forward`` returns; ``auto`` looks at the output of a few rows.
    texts : str or list of str, optional
        Columns of a DataFrame whose words are read, as a run reads them: they become numbers that are learnt in the
        fit, or tokens of a net that reads words (``"text_bag"``, ``"text_cnn"``). Other strings are categories.
    seeds : int, default=1
        Nets whose predictions are averaged.
    warm_start : bool, default=False
        Whether a further `fit` goes on from the weights (and the preparation of columns) of the last.
    device : str, default="auto"
    threads : int, default=1
        Threads of torch; results may depend on it.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line a fit, 2 a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Of label sets the places of the labels.
    targets_ : ndarray of shape (n_targets,)
        Names of the columns of y, of several alone.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    module_ : nn.Module
    fitted_ : FittedNets
    n_iter_ : int
        Epochs.
    loss_curve_, validation_curve_ : list of float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NetClassifier("mlp", net_params={"hidden": [64, 64]}, random_state=0).fit(X[::2], y[::2])
    >>> net.score(X[1::2], y[1::2]) > 0.92
    True
    >>> net.embed(X[:2])["penultimate"].shape
    (2, 64)
    """

    _: KW_ONLY
    label_smoothing: float = 0.0
    class_weight: Any = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseNet._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"none", "balanced"}), None],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : array of shape (n_samples, ...), DataFrame, or dict of them
            2-D numbers and DataFrames are prepared as a table (missing values filled in, categories
            encoded); arrays of more dimensions reach the net as they are.
        y : array of shape (n_samples,), or (n_samples, n_labels) of 0 and 1
            Labels of at least two classes; or which of several labels each row has.
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or parameters cannot be used.
        MemberError
            If the net cannot be built, run or trained.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = check_inputs(self, X, reset=True, n_least=2)
        self.classes_, codes, task = read_classes(self, y)
        check_consistent_length(np.empty(count(X)), codes)
        weight = check_weight(sample_weight, len(codes))
        if isinstance(self.class_weight, dict):
            if task.has_label_sets:
                raise UsageError(
                    "class_weight must be of one label a row; got y of several columns; remove it"
                )
            weights = ClassCodes(self.classes_.tolist()).keyed("class_weight", self.class_weight)
            by_class = compute_sample_weight(weights, codes)
            weight = by_class if weight is None else weight * by_class
        return self._fit_nets(X, codes, task, weight)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return class probabilities, or that of each label.

        Parameters
        ----------
        X : as in `fit`

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples, n_labels), float64
            Columns in the order of `classes_`; the same bits for a row in any company.
        """
        return self._emit(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`."""
        return np.asarray(np.log(np.maximum(self._emit(X), _SMALLEST)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return log-odds: (n_samples,) of ``classes_[1]`` or (n_samples, n_labels); or centred log-probabilities."""
        proba = self._emit(X)
        if self.task_.has_label_sets:
            return self.task_.unbounded(proba, SMALLEST_SHARE)
        logs = np.log(np.maximum(proba, _SMALLEST))
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs - logs.mean(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class, (n_samples,); or 1 for each label above 0.5, (n_samples, n_labels)."""
        proba = self._emit(X)
        decided = self.task_.decided(proba)
        return decided if self.task_.has_label_sets else np.asarray(self.classes_[decided])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # What needs classes is refused for label sets.
        needs_classes = [getattr(self, name) for name in Multilabel.unusable_training]
        tags.classifier_tags.multi_label = all(value in (None, "none", 0.0) for value in needs_classes)
        return tags


@dataclass(eq=False, repr=False)
class NetRegressor(ScoreOfLevels, RegressorMixin, BaseNet):
    """A PyTorch net as a regressor of one or several targets, which it standardises.

    Parameters
    ----------
    module, net_params, epochs, batch_size, largest_batch, lr, base_lr, weight_decay, schedule, warmup, clip_norm, \
loss, patience, early_stopping, validation_fraction, amp, channels_last, folds_at_once, ema, mixup, cutmix, \
scaling, output, texts, seeds, warm_start, device, threads, random_state, verbose
        As in `NetClassifier`; `loss` is ``mse``, ``mae`` or ``huber``, and ``auto`` is ``mse``. With several
        targets a row's loss is the mean over them.
    quantiles : sequence of float or None, default=None
        Levels between 0 and 1, ascending: the net is trained with their pinball loss and predicts a column for each.

    Attributes
    ----------
    targets_, n_features_in_, feature_names_in_, module_, fitted_, n_iter_, loss_curve_, validation_curve_
        As in `NetClassifier`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 3))
    >>> net = NetRegressor(net_params={"hidden": [16]}, random_state=0).fit(X, X[:, :2])
    >>> net.predict(X[:4]).shape
    (4, 2)
    >>> net.score(X, X[:, :2]) > 0.9
    True
    """

    _: KW_ONLY
    quantiles: Any = None

    _parameter_constraints: ClassVar[dict[str, Any]] = {**NET_CONSTRAINTS, "quantiles": ["array-like", None]}

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the net.

        Parameters
        ----------
        X : as in `NetClassifier.fit`
        y : array of shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array of shape (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or parameters cannot be used.
        MemberError
            If the net cannot be built, run or trained.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        X = check_inputs(self, X, reset=True, n_least=2)
        values, task = read_values(y) if self.quantiles is None else read_levels(y, self.quantiles)
        values = check_array(values, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(np.empty(count(X)), values)
        return self._fit_nets(X, values, task, check_weight(sample_weight, len(values)))

    def predict(self, X: Any) -> np.ndarray:
        """Return values, float64 of shape (n_samples,) or (n_samples, n_targets), or (n_samples, n_quantiles)."""
        values = self._emit(X)
        return self.task_.counted(values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.quantiles is None
        return tags
