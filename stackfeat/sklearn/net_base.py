"""What `NetClassifier` and `NetRegressor` share: parameters and their constraints, training, reading layers.

In:  a net by name, class, factory or module; training options as flat parameters; X in any form that
     `inputs` reads.
Out: the fitted nets of one member, in memory; predictions are padded to fixed batches, so a row's are
     bitwise the same however rows are chunked.
"""

from __future__ import annotations

import inspect
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import ValidationError
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from stackfeat.data.samples import Samples
from stackfeat.data.splits.validation_split import inner_split
from stackfeat.errors import UsageError
from stackfeat.members.net import FittedNets, NetMember, net_arrays
from stackfeat.members.net_options import NetOptions
from stackfeat.members.protocol import FitContext
from stackfeat.meta.columns import Rows
from stackfeat.nets.build import as_factory, on_cpu
from stackfeat.nets.options import TrainOptions
from stackfeat.sklearn._compat import Interval, StrOptions, _check_feature_names, _check_n_features
from stackfeat.sklearn.inputs import InputReader, check_inputs, is_dict, n_rows_of
from stackfeat.tasks.task import Task

_POSITIVE = Interval(Real, 0, None, closed="neither")

_SHARE = Interval(Real, 0, 1, closed="left")

NET_CONSTRAINTS: dict[str, Any] = {
    "module": "no_validation",
    "net_params": [dict, None],
    "epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "lr": [_POSITIVE],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions({"cosine", "onecycle", "constant", "coslog4"})],
    "warmup": [_SHARE],
    "clip_norm": [_POSITIVE, None],
    "loss": [StrOptions({"auto", "cross_entropy", "mse", "mae", "huber"})],
    "patience": [Interval(Integral, 1, None, closed="left"), None],
    "early_stopping": ["boolean", StrOptions({"auto", "fixed", "refit", "inner"})],
    "validation_fraction": [Interval(Real, 0, 0.9, closed="neither")],
    "amp": [StrOptions({"auto", "on", "off"})],
    "channels_last": [StrOptions({"auto", "off"})],
    "folds_at_once": [StrOptions({"auto", "off"})],
    "ema": [Interval(Real, 0, 1, closed="neither"), None],
    "mixup": [_POSITIVE, None],
    "cutmix": [_POSITIVE, None],
    "scaling": [StrOptions({"quantile", "standard", "none"})],
    "output": [StrOptions({"auto", "logits", "proba", "log_proba", "value"})],
    "seeds": [Interval(Integral, 1, 100, closed="both")],
    "warm_start": ["boolean"],
    "device": [str],
    "threads": [Interval(Integral, 1, None, closed="left"), None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}

STOPPING_PATIENCE = 10
"""Epochs without a better validation loss for ``early_stopping=True`` without `patience`."""


class BaseNet(BaseEstimator):
    """Parameters and training of a net as an estimator; not for direct use."""

    _parameter_constraints: ClassVar[dict[str, Any]] = NET_CONSTRAINTS
    fitted_: FittedNets

    def __init__(
        self,
        module: Any = "mlp",
        *,
        net_params: dict[str, Any] | None = None,
        epochs: int = 60,
        batch_size: int = 256,
        lr: float = 5e-3,
        weight_decay: float = 1e-2,
        schedule: str = "cosine",
        warmup: float = 0.0,
        clip_norm: float | None = 1.0,
        loss: str = "auto",
        patience: int | None = None,
        early_stopping: str | bool = "auto",
        validation_fraction: float = 0.15,
        amp: str = "auto",
        channels_last: str = "auto",
        folds_at_once: str = "auto",
        ema: float | None = None,
        mixup: float | None = None,
        cutmix: float | None = None,
        scaling: str = "quantile",
        output: str = "auto",
        seeds: int = 1,
        warm_start: bool = False,
        device: str = "auto",
        threads: int | None = 1,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.module = module
        self.net_params = net_params
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.loss = loss
        self.patience = patience
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.amp = amp
        self.channels_last = channels_last
        self.folds_at_once = folds_at_once
        self.ema = ema
        self.mixup = mixup
        self.cutmix = cutmix
        self.scaling = scaling
        self.output = output
        self.seeds = seeds
        self.warm_start = warm_start
        self.device = device
        self.threads = threads
        self.random_state = random_state
        self.verbose = verbose

    def _fit_nets(self, X: Any, y: np.ndarray, task: Task, weight: np.ndarray | None) -> Self:
        """Train on rows that are checked already, and learn how to read X."""
        self.inputs_ = InputReader.fit(X, as_table=self.scaling != "none")
        inputs = self.inputs_.read(X)
        start = self.fitted_ if self.warm_start and hasattr(self, "fitted_") else None
        self._check_start(start, task)
        member = NetMember(self.net_options(), trust_code=True, factory=self._factory(), warm=start)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        samples = Samples(ids=np.arange(len(y)), inputs=inputs, y=y, task=task)

        def inner(fraction: float) -> tuple[np.ndarray, np.ndarray]:
            return inner_split(samples, np.arange(len(y)), "kfold", fraction, seed)

        settings = {
            "loss": task.losses[0],
            "threads": self.threads or 1,
            "device": self.device,
            "seeds": self.seeds,
        }
        context = FitContext(task, y, weight, None, inner, seed, settings)
        self.fitted_ = member.fit(Rows(len(y), inputs), context)
        self.task_ = task
        self._tell()
        return self

    def _checked(self, X: Any, *, reset: bool) -> Any:
        """Return X checked as scikit-learn does, names and number of columns included."""
        n_least = 2 if reset else 1
        if is_dict(X):
            return check_inputs(X, n_least)
        _check_feature_names(self, X, reset=reset)
        checked = check_inputs(X, n_least)
        _check_n_features(self, checked, reset=reset)
        return checked

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

    def net_options(self, **changed: Any) -> NetOptions:
        """Return the parameters as the pipeline's options of a net, with some of them changed.

        Raises
        ------
        ValueError
            If parameters do not fit each other.
        """
        name = self.module if isinstance(self.module, str) else _name_of(self.module)
        values = {
            "net": name,
            "params": dict(self.net_params or {}),
            "train": self._train_options(),
            "emit": (),
            "seeds": int(self.seeds),
            "scaling": "standard" if self.scaling == "none" else self.scaling,
            "output": self.output,
        }
        return NetOptions(**{**values, **changed})

    def _train_options(self) -> TrainOptions:
        try:
            return TrainOptions(**self._train_values())
        except ValidationError as error:
            raise UsageError("; ".join(problem["msg"] for problem in error.errors())) from error

    def _train_values(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in TrainOptions.model_fields if hasattr(self, name)}
        if isinstance(self.early_stopping, bool | np.bool_):
            values["early_stopping"] = "refit" if self.early_stopping else "fixed"
            if self.early_stopping and self.patience is None:
                values["patience"] = STOPPING_PATIENCE
        return values | self._loss_options()

    def _loss_options(self) -> dict[str, Any]:
        return {}

    def _check_start(self, start: FittedNets | None, task: Task) -> None:
        if start is not None and start.task != task:
            raise UsageError(
                "warm_start must go on with the classes (targets) of the first fit; got "
                f"{list(task.classes) or task.n_targets}, before {list(start.task.classes) or start.task.n_targets}; "
                "set warm_start=False"
            )

    def _tell(self) -> None:
        """Note how training went, and print it where `verbose` asks for it."""
        reports = [net.report for net in self.fitted_.nets]
        self.n_iter_ = max(report.epochs for report in reports)
        self.loss_curve_ = list(reports[0].losses)
        self.validation_curve_ = list(reports[0].validation_losses)
        if self.verbose:
            for number, report in enumerate(reports):
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
        return net_arrays(self._rows(X), self.fitted_.prepare, self.fitted_.nets[0].spec.accepts_categories)[
            0
        ]

    def embed(self, X: Any, taps: Any = "penultimate") -> dict[str, np.ndarray]:
        """Read layers of the trained net (the first of `seeds`).

        Parameters
        ----------
        X : array, DataFrame or dict
        taps : str, Tap, or sequence of them
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

    def _rows(self, X: Any) -> Rows:
        checked = self._checked(X, reset=False)
        return Rows(n_rows_of(checked), self.inputs_.read(checked))

    def _emit(self, X: Any) -> np.ndarray:
        """Return probabilities (n_samples, n_classes) or values (n_samples, n_targets), float64."""
        check_is_fitted(self)
        prediction: np.ndarray = self.fitted_.emit(self._rows(X))[self.task_.output]
        return prediction

    def __getstate__(self) -> dict[str, Any]:
        # A module on a GPU could not be read where there is none.
        state: dict[str, Any] = super().__getstate__()
        return {**state, "module": on_cpu(self.module)}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.scaling != "none"
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.three_d_array = True
        return tags


def _name_of(module: Any) -> str:
    kind = module if inspect.isclass(module) or inspect.isfunction(module) else type(module)
    return f"{kind.__module__}:{kind.__qualname__}"
