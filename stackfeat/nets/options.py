"""How a net is trained, and how a layer of it is read; the one file of this folder that is free of torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stackfeat.options import Options
from stackfeat.registry.wildcards import is_pattern

Encoding = Literal["geometry", "aligned", "reference", "relative", "raw"]
DEFAULT_ENCODINGS: tuple[Encoding, ...] = ("geometry", "aligned")
FROZEN_ENCODINGS: tuple[Encoding, ...] = ("raw", "geometry")
JOINT: tuple[Encoding, ...] = (
    "aligned",
    "reference",
)  # fitted over all folds together, in a unit of their own


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

    @property
    def stopping(self) -> Literal["fixed", "refit", "inner"]:
        """`early_stopping` with `auto` resolved: refit where patience is given, else fixed."""
        if self.early_stopping == "auto":
            return "fixed" if self.patience is None else "refit"
        return self.early_stopping


class TapOptions(Options):
    """A layer to read, and how its activations become columns."""

    tap: str = Field(description="'penultimate', or a layer's name with optional :input, [item], #call.")
    name: str | None = None
    last: int | None = Field(None, ge=1)
    combine: Literal["concat", "mean", "each"] = Field(
        "concat",
        description="last: the layers side by side, their mean, or each encoded alone.",
    )
    pool: Literal["auto", "none", "flatten", "mean", "max", "cls", "last"] = "auto"
    encode: tuple[Encoding, ...] = DEFAULT_ENCODINGS
    reduce: int | None = Field(
        None,
        ge=1,
        description="aligned, reference: principal directions kept; by default one for every eight anchors.",
    )

    @field_validator("encode", mode="before")
    @classmethod
    def one_encoding_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def key(self) -> str:
        """What its blocks are called, before the encoding."""
        return self.name or self.tap

    @property
    def is_pattern(self) -> bool:
        """Whether it may mean several layers."""
        return is_pattern(self.tap)

    @property
    def is_open(self) -> bool:
        """Whether it means one block for every layer that matches, which only the net can tell."""
        return self.is_pattern and self.last is None

    @property
    def n_parts(self) -> int:
        """How many embeddings are encoded, one beside the other."""
        return self.last or 1 if self.combine == "each" else 1

    @property
    def parts(self) -> tuple[str, ...]:
        """A key for each of them."""
        return (self.key,) if self.n_parts == 1 else tuple(f"{self.key}+{i}" for i in range(self.n_parts))
