"""What a net's output means: how it is trained, and how it becomes predictions.

In:  the raw output (n_rows, n_outputs) of a net.
Out: a loss per row while training; probabilities or values in float64 afterwards.
     A `TrainReport` says how a training went.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import DataWarning, MemberError
from stackfeat.layers.activations.dry_run import INFLUENCE, RANDOM, REORDER, examine
from stackfeat.layers.taps.values import first_tensor
from stackfeat.nets.list_losses import LIST_LOSSES
from stackfeat.structure import must
from stackfeat.tasks.classification import checked_probabilities
from stackfeat.tasks.rows import checked_finite
from stackfeat.tasks.task import Task

OutputKind = Literal["logits", "proba", "log_proba", "value"]

Loss = Literal[
    "cross_entropy", "binary_cross_entropy", "mse", "mae", "huber", "pinball", "listwise", "pairwise"
]

SMALLEST_PROBABILITY = 1e-7
"""Of an output that is a probability, before its logarithm: about the rounding of float32 near one."""

FEW_CLASSES = 32

VALUE_LOSSES: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True)
class Head:
    """How to read the output.

    Attributes
    ----------
    kind : {"logits", "proba", "log_proba", "value"}
    one_column : bool
        Binary, with one output that speaks for the positive class.
    positive : int
        That class.
    mean, scale : float, or tuple of float
        Regression: the training rows' target is ``scale * output + mean``; one for each of several targets.
    order : sequence of int
        Which column holds each class, in a net of another order of classes; empty where it is ours.
    levels : tuple of float
        The quantile that each column is; empty where columns are none.
    by_label : bool
        Whether each column is a label by itself, of which a row may have several.
    """

    kind: OutputKind
    one_column: bool = False
    positive: int = 1
    mean: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0
    order: Sequence[int] = ()
    levels: tuple[float, ...] = ()
    by_label: bool = False

    def __post_init__(self) -> None:
        must(self.positive in (0, 1), "head.positive", "be 0 or 1", self.positive)
        is_order = sorted(self.order) == list(range(len(self.order)))
        must(is_order, "head.order", "name each column once", self.order)

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        # Left out where there are none, so that entries of other nets stay as they were.
        if not self.levels:
            values.pop("levels")
        if not self.by_label:
            values.pop("by_label")
        return values

    def log_scores(self, output: Tensor) -> Tensor:
        """Return (n_rows, n_classes) scores whose log-softmax is the log-probability."""
        output = output[:, list(self.order)] if self.order else output
        if self.kind == "logits":
            return self.two_columns(torch.zeros_like(output), output) if self.one_column else output
        if self.kind == "log_proba" and not self.one_column:
            return output
        shares = output.exp() if self.kind == "log_proba" else output
        if self.one_column:
            shares = self.two_columns(1 - shares, shares)
        return shares.clamp_min(SMALLEST_PROBABILITY).log()

    def two_columns(self, negative: Tensor, positive: Tensor) -> Tensor:
        return torch.cat([negative, positive] if self.positive == 1 else [positive, negative], dim=1)

    def predictions(self, output: np.ndarray, who: str = "a net") -> np.ndarray:
        """Return (n_rows, n_classes) probabilities or (n_rows, 1) values, float64.

        Raises
        ------
        MemberError
            If the output is not finite, or no probabilities where it should be.
        """
        if self.kind == "value":
            output = checked_finite(output, who)
            values: np.ndarray = output.astype(np.float64) * np.asarray(self.scale) + np.asarray(self.mean)
            # Quantiles must not cross.
            return np.sort(values, axis=1) if self.levels else values
        if self.by_label:
            return self.of_labels(output, who)
        if self.kind == "proba" and not self.one_column:
            ordered = output[:, list(self.order)] if self.order else output
            return checked_probabilities(ordered, who)
        if self.kind == "proba":
            checked_probabilities(np.hstack([1.0 - output, output]), who)
        scores = self.log_scores(torch.from_numpy(output.astype(np.float64))).numpy()
        with np.errstate(invalid="ignore"):
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        proba: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return checked_finite(proba, who)

    def of_labels(self, output: np.ndarray, who: str) -> np.ndarray:
        """Return the probability of each label, float64 (n_rows, n_labels)."""
        values = checked_finite(output, who)
        if self.kind == "logits":
            return torch.from_numpy(values).sigmoid().numpy()
        if values.min(initial=0.0) < 0.0 or values.max(initial=0.0) > 1.0:
            raise MemberError(
                f"{who} must return probabilities between 0 and 1; got {values.min():g} to {values.max():g}; return "
                "scores, or set output: logits"
            )
        return values


def find_head(declared: str, output: np.ndarray, amplified: np.ndarray, task: Task) -> Head:
    """Decide what an untrained net's output means.

    Parameters
    ----------
    declared : {"auto", "logits", "proba", "log_proba", "value"}
    output, amplified : ndarray of shape (n_rows, n_outputs)
        For a few rows, and for the same rows with large inputs: an untrained net's logits may lie
        between 0 and 1 by chance, but not for those.
    task : Task

    Raises
    ------
    MemberError
        If the number of columns does not fit the task.
    """
    n_columns = output.shape[1]
    if n_columns not in task.widths:
        raise MemberError(
            f"a net must return {task.n_outputs} columns for this {task.kind} task; got {n_columns} columns; "
            "take n_outputs in the constructor and use it for the last layer"
        )
    *others, last = task.head_outputs
    if declared not in ("auto", *others, last):
        legal = f"{', '.join(map(repr, others))} or {last!r}" if others else repr(last)
        raise MemberError(f"output must be {legal} in {task.family}; got output={declared!r}; try 'auto'")
    kind = (
        declared
        if declared != "auto"
        else look_at(output, amplified, task.has_label_sets)
        if others
        else last
    )
    return Head(
        kind,  # type: ignore[arg-type]
        n_columns < task.n_outputs,
        task.positive,
        levels=task.quantiles,
        by_label=task.has_label_sets,
    )


def look_at(output: np.ndarray, amplified: np.ndarray, by_label: bool = False) -> OutputKind:
    both = np.concatenate([output, amplified]).astype(np.float64)
    if both.shape[1] == 1 or by_label:
        return "proba" if (both >= 0).all() and (both <= 1).all() else "logits"
    if (both >= 0).all() and np.allclose(both.sum(axis=1), 1, atol=1e-3):
        return "proba"
    if (both <= 1e-6).all() and np.allclose(np.exp(both).sum(axis=1), 1, atol=1e-3):
        return "log_proba"
    return "logits"


def list_losses(
    head: Head, loss: Loss, output: Tensor, y: Tensor, label_smoothing: float, reduction: str = "none"
) -> Tensor:
    """Return the loss of each row that stands in a list, as `row_losses`; y (n_rows, 2) is relevance and list."""
    losses = LIST_LOSSES[loss](output.float().flatten(1), y)
    return losses.sum() if reduction == "sum" else losses


def row_losses(
    head: Head, loss: Loss, output: Tensor, y: Tensor, label_smoothing: float, reduction: str = "none"
) -> Tensor:
    """Return the loss of each row, float32 of shape (n_rows,); with ``reduction="sum"`` their sum.

    An output (n_rows, k, n_outputs) is k predictions a row: its loss is the mean of their losses, not
    the loss of their mean, which would train them as one. Of several targets, y (n_rows, n_targets), it
    is the mean over them.
    """
    output = output.float()
    if output.ndim == 3:
        n_rows, k, _ = output.shape
        each = row_losses(head, loss, output.flatten(0, 1), y.repeat_interleave(k, dim=0), label_smoothing)
        means = each.view(n_rows, k).mean(1)
        return means.sum() if reduction == "sum" else means
    if loss == "cross_entropy":
        scores = head.log_scores(output)
        if scores.shape[1] <= FEW_CLASSES and scores.device.type == "cpu":
            # With the classes next to each other a CPU computes the logarithms one by one.
            scores, y = scores.t().contiguous()[None], y[None]
        losses = F.cross_entropy(scores, y, reduction=reduction, label_smoothing=label_smoothing)
        return losses if reduction == "sum" else losses.view(-1)
    if loss == "binary_cross_entropy":
        means = label_losses(head, output, y).mean(dim=1)
        return means.sum() if reduction == "sum" else means
    if head.levels:
        return pinball(output, y, output.new_tensor(head.levels), reduction)
    if y.ndim == 1:
        values: Tensor = VALUE_LOSSES[loss](output[:, 0], y, reduction=reduction)
        return values
    means = VALUE_LOSSES[loss](output, y, reduction="none").mean(dim=1)
    return means.sum() if reduction == "sum" else means


def label_losses(head: Head, output: Tensor, y: Tensor) -> Tensor:
    """Return the log-loss of each label, (n_rows, n_labels)."""
    if head.kind == "proba":
        shares = output.clamp(SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
        return F.binary_cross_entropy(shares, y.to(output.dtype), reduction="none")
    return F.binary_cross_entropy_with_logits(output, y.to(output.dtype), reduction="none")


def pinball(output: Tensor, y: Tensor, levels: Tensor, reduction: str) -> Tensor:
    """Return the mean pinball loss of each row over its quantiles, (n_rows,); with ``"sum"`` the sum over rows."""
    left = y[:, None] - output
    rows = torch.maximum(levels * left, (levels - 1.0) * left).mean(dim=1)
    return rows.sum() if reduction == "sum" else rows


def output_rows(value: object, n_rows: int, *, several: bool = False) -> Tensor:
    """Return the net's output as (n_rows, n_outputs); with `several` (n_rows, k, n_outputs) may stay."""
    output = first_tensor(value)
    if output is None or output.ndim not in ((1, 2, 3) if several else (1, 2)) or len(output) != n_rows:
        got = "no tensor" if output is None else f"shape={tuple(output.shape)} for {n_rows} rows"
        raise MemberError(
            f"a net must return a tensor of shape (n_rows, n_outputs); got {got}; "
            "pool or flatten inside forward, and keep the batch in dimension 0"
        )
    if output.is_complex():
        raise MemberError(
            f"a net must return real numbers; got {output.dtype}; return real and imaginary parts, or their size"
        )
    rows: Tensor = output[:, None] if output.ndim == 1 else output
    return rows


def check_rows_independent(module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Refuse a net whose output has not each row's values at its place, whatever the other rows of the batch are.

    Raises
    ------
    MemberError
        Naming what it does with the rows.
    """
    report = examine(module, (), tuple(values.clone() for values in inputs))
    where = "the output"
    if report.scaled:
        raise MemberError(
            "a row's output must not depend on other rows of its batch; got dynamic quantisation, which rounds by a "
            f"scale of the whole batch, in {', '.join(report.scaled[:5])}; give the net as it was before quantisation"
        )
    if report.reordered:
        raise MemberError(
            f"{REORDER.format(where=where)}; put them back in order before the net returns them"
        )
    if report.influenced:
        raise MemberError(INFLUENCE.format(where=where))
    if report.random:
        warnings.warn(RANDOM.format(where=where), DataWarning, stacklevel=2)


@dataclass(frozen=True)
class TrainReport:
    """How training went.

    Attributes
    ----------
    epochs : int
        Epochs run.
    best_epoch : int
        Epochs after which validation was best; `epochs` without validation.
    losses, validation_losses : tuple of float
        Mean loss of each epoch.
    retries : int
        How often a loss that was not finite made it start again.
    lr : float
        The peak learning rate that worked.
    stopped : bool
        Whether `should_stop` ended it.
    n_parts : int
        In how many parts a batch was computed, because memory ran out otherwise.
    """

    epochs: int
    best_epoch: int
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    retries: int = 0
    lr: float = 0.0
    stopped: bool = False
    n_parts: int = 1
