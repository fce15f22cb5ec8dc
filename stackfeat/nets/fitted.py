"""A trained net: predictions, features, bytes.

In:  what `fit_net` made, or bytes that `FittedNet.state_bytes` wrote.
Out: float64 predictions and float32 features with a row per sample, the same bits for a row
     whatever rows come with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from stackfeat.errors import MemberError, TapError, UsageError
from stackfeat.layers.activations.listing import layers_in_order
from stackfeat.layers.extraction.extract import read_rows
from stackfeat.layers.extraction.inputs import Column, to_column
from stackfeat.layers.extraction.placement import filled
from stackfeat.layers.taps.layers import layer_names
from stackfeat.layers.taps.runtime import device_or_cpu, fixed_arithmetic, pick_device, pinned
from stackfeat.layers.taps.tap import Tap, named_taps, parse_tap
from stackfeat.nets.build import NetSpec, input_order
from stackfeat.nets.outputs import Head, TrainReport, output_rows
from stackfeat.nets.weights import pack_state, unpack_state
from stackfeat.structure import structured
from stackfeat.tasks.task import Task

PENULTIMATE = "penultimate"

Arrays = Sequence[np.ndarray]
Taps = Sequence[str | Tap] | Mapping[str, str | Tap]


@dataclass(frozen=True)
class FittedNet:
    """A trained net and how to read it.

    Attributes
    ----------
    module : nn.Module
    spec : NetSpec
    task : Task
    head : Head
        What the output means.
    penultimate : Tap or None
        Where the last features are; None where that could not be told.
    penultimate_problem : str
        Why not.
    report : TrainReport
    device : torch.device
    threads : int or None
        Threads of torch while it predicts; None leaves them as they are.
    """

    module: nn.Module
    spec: NetSpec
    task: Task
    head: Head
    penultimate: Tap | None
    penultimate_problem: str
    report: TrainReport
    device: torch.device
    threads: int | None

    def predict(self, arrays: Arrays) -> np.ndarray:
        """Return (n_rows, n_classes) probabilities or (n_rows, 1) values, float64."""
        return self.read(arrays, ())[0]

    def embed(self, arrays: Arrays, taps: Taps) -> dict[str, np.ndarray]:
        """Return activations, float32 (n_rows, n_columns), by tap; see `read`. The output is not computed."""
        return self._read(arrays, taps, predicts=False)[1]

    def read(self, arrays: Arrays, taps: Taps) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return predictions and activations from one pass over the rows.

        Parameters
        ----------
        arrays : sequence of ndarray
            As in `fit_net`.
        taps : sequence or mapping
            Taps, or taps by the key they get in the answer. ``"penultimate"`` is the net's own.

        Raises
        ------
        LayerNotFoundError, TapError
            If a tap cannot be read.
        """
        output, caught = self._read(arrays, taps, predicts=True)
        assert output is not None
        return self.head.predictions(output, type(self.module).__name__), caught

    def _read(
        self, arrays: Arrays, taps: Taps, *, predicts: bool
    ) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
        named = {str(tap) if key is None else key: tap for key, tap in named_taps(self.module, taps)}
        resolved = {key: self.resolve(tap) for key, tap in named.items()}
        columns = arrange(self.module, self.spec, arrays)
        if not (resolved or predicts):
            return None, {}
        with fixed_arithmetic(self.threads, on_cuda=self.device.type == "cuda"):
            return read_rows(
                self.module, columns, resolved, device=self.device, output=output_rows if predicts else None
            )

    def layers_in_order(self, tap: Tap, arrays: Arrays) -> tuple[Tap, ...]:
        """Return a tap for every layer that a pattern means, first run first."""
        few = [values[:3].to(self.device) for values in arrange(self.module, self.spec, arrays)]
        return layers_in_order(self.module, tap, [filled(values, 3 - len(values)) for values in few])

    def resolve(self, tap: str | Tap) -> Tap:
        """Return the tap that is meant by a text, or by ``Tap("penultimate", pool=...)``."""
        wanted = parse_tap(self.module, tap) if isinstance(tap, str) else tap
        if wanted.layer != PENULTIMATE or PENULTIMATE in layer_names(self.module):
            return wanted
        if self.penultimate is None:
            raise TapError(self.penultimate_problem)
        return replace(self.penultimate, pool=wanted.pool)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle holds: weights as bytes of the CPU, no module and so no hooks."""
        state = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "module"}
        return {**state, "device": self.device.type, "weights": pack_state(self.module.state_dict(), {})}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Rebuild the module, on the device it was on where this machine has one."""
        with pinned(0):
            module = state["spec"].build()
        module.load_state_dict(unpack_state(state.pop("weights"))[1])
        place = device_or_cpu(state["device"])
        for name, value in {**state, "device": place, "module": module.to(place).eval()}.items():
            object.__setattr__(self, name, value)

    def state_bytes(self) -> bytes:
        """Return weights and all else that `from_state` needs, without the class."""
        header = {
            "spec": self.spec.to_json(),
            "task": self.task.to_json(),
            "head": self.head.to_json(),
            "penultimate": None if self.penultimate is None else str(self.penultimate),
            "penultimate_problem": self.penultimate_problem,
            "report": asdict(self.report),
        }
        return pack_state(self.module.state_dict(), header)

    @classmethod
    def from_state(
        cls,
        data: bytes,
        net: Callable[..., nn.Module],
        *,
        device: str = "cpu",
        threads: int | None = None,
        check: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> FittedNet:
        """Rebuild a net from its bytes and its class; `check` raises what there is to say of its params.

        Raises
        ------
        MemberError
            If the bytes are damaged, or are not of this class.
        """
        parsed, state = unpack_state(data)
        header = structured(_Header, parsed, "the header of a net")
        spec = NetSpec.from_json(header.spec, net)
        if check is not None:
            check(spec.params)
        with pinned(0):
            module = spec.build()
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise MemberError(
                f"stored weights must be of {type(module).__name__}; got others "
                f"({' '.join(str(error).split())[:300]}); train the member again"
            ) from error
        place, where = pick_device(device), header.penultimate
        return cls(
            module=module.to(place).eval(),
            spec=spec,
            task=Task.from_json(header.task),
            head=header.head,
            penultimate=None if where is None else parse_tap(module, where),
            penultimate_problem=header.penultimate_problem,
            report=header.report,
            device=place,
            threads=threads,
        )


@dataclass(frozen=True)
class _Header:
    """What `FittedNet.state_bytes` writes beside the weights."""

    spec: dict[str, Any]
    task: dict[str, Any]
    head: Head
    penultimate: str | None
    penultimate_problem: str
    report: TrainReport


def arrange(module: nn.Module, spec: NetSpec, arrays: Arrays) -> tuple[Column, ...]:
    """Return arrays as tensors (lazy ones unread) in the order of ``forward``'s arguments.

    Raises
    ------
    UsageError
        If arrays differ in their number of rows, or from `spec.input_names` in number.
    """
    lengths = [len(array) for array in arrays]
    if not lengths or len(set(lengths)) > 1:
        raise UsageError(f"arrays must have equally many rows; got n_rows={lengths}; give a row per sample")
    if spec.input_names and len(spec.input_names) != len(arrays):
        raise UsageError(
            f"there must be an array for each of {list(spec.input_names)}; got {len(arrays)} arrays; "
            "give them in that order"
        )
    order = input_order(module, spec.input_names, spec.optional) if spec.input_names else range(len(arrays))
    return tuple(to_column(arrays[index]) for index in order)
