"""Read layers of a trained net for any number of rows, at the speed of its forward pass.

In:  a module, rows in any of the usual forms, taps.
Out: float32 arrays with a row per sample, in memory or as files. `extract` may choose batch sizes by
     timing; `read_rows`, of which results are made, decides by the net, shapes and device alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import DataWarning, TapError, UsageError
from stackfeat.layers.activations.dry_run import OUTPUT, RANDOM, DryRunReport
from stackfeat.layers.extraction.arguments import constants_arrive, constants_text
from stackfeat.layers.extraction.batch import Delivery, on_device, progress_bar
from stackfeat.layers.extraction.files import FileOutputs, MemoryOutputs, Outputs, open_output
from stackfeat.layers.extraction.inputs import ArraySource, Column, Columns, Source, open_inputs
from stackfeat.layers.extraction.placement import Placement, Precision, check_precision, choose_device
from stackfeat.layers.extraction.plan import HEAD_ROWS, Plan, find_plan
from stackfeat.layers.extraction.reread import MovedRowsError, Reread, compared
from stackfeat.layers.extraction.resume import (
    claim_files,
    hash_weights,
    open_record,
    prepare_folder,
    remove_outputs,
)
from stackfeat.layers.taps.edits import is_edited
from stackfeat.layers.taps.layers import unwrap
from stackfeat.layers.taps.refusals import is_out_of_memory
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.tap import Tap, Taps

logger = logging.getLogger(__name__)

BatchSize = int | Literal["auto"]

FEW_ROWS = 128
FIXED_ROWS = 256
"""Rows of every forward pass of `read_rows`."""

# Matrix kernels take rows in blocks of up to 16; in a part of a block a row's bits depend on its place.
KERNEL_ROWS = 16


def extract(
    model: nn.Module,
    inputs: Any,
    taps: Taps = "penultimate",
    batch_size: int | Literal["auto"] = "auto",
    device: str = "auto",
    pool: str = "auto",
    precision: Precision = "float32",
    out: str | Path | None = None,
    progress: bool = False,
    mask: Any = None,
    lengths: Any = None,
    *,
    constants: Mapping[str, Any] | None = None,
    unpack: bool = True,
) -> dict[str, np.ndarray]:
    """Read layers of `model` for every row of `inputs`.

    Parameters
    ----------
    model : nn.Module
        Runs in eval mode, without gradients, and only up to the last tap. Everything about it is as
        before afterwards.
    inputs : array, tensor, tuple, dict, Dataset, DataLoader, or path
        A tuple goes to ``forward`` by position, a dict by name. Of a Dataset's items the leading
        ones that ``forward`` must have are taken, so a target behind them is left out. Paths lead to
        npy or npz files, which are mapped.
    taps : str, Tap, sequence of them, or mapping of name to tap
        ``"penultimate"`` is the input of the last weighted layer.
    batch_size : int or "auto"
        Every pass has so many rows (above 1 rounded up to a multiple of 16), the last one padded: with
        a given size a row's bytes do not depend on the rows around it. ``auto`` chooses by timing;
        then they agree to about 1e-5. Halved when memory runs out.
    device : str
        ``auto``: a GPU where there is one.
    pool : {"auto", "none", "flatten", "mean", "max", "cls", "last"}
        How values of more than two dimensions become columns; a `Tap` may have its own.
    precision : {"float32", "bf16", "autocast"}
        ``float32`` never rounds to less; ``bf16`` casts weights and inputs.
    out : path, optional
        A folder for a file per tap, written as rows come; a killed call goes on where it stopped.
    progress : bool
        Show a bar on a terminal.
    mask : bool array of shape (n_rows, n_steps), optional
        True where a step is real, for nets that do not tell: pooling leaves the others out. Of shape (n_rows,
        n_choices, n_steps) for nets that fold choices into their rows.
    lengths : int array of shape (n_rows,), optional
        The same by the number of real steps.
    constants : mapping of str to argument, optional
        Arguments of ``forward`` that are the same for all rows, of any kind: ``{"scale": 5}``. Tensors are moved to
        the device, floats in them to the net's own kind.
    unpack : bool
        False passes a dict, list or tuple (of any nesting, with arrays in it), or the whole item of a Dataset or
        DataLoader, to ``forward`` as its one argument.

    Returns
    -------
    dict of str to ndarray of shape (n_rows, n_columns), float32
        By tap as given, or the resolved name for patterns and ``"penultimate"``. Memmaps with `out`.

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read, or rows of a batch influence each other.
    UsageError
        If the inputs or options make no sense, such as `out` in a block of `stackfeat.edited`.
    StoreError
        If `out` cannot be written.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> extract(net, torch.randn(10, 4))["2:input"].shape
    (10, 3)
    """
    if batch_size != "auto" and (
        isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1
    ):
        raise UsageError(f"batch_size must be 'auto' or a whole number from 1; got batch_size={batch_size!r}")
    net = unwrap(model)
    if out is not None and is_edited(net):
        raise UsageError(
            f"rows in out= must be those of the net as it is: nothing there says which edits were in force; got "
            f"out={str(out)!r} in a block of stackfeat.edited; leave out away and save the arrays, or close the block"
        )
    placement = Placement(choose_device(net, device), check_precision(precision))
    # Not inference mode: a net that keeps a tensor it made could not be trained on afterwards.
    with (
        preserve_state(net),
        evaluating(net),
        plain_transformers(),
        torch.no_grad(),
        constants_arrive(net) if constants else nullcontext(),
    ):
        source = open_inputs(net, inputs, mask, lengths, constants, unpack=unpack)
        placement = replace(placement, few_rows=source.n_rows is not None and source.n_rows <= FEW_ROWS)
        plan = find_plan(net, source, taps, pool, placement, constants)
        plan.examination.check(one_by_one=batch_size == 1)
        warn_of_random(plan.examination)
        with plan.placement.apply(net):
            extraction = Extraction(net, source, plan, constants=constants or {})
            if out is None:
                return extraction.into_memory(batch_size, progress=progress)
            return extraction.into_folder(prepare_folder(out), batch_size, progress=progress)


def warn_of_random(examination: DryRunReport) -> None:
    """Say which values would be others in another pass."""
    keys = [key for key in examination.random if key in examination.findings]
    if keys:
        warnings.warn(RANDOM.format(where=", ".join(map(repr, keys))), DataWarning, stacklevel=3)


OutputRows = Callable[[Any, int], Tensor]


def read_rows(
    model: nn.Module,
    inputs: Sequence[Column],
    taps: Mapping[str, Tap],
    *,
    device: torch.device,
    output: OutputRows | None = None,
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Read layers of a net, and its output, bitwise the same however rows are chunked or ordered.

    Parameters
    ----------
    model : nn.Module
        Already on `device`. Everything about it is as before afterwards.
    inputs : sequence of Tensor or LazyColumn
        Positional arguments of ``forward``, each with n_rows rows.
    taps : mapping of str to Tap
        What to read, by the key it gets in the answer; patterns get one for each layer.
    output : callable, optional
        Makes rows (n_rows, n_outputs) of what the net returns, given that and n_rows. Without it a pass
        ends after the last tap.

    Returns
    -------
    output : ndarray of shape (n_rows, n_outputs), float32, or None
    caught : dict of str to ndarray of shape (n_rows, n_columns), float32

    Raises
    ------
    LayerNotFoundError, TapError
        If a tap cannot be read, or is no row of columns per sample.
    """
    source = ArraySource((None,) * len(inputs), tuple(inputs))
    with evaluating(model), plain_transformers(), torch.no_grad():
        plan = find_plan(model, source, taps, "auto", Placement(device, is_fixed=True))
        plan.examination.check()
        warn_of_random(plan.examination)
        plan = replace(plan, wants_output=output is not None)
        outputs = MemoryOutputs(source.n_rows)
        with plan.placement.apply(model), torch.inference_mode():
            Extraction(model, source, plan, output).run(outputs, FIXED_ROWS, 0, lambda _columns: None)
    arrays = outputs.finish()
    # A pattern, or an open item, has a key for each layer or value.
    return arrays.pop(OUTPUT, None), {read.key: arrays[read.key] for read in plan.examination.reads}


@dataclass(frozen=True)
class Extraction:
    """One pass over all rows."""

    model: nn.Module
    source: Source
    plan: Plan
    output: OutputRows | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    def into_memory(self, batch_size: BatchSize, *, progress: bool) -> dict[str, np.ndarray]:
        outputs = MemoryOutputs(self.source.n_rows)
        size = self.choose_size(batch_size)
        with progress_bar(self.source.n_rows, 0, shown=progress) as advance:
            self.run(outputs, size, 0, lambda columns: advance(len(columns[0])))
        arrays = outputs.finish()
        return {key: arrays[key] for key in self.keys}

    def into_folder(self, folder: Path, batch_size: BatchSize, *, progress: bool) -> dict[str, np.ndarray]:
        """Write files; go on after rows that an earlier call has written from the same inputs."""
        old, written = claim_files(folder, self.keys)
        if batch_size == "auto" and old is not None:
            # The rest of the rows must be computed as the first were.
            batch_size = int(old.recipe.get("batch_size", 0)) or "auto"
        size = self.choose_size(batch_size)
        record = open_record(folder, self.recipe(size), old, self.source)
        record.written = written
        if record.finished and record.n_done == (self.source.n_rows or record.n_done):
            logger.info("%s: all rows are there", folder)
            return {key: open_output(folder, key) for key in self.keys}
        record.finished = False
        record.save(folder)
        outputs = FileOutputs(folder, self.source.n_rows)
        try:
            with progress_bar(self.source.n_rows, record.n_done, shown=progress) as advance:

                def count(columns: Columns) -> None:
                    record.add(columns, outputs, folder)
                    advance(len(columns[0]))

                n_rows = self.run(outputs, size, record.n_done, count)
            outputs.finish(n_rows)
        except MovedRowsError:
            remove_outputs(folder)  # what is there is wrong
            raise
        finally:
            outputs.close()
        record.finished = True
        record.save(folder)
        return {key: open_output(folder, key) for key in self.keys}

    @property
    def keys(self) -> list[str]:
        return [read.key for read in self.plan.examination.reads]

    def choose_size(self, batch_size: BatchSize) -> int:
        if batch_size != "auto":
            return batch_size if batch_size == 1 else -(-batch_size // KERNEL_ROWS) * KERNEL_ROWS
        return self.plan.choose_size(self.model, self.source.head(HEAD_ROWS), self.source.n_rows)

    def recipe(self, size: int) -> dict[str, Any]:
        """Return what the bytes of the outputs depend on, beside the input rows."""
        reads = self.plan.examination.reads
        placement = self.plan.placement
        shapes = [[list(column.shape[1:]), str(column.dtype)] for column in self.source.head(HEAD_ROWS)]
        return {
            "keys": self.keys,
            "taps": [repr(read.tap) for read in reads],
            "weights": hash_weights(self.model),
            "net": f"{type(self.model).__module__}.{type(self.model).__qualname__}",
            "batch_size": size,
            "device": placement.device.type,
            "precision": placement.precision,
            "channels_last": placement.channels_last,
            "plain_attention": placement.plain_attention,
            "matmul": torch.get_float32_matmul_precision(),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "inputs": [list(map(str, self.source.names)), shapes, self.source.n_rows],
            **({"constants": constants_text(self.constants)} if self.constants else {}),
            **({"packed": constants_text(self.source.packed.plain)} if self.source.packed else {}),
        }

    def run(self, outputs: Outputs, size: int, n_done: int, count: Callable[[Columns], None]) -> int:
        """Run the rows from `n_done` on; return how many there are in all."""
        placement = self.plan.placement
        while True:
            delivery = Delivery(outputs, placement.device, n_done, count)
            try:
                self.run_batches(delivery, size)
                return delivery.n_done
            except Exception as error:
                if size == 1 or placement.is_fixed or not is_out_of_memory(error):
                    raise
            size, n_done = size // 2, delivery.n_done
            logger.warning("out of memory: batch_size is now %d, from row %d on", size, n_done)
            if placement.device.type == "cuda":
                torch.cuda.empty_cache()

    def run_batches(self, delivery: Delivery, size: int) -> None:
        placement = self.plan.placement
        again: dict[str, Tensor] | None = None

        def take(key: str, rows: Tensor) -> None:
            if again is not None:
                again[key] = compared(rows)
                return
            if placement.is_fixed and rows.ndim != 2:
                raise TapError(
                    f"pool: none must have (rows, columns); got shape={tuple(rows.shape)} at tap {key!r}; "
                    "use pool: auto or flatten"
                )
            reread.take(key, rows)
            delivery.take(key, rows)

        def read_again(columns: Columns) -> dict[str, Tensor]:
            nonlocal again
            again, n_rows = {}, len(columns[0])
            try:
                args, kwargs = self.plan.feed(columns, n_rows)
                value = reading.run(args, kwargs, n_rows=n_rows)
                return again | ({} if self.output is None else {OUTPUT: compared(self.output(value, n_rows))})
            finally:
                again = None

        ignored = [OUTPUT if key == "output" else key for key in self.plan.examination.random]
        reread = Reread(self.source.n_rows, read_again, ignored, self.plan.rounding, is_off=size == 1)
        with self.plan.read(self.model, take) as reading:
            chunks = self.source.chunks(delivery.n_done, size)
            if self.source.n_rows == 0:
                chunks = iter([[column[:0] for column in self.source.head(HEAD_ROWS)]])
            feed = partial(self.plan.feed, n_rows=size)
            for columns, (args, kwargs) in on_device(chunks, feed, placement.device):
                reread.begin(delivery.start, columns)
                delivery.begin(columns)
                value = reading.run(args, kwargs, n_rows=size)
                if self.output is not None:
                    rows = self.output(value, size)
                    reread.take(OUTPUT, rows)
                    delivery.take(OUTPUT, rows)
                delivery.end()
                reread.end()
            reread.compare()
            delivery.flush()
