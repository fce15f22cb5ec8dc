"""Nets as members: trained in every fold, read at their taps, encoded within their own fold.

In:  raw inputs. Tables and arrays are prepared fold by fold; a class with ``accepts_categories`` gets
     numbers and category codes of a table, any other class one float tensor.
Out: the trained nets of a fold, with their predictions; each tap encoded within its fold; activations kept for
     alignment over the folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from stackfeat.data.prepare.net import ArrayPrepare, NetPrepare
from stackfeat.data.prepare.net_texts import TABLES, NetTokenPrepare
from stackfeat.data.samples import ArrayInput, Table
from stackfeat.encodings import CROSS_FOLD
from stackfeat.errors import DataError, MemberError, TapError
from stackfeat.layers.extraction.inputs import Column
from stackfeat.layers.taps.tap import parse_tap
from stackfeat.members.net_options import NetOptions
from stackfeat.members.protocol import FitContext
from stackfeat.members.settings import NetSettings
from stackfeat.members.tap_encoders import (
    Encoders,
    TapReader,
    encode,
    fit_encoders,
    load_encoders,
    save_encoders,
    tap_arrays,
    wanted_taps,
)
from stackfeat.meta.columns import Rows
from stackfeat.nets.build import TOKENS, NetSpec, accepts_categories, accepts_texts
from stackfeat.nets.copies import ModuleCopies
from stackfeat.nets.fitted import FittedNet, arrange
from stackfeat.nets.options import FEW_STEPS, Pace
from stackfeat.nets.outputs import Loss, TrainReport
from stackfeat.nets.training.batched import fit_nets
from stackfeat.nets.training.fit import TrainingSet, untrained_net
from stackfeat.nets.training.loop import Training
from stackfeat.nets.training.snapshots import Snapshots
from stackfeat.registry.names import NETS
from stackfeat.registry.parameters import net_problems, refuse_untrusted
from stackfeat.registry.resolve import resolve
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.task import Task

Prepared = dict[str, NetPrepare | ArrayPrepare]

Arrays = list[np.ndarray]
NetContext = FitContext[NetSettings]


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
    texts : mapping of str to {"columns", "tokens", "folder"}
        What texts become, of inputs that are tables with columns of text.
    """

    n: int
    prepare: tuple[str, ...]
    encoders: tuple[Mapping[str, tuple[str, ...]], ...]
    arrays: tuple[str, ...] = ()
    texts: Mapping[str, Literal["columns", "tokens", "folder"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        must(1 <= self.n == len(self.encoders), "net.json", "name encoders of each net", self.n)


@dataclass(frozen=True)
class FittedNets:
    """The nets of one fold, one for each seed.

    Attributes
    ----------
    wanted : frozenset of str or None
        The features that somebody reads, by the names of outputs; None: all.
    """

    options: NetOptions
    task: Task
    prepare: Prepared
    nets: tuple[FittedNet, ...]
    encoders: tuple[Encoders, ...]
    predicts: bool = True
    wanted: frozenset[str] | None = None

    def narrowed(self, wanted: Collection[str]) -> FittedNets:
        """Return the same nets, which emit no features but those of these outputs."""
        return replace(self, wanted=frozenset(wanted))

    def emit(self, rows: Rows) -> dict[str, np.ndarray]:
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        taps = self.options.taps()
        reader = TapReader.of(taps if self.wanted is None else wanted_taps(taps, self.wanted))
        if not self.predicts:
            return encode(reader.taps, self.encoders, [reader.embed(net, arrays) for net in self.nets])
        read = [reader.read(net, arrays) for net in self.nets]
        columns = encode(reader.taps, self.encoders, [caught for _, caught in read])
        return {self.task.output: np.mean([prediction for prediction, _ in read], axis=0), **columns}

    def with_encoders(self, arrays: Arrays, y: np.ndarray, anchors: Arrays | None, seed: int) -> FittedNets:
        """Return the nets with encoders of their taps, fitted on training rows as ``forward`` is given them."""
        encoders = tuple(
            fit_encoders(net, self.options.taps(), arrays, y, anchors, self.task, seed) for net in self.nets
        )
        return replace(self, encoders=encoders)

    def activations(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return ``tap/PART/NET`` for the taps whose fold spaces are aligned."""
        arrays, _ = net_arrays(rows, self.prepare, self.nets[0].spec.accepts_categories)
        reader = TapReader.of(self.options.taps(), CROSS_FOLD)
        return tap_arrays(reader.taps, [reader.embed(net, arrays) for net in self.nets])

    def save(self, writer: EntryWriter) -> None:
        encoders = save_encoders(self.encoders, writer)
        arrays = [name for name, prepare in self.prepare.items() if isinstance(prepare, ArrayPrepare)]
        state = {"n": len(self.nets), "prepare": list(self.prepare), "encoders": encoders}
        texts = {
            name: kind for name, own in self.prepare.items() for kind in TABLES if type(own) is TABLES[kind]
        }
        later = {"arrays": arrays, "texts": texts}
        writer.json("net", state | {name: value for name, value in later.items() if value})
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
            "curves": [_curves(net.report) for net in self.nets],
        }


def _curves(report: TrainReport) -> dict[str, list[float]]:
    """Losses by epoch, to the digits that a picture shows."""
    found = {"training": report.losses, "validation": report.validation_losses}
    return {rows: [float(f"{loss:.5g}") for loss in losses] for rows, losses in found.items()}


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
        table = cast(Table, rows.inputs[name])
        arrays: Arrays = list(fitted.transform(table))
        if isinstance(fitted, NetTokenPrepare):
            return [*arrays, fitted.tokens(table)], ("numeric", "codes", TOKENS)
        return arrays, ("numeric", "codes")
    arrays = []
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


def warn_of_few_steps(net: str, pace: Pace) -> None:
    """Warn where a net will hardly have learnt anything.

    Warns
    -----
    ConvergenceWarning
        If it makes fewer than `FEW_STEPS` steps.
    """
    if pace.n_steps < FEW_STEPS:
        warnings.warn(
            # Without the number of steps, which differs from fold to fold: then it is one warning.
            f"{net} is trained for fewer than {FEW_STEPS} steps, too few to learn much: epochs={pace.epochs}, "
            f"batch_size={pace.batch_size}; raise epochs, lower batch_size, or leave both to auto",
            ConvergenceWarning,
            stacklevel=2,
        )


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

    def fit(self, rows: Rows, context: NetContext) -> FittedNets:
        spec, arrays, prepare = self._unfitted(rows, context.task, context.seed)
        train = self.options.train
        if self.warm is None:
            warn_of_few_steps(self.options.net, train.pace(len(context.y)))
        training = Training(
            train,
            context.task,
            metric_loss=cast(Loss, context.settings.loss),
            threads=context.settings.threads,
            device=context.settings.device,
            inner=self.inner(context),
            snapshots=None if context.scratch is None else Snapshots(context.scratch, "net"),
        )
        nets = self.make_nets(spec, arrays, context, training)
        anchors = None
        if context.anchors is not None:
            anchors = net_arrays(context.anchors, prepare, spec.accepts_categories)[0]
        predicts = context.settings.predicts is not False
        fitted = FittedNets(self.options, context.task, prepare, nets, (), predicts)
        return fitted.with_encoders(arrays, context.y, anchors, context.seed)

    def inner(self, context: NetContext) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the inner split that training asks for; None where it asks for none, or may go without."""
        train, n_rows = self.options.train, len(context.y)
        if train.stopping == "fixed" and not train.searches_epochs(n_rows):
            return None
        try:
            return context.inner(train.validation_fraction)
        except DataError:
            if train.stopping != "fixed":
                raise
            return None

    def make_nets(
        self, spec: NetSpec, arrays: Arrays, context: NetContext, training: Training
    ) -> tuple[FittedNet, ...]:
        """Return a trained net for each seed: a fresh one, or one that goes on from an earlier fit."""
        sets = [
            TrainingSet(arrays, context.y, seed, context.weight)
            for seed in context.settings.seeds_from(context.seed)
        ]
        if self.warm is None:
            return tuple(fit_nets(spec, sets, training))
        before = [net.module for net in self.warm.nets]
        specs = [
            replace(spec, cls=ModuleCopies(before[i % len(before)]), params={}) for i in range(len(sets))
        ]
        return tuple(fit_nets(one, [data], training)[0] for one, data in zip(specs, sets, strict=True))

    def untrained(self, rows: Rows, task: Task, seed: int) -> tuple[Any, tuple[Column, ...]]:
        """Return the net as `fit` would build it, and what ``forward`` is given for `rows`."""
        spec, arrays, _ = self._unfitted(rows, task, seed)
        module = spec.on_rows(arrays).build()
        return module, arrange(module, spec, arrays)

    def layers_of_patterns(self, rows: Rows, task: Task, seed: int) -> dict[str, list[str]]:
        """Return the layers that each tap pattern without `last` means, first run first.

        Raises
        ------
        TapError
            If none of the layers that match runs.
        """
        spec, arrays, _ = self._unfitted(rows, task, seed)
        net = untrained_net(spec, arrays, task=task, seed=seed)
        patterns = [tap.tap for tap in self.options.taps() if tap.is_open]
        found = {
            text: [str(tap) for tap in net.layers_in_order(parse_tap(net.module, text), arrays)]
            for text in patterns
        }
        for text, layers in found.items():
            if not layers:
                raise TapError(f"a tap must mean a layer that runs; got {text!r}, which means none")
        return found

    def shapes(self, rows: Rows, task: Task, seed: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of a row of the output and of each tap, as an untrained net gives them.

        Raises
        ------
        MemberError
            If the net cannot be built, or its output does not fit the task.
        TapError, LayerNotFoundError
            If a tap cannot be read.
        """
        spec, arrays, _ = self._unfitted(rows, task, seed)
        net = untrained_net(spec, arrays, task=task, seed=seed)
        reader = TapReader.of(self.options.taps())
        if self.options.emits(task.output):
            prediction, caught = reader.read(net, arrays)
            caught = {task.output: prediction, **caught}
        else:
            caught = reader.embed(net, arrays)
        return {part: tuple(values.shape[1:]) for part, values in caught.items()}

    def reference(self, rows: Rows, task: Task, seed: int, settings: NetSettings) -> dict[str, np.ndarray]:
        """Return activations of a net that saw no label, by ``tap/PART``, float32 (n_rows, d)."""
        spec, arrays, _ = self._unfitted(rows, task, seed)
        threads, device = settings.threads, settings.device
        net = untrained_net(spec, arrays, task=task, seed=seed, threads=threads, device=device)
        encodings = [name for name, encoding in CROSS_FOLD.items() if encoding.needs_untrained]
        caught = TapReader.of(self.options.taps(), encodings).embed(net, arrays)
        return {f"tap/{part}": values for part, values in caught.items()}

    def _unfitted(self, rows: Rows, task: Task, seed: int) -> tuple[NetSpec, Arrays, Prepared]:
        """Return what a net is made of, its inputs, and how they were prepared: on these very rows, if not before."""
        cls = self._class()
        takes_codes = accepts_categories(cls)
        prepare = self._prepare(rows, seed) if self.warm is None else self.warm.prepare
        arrays, names = net_arrays(rows, prepare, takes_codes)
        tables = [p for p in prepare.values() if isinstance(p, NetPrepare)]
        cardinalities = tuple(c for p in tables for c in p.cardinalities) if takes_codes else ()
        widths = [p.n_numeric if takes_codes else p.n_numeric + p.n_one_hot for p in tables]
        optional = tuple(lengths_names(rows).values())
        tokens = {
            name: v.n_tokens
            for name, v in rows.inputs.items()
            if isinstance(v, ArrayInput) and v.kind == "tokens"
        }
        for own in tables:
            if isinstance(own, NetTokenPrepare):
                tokens[TOKENS] = own.n_tokens
        spec = NetSpec(
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
        return spec, arrays, prepare

    def _prepare(self, rows: Rows, seed: int) -> Prepared:
        prepare: Prepared = {}
        for name, values in rows.inputs.items():
            if isinstance(values, Table):
                kind = "tokens" if accepts_texts(self._class()) else "columns"
                cls = TABLES[kind] if values.text_names else NetPrepare
                prepare[name] = cls().fit(values, scaling=self.options.chosen_scaling, seed=seed)
            elif isinstance(values, ArrayInput):
                # Given weights know arrays as they are, or scaled by constants; not by moments of this fold.
                is_given = self.options.chosen_scaling == "none" and values.scaling == "standard"
                prepare[name] = ArrayPrepare().fit(replace(values, scaling="none") if is_given else values)
        return prepare

    def load(self, entry: Entry, task: Task, settings: NetSettings) -> FittedNets:
        state = entry.structure("net", NetState)
        kinds: dict[str, type[NetPrepare | ArrayPrepare]] = dict.fromkeys(state.arrays, ArrayPrepare)
        kinds |= {name: TABLES[kind] for name, kind in state.texts.items()}
        prepare: Prepared = {
            name: kinds.get(name, NetPrepare).from_bytes(entry.bytes(f"prepare.{name}"))
            for name in state.prepare
        }
        nets = tuple(
            FittedNet.from_state(
                entry.bytes(f"net.{i}.safetensors"),
                self._class(),
                device=settings.device,
                threads=settings.threads,
                check=self._check_params,
            )
            for i in range(state.n)
        )
        encoders = load_encoders(entry, state.encoders, task)
        predicts = settings.predicts is not False
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
