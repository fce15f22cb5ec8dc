"""A net that was trained elsewhere, as one that can be read.

In:  a `NetSpec`, a few rows, a checkpoint.
Out: a `FittedNet`, never trained here.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from stackfeat.errors import MemberError
from stackfeat.layers.taps.runtime import pick_device, pinned
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import Arrays, FittedNet, arrange
from stackfeat.nets.training.fine_tuning import Start, given_head
from stackfeat.nets.training.fit import AMPLIFICATION, DRY_RUN_ROWS, dry_run, locate_penultimate
from stackfeat.nets.training.outputs import Head, TrainReport, check_rows_independent, find_head
from stackfeat.seeds import derive_seed
from stackfeat.tasks.task import Task

logger = logging.getLogger(__name__)


def load_net(
    spec: NetSpec,
    arrays: Arrays,
    start: Start,
    *,
    task: Task,
    predicts: bool,
    seed: int,
    threads: int | None = 1,
    device: str = "cpu",
) -> FittedNet:
    """Build a net, load its weights, and learn what its output means.

    Parameters
    ----------
    spec : NetSpec
    arrays : sequence of ndarray
        As in `fit_net`; a few rows are run.
    start : Start
        The checkpoint.
    predicts : bool
        Whether the output is read. If not, it may be of other classes and of any shape.
    seed : int
        Of the weights that ``head: reset`` leaves random.

    Raises
    ------
    UsageError, MemberError
        If the weights do not fit, or the output is not that of this task, or not finite.
    """
    place = pick_device(device)
    spec = spec.on_rows(arrays)
    spec = spec if predicts else replace(spec, output="none")
    with pinned(seed, threads, place):
        torch.manual_seed(derive_seed(seed, "init"))
        module = spec.build()
        reset = start.load(module)
        module = module.to(place).eval()
        example = tuple(values[:DRY_RUN_ROWS].to(place) for values in arrange(module, spec, arrays))
        output = dry_run(module, example)
        head = Head("value")
        if predicts:
            _check_finite(output, [array[:DRY_RUN_ROWS] for array in arrays])
            amplified = [v * AMPLIFICATION if v.is_floating_point() else v for v in example]
            found = find_head(spec.output, output, dry_run(module, amplified), task)
            check_rows_independent(module, example)
            head = given_head(found, start.order)
        penultimate, problem = locate_penultimate(module, example)
    if reset:
        logger.info(
            "%s: %s stayed random: it did not fit the checkpoint", type(module).__name__, ", ".join(reset)
        )
    report = TrainReport(epochs=0, best_epoch=0, losses=())
    return FittedNet(module, spec, task, head, penultimate, problem, report, place, threads)


def _check_finite(output: np.ndarray, arrays: Arrays) -> None:
    if np.isfinite(output).all():
        return
    missing = [int(np.isnan(array).any(axis=0).sum()) for array in arrays if array.dtype.kind == "f"]
    why = (
        f"; {sum(missing)} of its inputs' columns have missing values: fill them in the file"
        if any(missing)
        else ""
    )
    raise MemberError(f"a checkpoint must give finite numbers; got NaN or infinity on the first rows{why}")
