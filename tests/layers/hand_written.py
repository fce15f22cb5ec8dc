"""Layers read by plain hooks, written here, as an oracle for what the package reads.

In:  a net in eval mode and its arguments by name.
Out: what each layer returned, and how many layers the package reads to the same numbers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

import stackfeat as sf

Inputs = dict[str, Tensor]
Count = Callable[[str, object], None]
"""pytest's `record_property`."""


def count_of(library: str, record_property: Count, **counts: int) -> None:
    """Note what a test compared; sums over all tests stand in the last lines of a run."""
    for name, n in counts.items():
        record_property(f"counted {library}: {name}", n)


def first_of(value: Any) -> Tensor | None:
    """Return the first tensor of nested tuples, lists, dicts and dataclasses."""
    if isinstance(value, Tensor):
        return value
    parts: Any = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, tuple | list):
        parts = value
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, part.name) for part in fields(value)]
    return next((found for part in parts if (found := first_of(part)) is not None), None)


def read_by_hand(net: nn.Module, inputs: Inputs, side: str = "output") -> dict[str, Tensor]:
    """Return a copy of what each layer returned, or was given first, at its last call."""
    read: dict[str, Tensor] = {}

    def keep(name: str, value: Any) -> None:
        tensor = first_of(value)
        if tensor is not None:
            read[name] = tensor.clone()

    handles = []
    for name, layer in net.named_modules():
        if not name:
            continue
        if side == "output":
            handles.append(layer.register_forward_hook(lambda m, a, output, name=name: keep(name, output)))
        else:
            handles.append(
                layer.register_forward_pre_hook(
                    lambda m, a, k, name=name: keep(name, [*a, *k.values()]), with_kwargs=True
                )
            )
    with torch.no_grad():
        net(**inputs)
    for handle in handles:
        handle.remove()
    return read


def check_every_layer(net: nn.Module, inputs: Inputs) -> Counter[str]:
    """Assert that every layer that a plain hook hears is read to the same numbers, and count them.

    ``tapped`` gives the same bits. ``extract`` is asked for all layers with a row for each sample, and gives the
    same numbers to rounding: it may lay images out otherwise.
    """
    n_rows = len(next(iter(inputs.values())))
    fewer = {name: values[: n_rows - 1] for name, values in inputs.items()}
    by_hand, of_fewer = read_by_hand(net, inputs), read_by_hand(net, fewer)
    names = list(by_hand)
    with torch.no_grad(), sf.tapped(net, names) as caught:
        net(**inputs)
    for name in names:
        torch.testing.assert_close(caught[name], by_hand[name], rtol=0, atol=0, equal_nan=True, msg=name)
    del caught
    counts = Counter(tapped=len(names))
    rows = {}
    for name in names:
        if (values := rows_of(by_hand[name], of_fewer.get(name), n_rows)) is not None:
            rows[name] = values
    for group in grouped(rows):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            extracted = sf.extract(net, dict(inputs), group, pool="none", batch_size=n_rows, device="cpu")
        for name in group:
            found = torch.from_numpy(extracted[name]).reshape(n_rows, -1)
            scale = float(rows[name].abs().max()) or 1.0
            torch.testing.assert_close(
                found, rows[name], rtol=1e-4, atol=1e-5 * scale, equal_nan=True, msg=name
            )
    counts["extracted"] = len(rows)
    return counts


def grouped(rows: dict[str, Tensor], most: int = 50_000_000) -> Iterator[list[str]]:
    """Yield names of layers whose values are few enough to be held for several passes at once."""
    group: list[str] = []
    n_held = 0
    for name, values in rows.items():
        if group and n_held + values.numel() > most:
            yield group
            group, n_held = [], 0
        group.append(name)
        n_held += values.numel()
    if group:
        yield group


def rows_of(values: Tensor, fewer: Tensor | None, n_rows: int) -> Tensor | None:
    """Return values with a row for each sample, in float32; None where there is none."""
    if fewer is None or fewer.ndim != values.ndim or values.is_complex():
        return None
    grown = [axis for axis in range(values.ndim) if values.shape[axis] != fewer.shape[axis]]
    if len(grown) != 1 or values.shape[grown[0]] * (n_rows - 1) != fewer.shape[grown[0]] * n_rows:
        return None
    if grown[0] and values.shape[grown[0]] != n_rows:
        return None
    rows = values.movedim(grown[0], 0).reshape(n_rows, -1).float()
    alone = fewer.movedim(grown[0], 0).reshape(n_rows - 1, -1).float()
    # What a router sends to an expert has as many rows only by chance, and others with each batch.
    return rows if torch.allclose(rows[:-1], alone, rtol=1e-4, atol=1e-5, equal_nan=True) else None
