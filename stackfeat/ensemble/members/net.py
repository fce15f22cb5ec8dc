"""Nets as members: trained in every fold, read at their taps, encoded within their own fold.

In:  raw inputs. Tables and arrays are prepared fold by fold; a class with ``accepts_categories`` gets
     numbers and category codes of a table, any other class one float tensor.
Out: predictions; each tap encoded within its fold; activations kept for alignment over the folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from stackfeat.data.arrays import ArrayInput
from stackfeat.data.prepare import ArrayPrepare, NetPrepare
from stackfeat.data.samples import Table
from stackfeat.ensemble.members.fitted_nets import (
    Arrays,
    FittedNets,
    NetState,
    Prepared,
    lengths_names,
    net_arrays,
)
from stackfeat.ensemble.members.tap_encoders import (
    TapReader,
    fit_encoders,
    load_encoders,
)
from stackfeat.errors import TapError
from stackfeat.features.member import FitContext, Rows
from stackfeat.nets.at_once import Job, fit_nets_at_once
from stackfeat.nets.build import NetSpec, accepts_categories
from stackfeat.nets.copies import ModuleCopies
from stackfeat.nets.fit import InnerSplit, untrained_net
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import NetOptions
from stackfeat.nets.snapshots import Snapshots
from stackfeat.nets.taps import Tap
from stackfeat.registry.names import NETS
from stackfeat.registry.parameters import net_problems, refuse_untrusted
from stackfeat.registry.resolve import resolve
from stackfeat.seeds import derive_seed
from stackfeat.store import Entry
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
    warm : FittedNets or None
        Nets that training goes on from, with the preparation of rows that they learnt.
    """

    options: NetOptions
    trust_code: bool = False
    factory: Any = None
    warm: FittedNets | None = None

    def fit(self, rows: Rows, context: FitContext) -> FittedNets:
        cls = self._class()
        prepare = self._prepare(rows, context.seed) if self.warm is None else self.warm.prepare
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        spec = self._spec(cls, rows, prepare, arrays, names, context.task)
        train = self.options.train
        inner = None if train.stopping == "fixed" else context.inner(train.validation_fraction)
        nets = self.make_nets(spec, arrays, context, inner)
        anchors = None
        if context.anchors is not None:
            anchors = net_arrays(context.anchors, prepare, accepts_categories(cls))[0]
        encoders = tuple(fit_encoders(net, self.options, arrays, context.y, anchors, context) for net in nets)
        predicts = bool(context.settings.get("predicts", True))
        return FittedNets(self.options, context.task, prepare, nets, encoders, predicts)

    def make_nets(
        self, spec: NetSpec, arrays: Arrays, context: FitContext, inner: InnerSplit | None
    ) -> tuple[FittedNet, ...]:
        """Return a trained net for each seed."""
        jobs = [Job(arrays, context.y, seed, context.weight) for seed in seeds_of(context)]
        return tuple(
            net
            for one, part in self._starts(spec, jobs)
            for net in fit_nets_at_once(
                one,
                part,
                options=self.options.train,
                task=context.task,
                metric_loss=context.settings["loss"],
                threads=int(context.settings["threads"]),
                device=context.settings["device"],
                inner=inner,
                snapshots=None if context.scratch is None else Snapshots(context.scratch, "net"),
            )
        )

    def _starts(self, spec: NetSpec, jobs: list[Job]) -> list[tuple[NetSpec, list[Job]]]:
        """Return jobs with the net they start from: a fresh one for all, or each that of an earlier fit."""
        if self.warm is None:
            return [(spec, jobs)]
        before = [net.module for net in self.warm.nets]
        return [
            (replace(spec, cls=ModuleCopies(before[i % len(before)]), params={}), [job])
            for i, job in enumerate(jobs)
        ]

    def untrained(self, rows: Rows, task: Task, seed: int) -> tuple[Any, Arrays]:
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

    def _unfitted(self, rows: Rows, task: Task, seed: int) -> tuple[NetSpec, Arrays]:
        """Return what a net is made of and its inputs, prepared on these very rows."""
        cls = self._class()
        prepare = self._prepare(rows, seed)
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        return self._spec(cls, rows, prepare, arrays, names, task), arrays

    def _prepare(self, rows: Rows, seed: int) -> Prepared:
        prepare: Prepared = {}
        for name, values in rows.inputs.items():
            if isinstance(values, Table):
                prepare[name] = NetPrepare().fit(values, scaling=self.options.chosen_scaling, seed=seed)
            elif isinstance(values, ArrayInput):
                # Given weights know arrays as they are, or scaled by constants; not by moments of this fold.
                is_given = self.options.chosen_scaling == "none" and values.scaling == "standard"
                prepare[name] = ArrayPrepare().fit(replace(values, scaling="none") if is_given else values)
        return prepare

    def load(self, entry: Entry, task: Task, settings: Mapping[str, Any]) -> FittedNets:
        state = entry.structure("net", NetState)
        prepare: Prepared = {
            name: (ArrayPrepare if name in state.arrays else NetPrepare).from_bytes(
                entry.bytes(f"prepare.{name}")
            )
            for name in state.prepare
        }
        nets = tuple(
            FittedNet.from_state(
                entry.bytes(f"net.{i}.safetensors"),
                self._class(),
                device=settings["device"],
                threads=int(settings["threads"]),
                check=self._check_params,
            )
            for i in range(state.n)
        )
        encoders = load_encoders(entry, state.encoders, task)
        predicts = bool(settings.get("predicts", True))
        return FittedNets(self.options, task, prepare, nets, encoders, predicts)

    def _class(self) -> Any:
        if self.factory is not None:
            return self.factory
        self._check_params(self.options.params)
        return cast(Any, resolve(self.options.net, NETS, "net", packages=(), trust_code=self.trust_code))

    def _check_params(self, params: Mapping[str, Any]) -> None:
        """Raise TrustError where parameters, of the config or of a file, are no plain, bounded values."""
        if self.factory is None and not self.trust_code:
            refuse_untrusted(self.options.net, net_problems(self.options.net, params))

    def _spec(
        self,
        cls: Any,
        rows: Rows,
        prepare: Prepared,
        arrays: Arrays,
        names: tuple[str, ...],
        task: Task,
    ) -> NetSpec:
        takes_codes = accepts_categories(cls)
        tables = [p for p in prepare.values() if isinstance(p, NetPrepare)]
        cardinalities = tuple(c for p in tables for c in p.cardinalities) if takes_codes else ()
        widths = [p.n_numeric if takes_codes else p.n_numeric + p.n_one_hot for p in tables]
        optional = tuple(lengths_names(rows).values())
        tokens = {
            name: v.n_tokens
            for name, v in rows.inputs.items()
            if isinstance(v, ArrayInput) and v.kind == "tokens"
        }
        return NetSpec(
            cls=cls,
            params=self.options.params,
            n_features=sum(widths),
            n_outputs=task.n_outputs,
            cardinalities=cardinalities,
            shapes={
                name: tuple(array.shape[1:])
                for name, array in zip(names, arrays, strict=True)
                if name not in optional
            },
            vocabulary=tokens,
            input_names=() if takes_codes else names,
            optional=optional,
            output=self.options.output,
            output_item=self.options.output_item,
        )


def seeds_of(context: FitContext) -> list[int]:
    """Return a seed for each net of a fold."""
    n_seeds = int(context.settings["seeds"])
    return [context.seed if i == 0 else derive_seed(context.seed, "seed", i) for i in range(n_seeds)]
