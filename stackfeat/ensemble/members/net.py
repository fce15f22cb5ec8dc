"""Nets as members: trained in every fold, read at their taps, encoded within their own fold.

In:  raw inputs. Tables are prepared fold by fold; a class with ``accepts_categories`` gets
     numbers and category codes, any other class one float tensor.
Out: predictions; each tap encoded within its fold; activations kept for alignment over the folds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from stackfeat.data.prepare import NetPrepare
from stackfeat.data.samples import Table
from stackfeat.ensemble.members.tap_encoders import (
    Encoders,
    TapReader,
    encode,
    fit_encoders,
    load_encoders,
    save_encoders,
    tap_arrays,
)
from stackfeat.errors import MemberError, TapError
from stackfeat.features.member import FitContext, Rows
from stackfeat.lookup import resolve
from stackfeat.nets.at_once import Job, fit_nets_at_once
from stackfeat.nets.build import NetSpec, accepts_categories
from stackfeat.nets.copies import ModuleCopies
from stackfeat.nets.fit import untrained_net
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import NetOptions
from stackfeat.nets.snapshots import Snapshots
from stackfeat.nets.taps import Tap
from stackfeat.seeds import derive_seed
from stackfeat.store import Entry, EntryWriter
from stackfeat.tables import NETS
from stackfeat.task import Task


@dataclass(frozen=True)
class NetMember:
    """A net before `fit`.

    Attributes
    ----------
    options : NetOptions
    trust_code : bool
    factory : callable or None
        What builds the net, where it is given as an object and ``options.net`` is no more than its name.
    start : FittedNets or None
        Nets that training goes on from, with the preparation of rows that they learnt.
    """

    options: NetOptions
    trust_code: bool = False
    factory: Any = None
    start: FittedNets | None = None

    def fit(self, rows: Rows, context: FitContext) -> FittedNets:
        cls = self._class()
        prepare = self._prepare(rows, context.seed) if self.start is None else self.start.prepare
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        spec = self._spec(cls, prepare, arrays, names, context.task)
        train = self.options.train
        inner = None if train.stopping == "fixed" else context.inner(train.validation_fraction)
        jobs = [Job(arrays, context.y, seed, context.weight) for seed in _seeds(context)]
        nets = tuple(
            net
            for one, part in self._starts(spec, jobs)
            for net in fit_nets_at_once(
                one,
                part,
                options=train,
                task=context.task,
                metric_loss=context.settings["loss"],
                threads=int(context.settings["threads"]),
                device=context.settings["device"],
                inner=inner,
                snapshots=None if context.scratch is None else Snapshots(context.scratch, "net"),
            )
        )
        anchors = None
        if context.anchors is not None:
            anchors = net_arrays(context.anchors, prepare, accepts_categories(cls))[0]
        encoders = tuple(fit_encoders(net, self.options, arrays, context.y, anchors, context) for net in nets)
        return FittedNets(self.options, context.task, prepare, nets, encoders)

    def _starts(self, spec: NetSpec, jobs: list[Job]) -> list[tuple[NetSpec, list[Job]]]:
        """Return jobs with the net they start from: a fresh one for all, or each that of an earlier fit."""
        if self.start is None:
            return [(spec, jobs)]
        before = [net.module for net in self.start.nets]
        return [
            (replace(spec, cls=ModuleCopies(before[i % len(before)]), params={}), [job])
            for i, job in enumerate(jobs)
        ]

    def untrained(self, rows: Rows, task: Task, seed: int) -> tuple[Any, list[np.ndarray]]:
        """Return the net as `fit` would build it, and what ``forward`` is given for `rows`."""
        spec, arrays = self._unfitted(rows, task, seed)
        return spec.on_rows(arrays).build(), arrays

    def layers_of_patterns(self, rows: Rows, task: Task, seed: int) -> dict[str, list[str]]:
        """Return the layers that each tap pattern without `last` means, first run first.

        Raises
        ------
        TapError
            If none of the layers that match runs.
        """
        spec, arrays = self._unfitted(rows, task, seed)
        net = untrained_net(spec, arrays, task=task, seed=seed)
        patterns = [tap.tap for tap in self.options.taps() if tap.is_open]
        found = {
            text: [str(tap) for tap in net.layers_in_order(Tap.parse(text), arrays)] for text in patterns
        }
        for text, layers in found.items():
            if not layers:
                raise TapError(f"a tap must mean a layer that runs; got {text!r}, which means none")
        return found

    def reference(
        self, rows: Rows, task: Task, seed: int, settings: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Return activations of a net that saw no label, by ``tap/PART``, float32 (n_rows, d)."""
        spec, arrays = self._unfitted(rows, task, seed)
        threads, device = int(settings["threads"]), settings["device"]
        net = untrained_net(spec, arrays, task=task, seed=seed, threads=threads, device=device)
        caught = TapReader.of(self.options, ("reference",)).read(net, arrays)[1]
        return {f"tap/{part}": values for part, values in caught.items()}

    def _unfitted(self, rows: Rows, task: Task, seed: int) -> tuple[NetSpec, list[np.ndarray]]:
        """Return what a net is made of and its inputs, prepared on these very rows."""
        cls = self._class()
        prepare = self._prepare(rows, seed)
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        return self._spec(cls, prepare, arrays, names, task), arrays

    def _prepare(self, rows: Rows, seed: int) -> dict[str, NetPrepare]:
        return {
            name: NetPrepare().fit(table, scaling=self.options.scaling, seed=seed)
            for name, table in rows.inputs.items()
            if isinstance(table, Table)
        }

    def load(self, entry: Entry, task: Task, settings: Mapping[str, Any]) -> FittedNets:
        state = entry.json("net")
        prepare = {name: NetPrepare.from_bytes(entry.bytes(f"prepare.{name}")) for name in state["prepare"]}
        nets = tuple(
            FittedNet.from_state(
                entry.bytes(f"net.{i}.safetensors"),
                self._class(),
                device=settings["device"],
                threads=int(settings["threads"]),
            )
            for i in range(state["n"])
        )
        encoders = load_encoders(entry, state["encoders"], task)
        return FittedNets(self.options, task, prepare, nets, encoders)

    def _class(self) -> Any:
        if self.factory is not None:
            return self.factory
        return cast(
            Any, resolve(self.options.net, NETS, "net", packages=("stackfeat",), trust_code=self.trust_code)
        )

    def _spec(
        self,
        cls: Any,
        prepare: Mapping[str, NetPrepare],
        arrays: list[np.ndarray],
        names: tuple[str, ...],
        task: Task,
    ) -> NetSpec:
        takes_codes = accepts_categories(cls)
        cardinalities = tuple(c for p in prepare.values() for c in p.cardinalities) if takes_codes else ()
        widths = [p.n_numeric if takes_codes else p.n_numeric + p.n_one_hot for p in prepare.values()]
        return NetSpec(
            cls=cls,
            params=self.options.params,
            n_features=sum(widths),
            n_outputs=task.n_outputs,
            cardinalities=cardinalities,
            shapes={name: tuple(array.shape[1:]) for name, array in zip(names, arrays, strict=True)},
            input_names=() if takes_codes else names,
            output=self.options.output,
        )


@dataclass(frozen=True)
class FittedNets:
    """The nets of one fold, one for each seed."""

    options: NetOptions
    task: Task
    prepare: dict[str, NetPrepare]
    nets: tuple[FittedNet, ...]
    encoders: tuple[Encoders, ...]

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        reader = TapReader.of(self.options)
        read = [reader.read(net, arrays) for net in self.nets]
        prediction = np.mean([prediction for prediction, _ in read], axis=0)
        return {
            self.task.output: prediction,
            **encode(reader.taps, self.encoders, [caught for _, caught in read]),
        }

    def activations(self, rows: Rows, encodings: Collection[str]) -> dict[str, np.ndarray]:
        """Return ``tap/PART/NET`` for the taps that have one of these encodings."""
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        reader = TapReader.of(self.options, encodings)
        return tap_arrays(reader.taps, [reader.read(net, arrays)[1] for net in self.nets])

    def save(self, writer: EntryWriter) -> None:
        encoders = save_encoders(self.encoders, writer)
        writer.json("net", {"n": len(self.nets), "prepare": list(self.prepare), "encoders": encoders})
        for name, prepare in self.prepare.items():
            writer.bytes(f"prepare.{name}", prepare.to_bytes())
        for i, net in enumerate(self.nets):
            writer.bytes(f"net.{i}.safetensors", net.state_bytes())

    def report(self) -> dict[str, Any]:
        return {
            "penultimate": str(self.nets[0].penultimate) if self.nets[0].penultimate else None,
            "epochs": [net.report.epochs for net in self.nets],
            "retries": [net.report.retries for net in self.nets],
            "loss": [round(float(net.report.losses[-1]), 6) for net in self.nets],
        }


def net_arrays(
    rows: Rows, prepare: Mapping[str, NetPrepare], takes_codes: bool
) -> tuple[list[np.ndarray], tuple[str, ...]]:
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
        return list(fitted.transform(cast(Table, rows.inputs[name]))), ("numeric", "codes")
    arrays = []
    for name, values in rows.inputs.items():
        if isinstance(values, Table):
            numeric, codes = prepare[name].transform(values)
            values = np.hstack([numeric, prepare[name].one_hot(codes)]) if codes.shape[1] else numeric
        arrays.append(values)
    return arrays, tuple(rows.inputs)


def _seeds(context: FitContext) -> list[int]:
    n_seeds = int(context.settings["seeds"])
    return [context.seed if i == 0 else derive_seed(context.seed, "seed", i) for i in range(n_seeds)]
