"""How a net is trained; free of torch, so that a config is checked fast.

In:  what a config says of `train`; the name of a net.
Out: the options, with what suits the net filled in where the config says nothing. A user's class
     declares that as ``train_defaults``, which is read as text: no code is run for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError, model_validator

from stackfeat.errors import ConfigError
from stackfeat.options import Options
from stackfeat.registry.names import FAMILY_TRAINING, NET_TRAINING, NETS, in_family
from stackfeat.registry.resolve import suggest
from stackfeat.registry.source import class_literal, find_module
from stackfeat.tasks.task import task_class

ATTRIBUTE = "train_defaults"
FAMILIES = ("classification", "regression")

Auto = Literal["auto"]

EPOCHS = 60
"""What ``epochs: auto`` takes, or as many more as make `LEAST_STEPS`."""

LEAST_STEPS = 200

BATCHES_AN_EPOCH = 10

BATCH_UNIT = 16
"""The smallest batch of ``batch_size: auto``; larger ones are multiples of it."""

FULL_RATE_STEPS = 160
"""Where the epochs that are given make so few steps, the rate is all of ``base_lr``; in n times as many, an n-th."""

FEW_STEPS = 100
"""Fewer steps than that are worth a warning."""

SEARCHED_ROWS = range(50, 50_001)
"""On so many training rows ``epochs: auto`` asks an inner split how many."""

SEARCHED_STEPS = 2000
"""The search goes as far as `EPOCHS`, or as many as make so many steps: narrow nets need them."""

SEARCH_PATIENCE = 20

LEAST_SEARCHED_STEPS = 30
"""A search never asks for fewer steps than that."""

SMOOTHED_EPOCHS = 5

TOLERANCE = 0.05
"""By so much may the loss of validation rows be above the lowest: few of them cannot tell epochs apart."""


class Pace(NamedTuple):
    """Epochs, batches and learning rate on some number of rows."""

    epochs: int
    batch_size: int
    lr: float
    n_batches: int

    @property
    def n_steps(self) -> int:
        """Of the whole training."""
        return self.epochs * self.n_batches


class TrainOptions(Options):
    """How a net is trained in every fold."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] | Auto = Field(
        "auto", description="auto: 60, or as many as make 200 steps."
    )
    batch_size: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto", description="auto: a tenth of the training rows, from 16 to `largest_batch`."
    )
    largest_batch: int = Field(256, ge=1, description="The largest batch of `batch_size: auto`.")
    lr: Annotated[float, Field(gt=0)] | Auto = Field(
        "auto",
        description="auto: `base_lr`, for batches below `largest_batch` lower by the root of their share.",
    )
    base_lr: float = Field(5e-3, gt=0, description="What `lr: auto` is in batches of `largest_batch` rows.")
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["cosine", "onecycle", "constant", "coslog4"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps with a rising learning rate.")
    clip_norm: float | None = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weight: Literal["none", "balanced"] = "none"
    loss: Literal[
        "auto",
        "cross_entropy",
        "binary_cross_entropy",
        "mse",
        "mae",
        "huber",
        "pinball",
        "listwise",
        "pairwise",
    ] = "auto"
    patience: int | None = Field(
        None,
        ge=1,
        description="Early stopping on an inner split after this many epochs without a better loss.",
    )
    early_stopping: Literal["auto", "fixed", "refit", "inner"] = Field(
        "auto",
        description="fixed: all epochs; refit: best epoch of an inner split, then all rows; inner: keep that model.",
    )
    validation_fraction: float = Field(0.15, gt=0, lt=0.9)
    amp: Literal["auto", "on", "off"] = Field(
        "auto",
        description="bfloat16 in matrix products and convolutions; auto: on CUDA, and for 2-D convolutions on images "
        "on CPUs that have it.",
    )
    channels_last: Literal["auto", "off"] = Field(
        "auto", description="Channels of images last in memory; auto: nets with 2-D convolutions on images."
    )
    folds_at_once: Literal["auto", "off"] = Field(
        "auto", description="Small nets of one shape are trained as one batched net, where that is faster."
    )
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of a moving average of the weights, which becomes the net."
    )
    mixup: float | None = Field(
        None, gt=0, description="Rows blended with others, by shares drawn from Beta(mixup, mixup)."
    )
    cutmix: float | None = Field(
        None, gt=0, description="Boxes of other images pasted in, of areas drawn from Beta(cutmix, cutmix)."
    )

    @model_validator(mode="after")
    def patience_fits(self) -> TrainOptions:
        if self.patience is not None and self.early_stopping == "fixed":
            raise ValueError(
                "early_stopping: fixed trains all epochs; remove patience, or use refit or inner"
            )
        if self.patience is None and self.early_stopping in ("refit", "inner"):
            raise ValueError(f"early_stopping: {self.early_stopping} needs patience, a number of epochs")
        return self

    def problems(self, task: str) -> Iterator[tuple[str, str]]:
        """Yield (option, message) for what does not go with a task."""
        losses = task_class(task).losses
        if self.loss not in ("auto", *losses):
            yield "loss", f"must be auto or {' or '.join(losses)} for task {task}; got {self.loss}"
        for name in task_class(task).unusable_training:
            if self.is_set(name):
                yield name, f"needs classes; got task={task}, {name}={getattr(self, name)}. Remove it"

    def pace(self, n_rows: int) -> Pace:
        """Return what ``auto`` means on so many rows: from options and shapes alone, so the same each time.

        Examples
        --------
        >>> TrainOptions().pace(1000)
        Pace(epochs=60, batch_size=96, lr=0.0030618621784789725, n_batches=11)
        >>> TrainOptions(batch_size=32, epochs=5, lr=0.1).pace(1000)
        Pace(epochs=5, batch_size=32, lr=0.1, n_batches=32)
        """
        size = self.tenth_of(n_rows) if isinstance(self.batch_size, str) else self.batch_size
        n_batches = len(batch_sizes(n_rows, size))
        enough = max(EPOCHS, -(-LEAST_STEPS // max(1, n_batches)))
        epochs = enough if isinstance(self.epochs, str) else self.epochs
        share = (size / self.largest_batch) ** 0.5
        if not isinstance(self.epochs, str):
            share = max(share, FULL_RATE_STEPS / max(1, n_batches * epochs))
        lr = self.base_lr * min(1.0, share) if isinstance(self.lr, str) else self.lr
        return Pace(epochs, size, lr, n_batches)

    def searches_epochs(self, n_rows: int) -> bool:
        """Whether an inner split says how many epochs: none are given, and rows are neither too few nor too many."""
        is_open = self.epochs == "auto" and self.patience is None and self.early_stopping == "auto"
        return is_open and n_rows in SEARCHED_ROWS

    def search(self, n_rows: int) -> TrainOptions:
        """Return the options of the training that says how many epochs: on so many rows of an inner split."""
        most = max(EPOCHS, -(-SEARCHED_STEPS // self.pace(n_rows).n_batches))
        changed = {"epochs": most, "patience": SEARCH_PATIENCE, "early_stopping": "refit"}
        return self.model_copy(update=changed)

    def decided(self, epochs: int, n_rows: int) -> TrainOptions:
        """Return the options of a training of so many epochs, at the pace of so many rows; nothing is open."""
        pace = self.pace(n_rows)
        chosen = {"epochs": epochs, "batch_size": pace.batch_size, "lr": pace.lr}
        return self.model_copy(update={**chosen, "patience": None, "early_stopping": "fixed"})

    def tenth_of(self, n_rows: int) -> int:
        """Return the batch of ``batch_size: auto``."""
        tenth = n_rows // BATCHES_AN_EPOCH // BATCH_UNIT * BATCH_UNIT
        return min(max(tenth, BATCH_UNIT), self.largest_batch)

    @property
    def stopping(self) -> Literal["fixed", "refit", "inner"]:
        """`early_stopping` with `auto` resolved: refit where patience is given, else fixed."""
        if self.early_stopping == "auto":
            return "fixed" if self.patience is None else "refit"
        return self.early_stopping


def epochs_of(validation_losses: Sequence[float]) -> int:
    """Return how many epochs an inner split is for: up to the last whose loss is not clearly above the lowest.

    Parameters
    ----------
    validation_losses : sequence of float
        The mean loss of validation rows after each epoch.

    Examples
    --------
    >>> epochs_of([1.0, 0.5, 0.3, 0.2, 0.2, 0.2, 0.3, 0.6, 1.0, 1.4])
    6
    """
    losses = np.asarray(validation_losses, dtype=np.float64)
    if not np.isfinite(losses).all():
        return len(losses)
    window = np.ones(min(SMOOTHED_EPOCHS, len(losses)))
    smooth = np.convolve(losses, window, "same") / np.convolve(np.ones(len(losses)), window, "same")
    return int(np.flatnonzero(smooth <= smooth.min() * (1 + TOLERANCE))[-1]) + 1


def batch_sizes(n_rows: int, batch_size: int) -> list[int]:
    """Return the sizes of batches; a last batch of one row joins its neighbour (BatchNorm needs two).

    Examples
    --------
    >>> batch_sizes(65, 32), batch_sizes(66, 32)
    ([32, 33], [32, 32, 2])
    """
    n_full, rest = divmod(n_rows, batch_size)
    sizes = [batch_size] * n_full
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def with_training_defaults(
    net: object, given: TrainOptions, task: str, folder: Path | None = None
) -> TrainOptions:
    """Return how a net is trained: as given, and as suits the net where nothing is.

    A user's class declares that as a plain dict, ``train_defaults = {"lr": 0.04, "schedule": "coslog4"}``;
    under ``classification`` and ``regression`` stand the options of one kind of task.

    Parameters
    ----------
    net : str, class or callable
        A name of the table NETS, or ``pkg.mod:Class``; or what builds the net.
    given : TrainOptions
        What the config says.
    task : {"binary", "multiclass", "regression"}
    folder : Path, optional
        Searched before the installed packages: the config's folder.

    Raises
    ------
    ConfigError
        If the class declares what is no option of training, or what does not go with those given.
    """
    defaults = training_defaults(net, task, folder)
    missing = {name: value for name, value in defaults.items() if name not in given.model_fields_set}
    if not missing:
        return given
    try:
        return TrainOptions(**missing, **{name: getattr(given, name) for name in given.model_fields_set})
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]) if first["loc"] else "train"
        raise ConfigError(
            f"{ATTRIBUTE} of net {net!r} must fit the options of train; got {missing} "
            f"({place}: {first['msg']}); correct the class, or set the option in the config"
        ) from error


def declared_by(net: object, folder: Path | None = None) -> Any:
    """Return what is declared of a net's training; None where nothing is. A class that is named is not imported."""
    if not isinstance(net, str):
        return getattr(net, ATTRIBUTE, None)
    short = next((name for name, path in NETS.items() if path == net), net)
    if short in NETS:
        return NET_TRAINING.get(short)
    if in_family(net, NETS):
        return FAMILY_TRAINING.get(net.partition(":")[0])
    module, _, name = net.partition(":")
    found = find_module(module, folder) if name else None
    return None if found is None else class_literal(found.path, name, ATTRIBUTE)


def training_defaults(net: object, task: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the training options that suit a net in a task; none where nothing is declared."""
    declared = declared_by(net, folder)
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise ConfigError(
            f"{ATTRIBUTE} of net {net!r} must be a dict of training options; got {declared!r}; correct the class"
        )
    common = {name: value for name, value in declared.items() if name not in FAMILIES}
    options = {**common, **declared.get(task_class(task).family, {})}
    for option in options:
        if option not in TrainOptions.model_fields:
            raise ConfigError(
                f"{ATTRIBUTE} of net {net!r} must name options of train; got {option!r}."
                f"{suggest(str(option), [*TrainOptions.model_fields, *FAMILIES])} Correct the class"
            )
    return options
