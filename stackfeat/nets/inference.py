"""Read a net row by row: its output and what its taps give.

In:  a module, arrays or tensors with a row per sample, taps by key.
Out: float32 arrays with a row per sample, bitwise the same however rows are chunked or ordered:
     every forward pass has the same number of rows, the last one padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, TapError
from stackfeat.layers.activations.call_trace import Examination, examine
from stackfeat.layers.activations.rows import RowReading
from stackfeat.layers.lazy import Column
from stackfeat.layers.taps import Tap, first_tensor, resolve_taps
from stackfeat.layers.taps.runtime import evaluating, plain_transformers

BATCH_SIZE = 256


def forward_rows(
    module: nn.Module,
    inputs: Sequence[Column],
    taps: Mapping[str, Tap],
    *,
    device: torch.device,
    batch_size: int = BATCH_SIZE,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Run all rows through `module` in eval mode.

    Parameters
    ----------
    module : nn.Module
        Already on `device`; its mode and hooks are as before afterwards.
    inputs : sequence of Tensor or LazyColumn
        Positional arguments of ``forward``, each with n_rows rows.
    taps : mapping of str to Tap
        What to read, by the key it gets in the answer.

    Returns
    -------
    output : ndarray of shape (n_rows, n_outputs), float32
        The first tensor of the net's output.
    caught : dict of str to ndarray of shape (n_rows, n_columns), float32

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read.
    MemberError
        If the output has not one row per sample.
    """
    n_rows = len(inputs[0])
    rows = slice(0, 0)
    output: np.ndarray | None = None
    caught: dict[str, np.ndarray] = {}

    def deliver(key: str, values: Tensor) -> None:
        if values.ndim != 2:
            raise TapError(
                f"pool: none must have (rows, columns); got shape={tuple(values.shape)} at tap {key!r}; "
                "use pool: auto or flatten"
            )
        caught[key] = fill(caught.get(key), values, rows, n_rows)

    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        stack.enter_context(plain_transformers())
        examination = examine_taps(module, inputs, taps, device) if taps else None
        stack.enter_context(torch.inference_mode())
        reading = (
            stack.enter_context(RowReading(module, examination, deliver, stop_early=False))
            if examination
            else None
        )
        for start in range(0, max(n_rows, 1), batch_size):
            batch = tuple(
                pad_rows(values[start : start + batch_size], batch_size).to(device) for values in inputs
            )
            rows = slice(start, min(start + batch_size, n_rows))
            value = reading.run(batch, n_rows=batch_size) if reading else module(*batch)
            output = fill(output, output_rows(value, batch_size), rows, n_rows)
    assert output is not None
    return output, caught


def examine_taps(
    module: nn.Module, inputs: Sequence[Column], taps: Mapping[str, Tap], device: torch.device
) -> Examination:
    """Dry-run the taps on the first rows; refuse those that cannot be read row by row."""
    few = tuple(pad_rows(values[:3], 3).to(device) for values in inputs)
    examination = examine(module, resolve_taps(module, taps), few)
    examination.check()
    return examination


def pad_rows(values: Tensor, n_rows: int) -> Tensor:
    """Repeat the last row (zeros where there is none) until there are `n_rows`."""
    n_missing = n_rows - len(values)
    if n_missing == 0:
        return values
    filler = values[-1:].expand(n_missing, *values.shape[1:]) if len(values) else None
    return torch.cat([values, values.new_zeros(n_rows, *values.shape[1:]) if filler is None else filler])


def output_rows(value: object, n_rows: int, *, several: bool = False) -> Tensor:
    """Return the net's output as (n_rows, n_outputs); with `several` (n_rows, k, n_outputs) may stay."""
    output = first_tensor(value)
    if output is None or output.ndim not in ((1, 2, 3) if several else (1, 2)) or len(output) != n_rows:
        got = "no tensor" if output is None else f"shape={tuple(output.shape)} for {n_rows} rows"
        raise MemberError(
            f"a net must return a tensor of shape (n_rows, n_outputs); got {got}; "
            "pool or flatten inside forward, and keep the batch in dimension 0"
        )
    rows: Tensor = output[:, None] if output.ndim == 1 else output
    return rows


def fill(array: np.ndarray | None, values: Tensor, rows: slice, n_rows: int) -> np.ndarray:
    """Write the unpadded part of `values` into its rows; the array is made by the first batch."""
    if array is None:
        array = np.empty((n_rows, values.shape[1]), dtype=np.float32)
    array[rows] = values[: rows.stop - rows.start].to(torch.float32).cpu().numpy()
    return array


def check_rows_independent(module: nn.Module, inputs: Sequence[Tensor]) -> None:
    """Refuse a net in which one row's output depends on the other rows of the batch.

    Raises
    ------
    MemberError
        Naming ``batch_first``, the usual cause.
    """
    n_rows = min(8, len(inputs[0]))
    if n_rows < 2:
        return
    batch = [values[:n_rows] for values in inputs]
    half = n_rows // 2
    swapped = [
        torch.cat(
            [
                values[:half],
                values[half:] * 2 + 1 if values.is_floating_point() else values[:1].expand_as(values[half:]),
            ]
        )
        for values in batch
    ]
    with evaluating(module), torch.no_grad(), plain_transformers():
        as_given = output_rows(module(*batch), n_rows)[:half]
        with_others = output_rows(module(*swapped), n_rows)[:half]
    if not torch.allclose(as_given, with_others, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise MemberError(
            "a row's output must not depend on other rows of its batch; got other outputs for the same rows: "
            "rows influence each other; set batch_first=True in attention and recurrent layers"
        )
