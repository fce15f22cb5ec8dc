"""How a net is trained; free of torch, so that a config is checked fast.

In:  what a config says of `train`; the name of a net.
Out: the options, with what suits the net filled in where the config says nothing. A user's class
     declares that as ``train_defaults``, which is read as text: no code is run for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from stackfeat.errors import ConfigError
from stackfeat.options import Options
from stackfeat.registry.names import NET_TRAINING, NETS
from stackfeat.registry.resolve import suggest
from stackfeat.registry.source import class_literal, find_module
from stackfeat.tasks.task import task_class

ATTRIBUTE = "train_defaults"
FAMILIES = ("classification", "regression")


class TrainOptions(Options):
    """How a net is trained in every fold."""

    epochs: int = Field(60, ge=1, le=100_000)
    batch_size: int = Field(256, ge=1)
    lr: float = Field(5e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["cosine", "onecycle", "constant", "coslog4"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of all steps with a rising learning rate.")
    clip_norm: float | None = Field(1.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weight: Literal["none", "balanced"] = "none"
    loss: Literal["auto", "cross_entropy", "mse", "mae", "huber"] = "auto"
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

    @property
    def stopping(self) -> Literal["fixed", "refit", "inner"]:
        """`early_stopping` with `auto` resolved: refit where patience is given, else fixed."""
        if self.early_stopping == "auto":
            return "fixed" if self.patience is None else "refit"
        return self.early_stopping


def with_training_defaults(
    net: str, given: TrainOptions, task: str, folder: Path | None = None
) -> TrainOptions:
    """Return how a net is trained: as given, and as suits the net where nothing is.

    A user's class declares that as a plain dict, ``train_defaults = {"lr": 0.04, "schedule": "coslog4"}``;
    under ``classification`` and ``regression`` stand the options of one kind of task.

    Parameters
    ----------
    net : str
        A name of the table NETS, or ``pkg.mod:Class``.
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
        place = ".".join(map(str, first["loc"])) or "train"
        raise ConfigError(
            f"{ATTRIBUTE} of net {net!r} must fit the options of train; got {missing} "
            f"({place}: {first['msg']}); correct the class, or set the option in the config"
        ) from error


def training_defaults(net: str, task: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the training options that suit a net in a task; none where nothing is declared."""
    short = next((name for name, path in NETS.items() if path == net), net)
    if short in NETS:
        declared: Any = NET_TRAINING.get(short)
    else:
        module, _, name = net.partition(":")
        found = find_module(module, folder) if name else None
        declared = None if found is None else class_literal(found.path, name, ATTRIBUTE)
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
