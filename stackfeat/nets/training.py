"""Train a net: one loop for tensors in memory and for inputs on disk.

In:  a module, its inputs and target as `Rows`, options, a loss per row.
Out: the same module, trained, and a `TrainReport`. A loss that is not finite starts it again from
     the same weights at a tenth of the learning rate; a batch that does not fit into memory is
     computed in parts; snapshots let a killed training go on where it was.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, NaNLossError
from stackfeat.nets.attempt import Attempt, RowLosses
from stackfeat.nets.batches import Rows
from stackfeat.nets.mixing import check_mixable
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.report import TrainReport
from stackfeat.nets.runtime import pinned
from stackfeat.nets.snapshots import Snapshots, module_tensors

__all__ = ["Rows", "TrainReport", "train_net"]

logger = logging.getLogger(__name__)

MAX_RETRIES = 2


def train_net(
    module: nn.Module,
    rows: Rows,
    *,
    options: TrainOptions,
    loss: RowLosses,
    seed: int,
    device: torch.device,
    validation: Rows | None = None,
    should_stop: Callable[[], bool] | None = None,
    snapshots: Snapshots | None = None,
) -> TrainReport:
    """Train `module` in place, with AdamW.

    Parameters
    ----------
    module : nn.Module
        On `device`; its mode and torch's generators are as before afterwards.
    rows : Rows
    options : TrainOptions
        With `validation` and ``patience`` training ends early, and the best epoch's weights are kept.
    loss : callable
        ``loss(output, y, label_smoothing, reduction)`` gives a loss per row (``"none"``), float32, or
        their sum (``"sum"``).
    seed : int
        Decides the order of rows and the dropout.
    validation : Rows, optional
    should_stop : callable, optional
        Asked after every epoch.
    snapshots : Snapshots, optional
        Where the state is kept now and then. A training that finds one of its own goes on from
        there, to the same bytes as one that was never interrupted.

    Raises
    ------
    NaNLossError
        If no learning rate tried kept the loss finite.
    MemberError
        If there are fewer than two rows, nothing to train, or not enough memory for two rows.
    UsageError
        If the inputs cannot be mixed as asked.
    """
    if len(rows) < 2:
        raise MemberError(f"training must have at least 2 rows; got {len(rows)}; use fewer folds")
    check_mixable(options, rows)
    start = copy.deepcopy(module.state_dict())
    if snapshots is not None and not all(isinstance(values, Tensor) for values in start.values()):
        logger.info("%s keeps state that is no tensor: no snapshots", type(module).__name__)
        snapshots = None
    identity = identify(module, rows, options, seed)
    found = None if snapshots is None else snapshots.load(identity)
    first = 0 if found is None else found[0]["retry"]
    for retry in range(first, MAX_RETRIES + 1):
        attempt = Attempt(module, rows, options, loss, device, retry)
        try:
            with pinned(seed, device=device):
                attempt.order.manual_seed(seed)
                if found is not None:
                    attempt.restore(*found)
                    logger.info("resumed after epoch %d of %d", len(attempt.progress.losses), options.epochs)
                report = attempt.run(validation, should_stop or (lambda: False), snapshots, identity)
        finally:
            attempt.optimizer.release()
        if report is not None:
            return report
        found = None
        logger.warning(
            "loss is not finite at lr=%g; %d retries left", attempt.optimizer.lr, MAX_RETRIES - retry
        )
        module.load_state_dict(start)
    raise NaNLossError(
        f"the loss must stay finite; got NaN or infinity at lr={options.lr:g} and at the "
        f"{MAX_RETRIES} smaller ones tried; lower train.lr, or look for NaN and huge values in the inputs"
    )


def identify(module: nn.Module, rows: Rows, options: TrainOptions, seed: int) -> dict[str, Any]:
    """Return what tells one training from another, as JSON values."""
    shapes = {name: list(values.shape) for name, values in module_tensors(module).items()}
    return {"options": options.to_json(), "seed": seed, "n_rows": len(rows), "shapes": shapes}
