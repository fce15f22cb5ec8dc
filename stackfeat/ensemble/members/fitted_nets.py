"""Trained nets of one fold: what they say of rows, and what forward is given for them.

In:  raw inputs, the preparation that the fold's training rows gave.
Out: predictions; each tap encoded within its fold; activations kept for alignment over the folds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from stackfeat.data.arrays import ArrayInput
from stackfeat.data.prepare import ArrayPrepare, NetPrepare
from stackfeat.data.samples import Table
from stackfeat.ensemble.members.tap_encoders import (
    Encoders,
    TapReader,
    encode,
    save_encoders,
    tap_arrays,
)
from stackfeat.errors import MemberError
from stackfeat.features.member import Rows
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import NetOptions
from stackfeat.store import EntryWriter
from stackfeat.structure import must
from stackfeat.task import Task

Prepared = dict[str, NetPrepare | ArrayPrepare]
Arrays = list[np.ndarray]


@dataclass(frozen=True)
class NetState:
    """What is stored beside the nets of a fold.

    Attributes
    ----------
    n : int
        Nets.
    prepare : tuple of str
        Inputs, in their order.
    encoders : tuple of mapping of str to tuple of str
        For each net, the arrays of each ``PART@ENCODING``.
    arrays : tuple of str
        Inputs that are arrays; the others are tables.
    """

    n: int
    prepare: tuple[str, ...]
    encoders: tuple[Mapping[str, tuple[str, ...]], ...]
    arrays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        must(1 <= self.n == len(self.encoders), "net.json", "name encoders of each net", self.n)


@dataclass(frozen=True)
class FittedNets:
    """The nets of one fold, one for each seed."""

    options: NetOptions
    task: Task
    prepare: Prepared
    nets: tuple[FittedNet, ...]
    encoders: tuple[Encoders, ...]
    predicts: bool = True

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        reader = TapReader.of(self.options)
        read = [reader.read(net, arrays) for net in self.nets]
        columns = encode(reader.taps, self.encoders, [caught for _, caught in read])
        if not self.predicts:
            return columns
        return {self.task.output: np.mean([prediction for prediction, _ in read], axis=0), **columns}

    def activations(self, rows: Rows, encodings: Collection[str]) -> dict[str, np.ndarray]:
        """Return ``tap/PART/NET`` for the taps that have one of these encodings."""
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        reader = TapReader.of(self.options, encodings)
        return tap_arrays(reader.taps, [reader.read(net, arrays)[1] for net in self.nets])

    def save(self, writer: EntryWriter) -> None:
        encoders = save_encoders(self.encoders, writer)
        arrays = [name for name, prepare in self.prepare.items() if isinstance(prepare, ArrayPrepare)]
        state = {"n": len(self.nets), "prepare": list(self.prepare), "encoders": encoders}
        writer.json("net", state | ({"arrays": arrays} if arrays else {}))
        for name, prepare in self.prepare.items():
            writer.bytes(f"prepare.{name}", prepare.to_bytes())
        for i, net in enumerate(self.nets):
            writer.bytes(f"net.{i}.safetensors", net.state_bytes())

    def report(self) -> dict[str, Any]:
        return {
            "penultimate": str(self.nets[0].penultimate) if self.nets[0].penultimate else None,
            "epochs": [net.report.epochs for net in self.nets],
            "retries": [net.report.retries for net in self.nets],
            "loss": [round(float(net.report.losses[-1]), 6) for net in self.nets if net.report.losses],
        }


def lengths_names(rows: Rows) -> dict[str, str]:
    """Return what the lengths of each padded input are called: ``lengths``, or ``NAME_lengths`` of several."""
    padded = [n for n, v in rows.inputs.items() if isinstance(v, ArrayInput) and v.lengths is not None]
    return {name: "lengths" if len(padded) == 1 else f"{name}_lengths" for name in padded}


def net_arrays(rows: Rows, prepare: Prepared, takes_codes: bool) -> tuple[Arrays, tuple[str, ...]]:
    """Return what ``forward`` is given, and a name for each array.

    Raises
    ------
    MemberError
        If a class takes category codes of several tables at once.
    """
    if takes_codes:
        if len(prepare) != 1 or len(rows.inputs) != 1:
            raise MemberError(
                f"a net that accepts categories reads one table; got the inputs {sorted(rows.inputs)}"
            )
        ((name, fitted),) = prepare.items()
        if not isinstance(fitted, NetPrepare):
            raise MemberError(
                f"a net that accepts categories reads a table; got the array {name!r}; use a net for arrays, or "
                f"kind: table"
            )
        return list(fitted.transform(cast(Table, rows.inputs[name]))), ("numeric", "codes")
    arrays: Arrays = []
    names: list[str] = []
    lengths = lengths_names(rows)
    for name, values in rows.inputs.items():
        names.append(name)
        own = prepare.get(name)
        if isinstance(values, Table) and isinstance(own, NetPrepare):
            numeric, codes = own.transform(values)
            arrays.append(np.hstack([numeric, own.one_hot(codes)]) if codes.shape[1] else numeric)
        elif isinstance(values, ArrayInput) and isinstance(own, ArrayPrepare):
            # A lazy view is indexed like an array; training reads it piece by piece.
            arrays.append(cast(np.ndarray, own.transform(values)))
            if values.lengths is not None:
                names.append(lengths[name])
                arrays.append(values.lengths)
        else:
            arrays.append(cast(np.ndarray, values))
    return arrays, tuple(names)
