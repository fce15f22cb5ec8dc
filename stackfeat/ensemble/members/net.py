"""Nets as members: trained in every fold, read at their taps, encoded within their own fold.

In:  raw inputs. Tables are prepared fold by fold; a class with ``accepts_categories`` gets
     numbers and category codes, any other class one float tensor.
Out: predictions; geometry of each tap; activations kept for alignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from stackfeat.data.prepare import NetPrepare
from stackfeat.data.samples import Table
from stackfeat.errors import MemberError
from stackfeat.features.encodings.geometry import Geometry
from stackfeat.features.member import FitContext, Rows
from stackfeat.lookup import resolve
from stackfeat.nets.build import NetSpec, accepts_categories
from stackfeat.nets.fit import fit_net
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import NetOptions, TapOptions
from stackfeat.nets.taps import Tap
from stackfeat.seeds import derive_seed
from stackfeat.store import Entry, EntryWriter
from stackfeat.tables import NETS
from stackfeat.task import Task


@dataclass(frozen=True)
class NetMember:
    """A net before `fit`."""

    options: NetOptions
    trust_code: bool = False

    def fit(self, rows: Rows, context: FitContext) -> FittedNets:
        cls = self._class()
        prepare = {
            name: NetPrepare().fit(table, scaling=self.options.scaling, seed=context.seed)
            for name, table in rows.inputs.items()
            if isinstance(table, Table)
        }
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        spec = self._spec(cls, prepare, arrays, names, context.task)
        train = self.options.train
        inner = None if train.stopping == "fixed" else context.inner(train.validation_fraction)
        nets = tuple(
            fit_net(
                spec,
                arrays,
                context.y,
                context.weight,
                options=train,
                task=context.task,
                metric_loss=context.settings["loss"],
                seed=seed,
                threads=int(context.settings["threads"]),
                device=context.settings["device"],
                inner=inner,
            )
            for seed in _seeds(context)
        )
        fitted = FittedNets(self.options, context.task, prepare, nets, ({},) * len(nets))
        geometry = tuple(self._geometry(net, arrays, context) for net in nets)
        return replace(fitted, geometry=geometry)

    def untrained(self, rows: Rows, task: Task, seed: int) -> tuple[Any, list[np.ndarray]]:
        """Return the net as `fit` would build it, and what ``forward`` is given for `rows`."""
        cls = self._class()
        prepare = {
            name: NetPrepare().fit(table, scaling=self.options.scaling, seed=seed)
            for name, table in rows.inputs.items()
            if isinstance(table, Table)
        }
        arrays, names = net_arrays(rows, prepare, accepts_categories(cls))
        return self._spec(cls, prepare, arrays, names, task).build(), arrays

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
        geometry = tuple(
            {
                tap: Geometry.from_arrays(
                    {name: entry.array(f"geometry/{i}/{tap}/{name}") for name in names}, task
                )
                for tap, names in named.items()
            }
            for i, named in enumerate(state["geometry"])
        )
        return FittedNets(self.options, task, prepare, nets, geometry)

    def _class(self) -> Any:
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

    def _geometry(self, net: FittedNet, arrays: list[np.ndarray], context: FitContext) -> dict[str, Geometry]:
        taps = {_key(tap): _tap(tap) for tap in self.options.taps() if "geometry" in tap.encode}
        if not taps:
            return {}
        embeddings = net.embed(arrays, taps)
        return {
            key: Geometry.fit(embedding, context.y, context.task, seed=context.seed)
            for key, embedding in embeddings.items()
        }


@dataclass(frozen=True)
class FittedNets:
    """The nets of one fold, one for each seed."""

    options: NetOptions
    task: Task
    prepare: dict[str, NetPrepare]
    nets: tuple[FittedNet, ...]
    geometry: tuple[dict[str, Geometry], ...]

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        taps = {_key(tap): _tap(tap) for tap in self.options.taps()}
        read = [net.read(arrays, taps) for net in self.nets]
        outputs: dict[str, np.ndarray] = {
            self.task.output: np.mean([prediction for prediction, _ in read], axis=0)
        }
        for tap in self.options.taps():
            outputs |= self._encode(tap, [caught[_key(tap)] for _, caught in read])
        return outputs

    def _encode(self, tap: TapOptions, embeddings: list[np.ndarray]) -> dict[str, np.ndarray]:
        key = _key(tap)
        outputs: dict[str, np.ndarray] = {}
        if "geometry" in tap.encode:
            parts = [
                geometry[key].transform(rows)
                for geometry, rows in zip(self.geometry, embeddings, strict=True)
            ]
            outputs[f"{key}@geometry"] = np.asarray(np.mean(parts, axis=0, dtype=np.float32))
        if "raw" in tap.encode:
            outputs[f"{key}@raw"] = np.hstack(embeddings)
        if "aligned" in tap.encode:
            outputs |= {f"tap/{key}/{seed}": rows for seed, rows in enumerate(embeddings)}
        return outputs

    def save(self, writer: EntryWriter) -> None:
        named = [{tap: sorted(g.arrays()) for tap, g in geometry.items()} for geometry in self.geometry]
        writer.json("net", {"n": len(self.nets), "prepare": list(self.prepare), "geometry": named})
        for name, prepare in self.prepare.items():
            writer.bytes(f"prepare.{name}", prepare.to_bytes())
        for i, net in enumerate(self.nets):
            writer.bytes(f"net.{i}.safetensors", net.state_bytes())
        for i, geometry in enumerate(self.geometry):
            for tap, fitted in geometry.items():
                for name, values in fitted.arrays().items():
                    writer.array(f"geometry/{i}/{tap}/{name}", values)

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


def _key(tap: TapOptions) -> str:
    return tap.name or tap.tap


def _tap(tap: TapOptions) -> Tap:
    return Tap.parse(tap.tap, pool=tap.pool)
