"""From the taps of a net member to its feature blocks.

In:  the options of its taps, a fitted net, rows.
Out: activations by part, encoders fitted on a fold's training rows, columns by output name. A tap has
     one part, or with ``combine: each`` one for each of its layers, encoded alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from stackfeat.encodings import CROSS_FOLD, PER_FOLD
from stackfeat.encodings.encoding import PerFold, mean_over_nets
from stackfeat.encodings.options import TapOptions
from stackfeat.errors import TapError
from stackfeat.layers.taps.tap import Tap, parse_tap
from stackfeat.nets.fitted import FittedNet
from stackfeat.store import Entry, EntryWriter
from stackfeat.structure import must
from stackfeat.tasks.task import Task

Encoders = dict[str, PerFold]
Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class TapReader:
    """How the taps of a member are read in any of its nets."""

    taps: tuple[TapOptions, ...]

    @classmethod
    def of(cls, taps: Sequence[TapOptions], encodings: Collection[str] | None = None) -> TapReader:
        """Return a reader of all these taps, or of those that have one of the encodings."""
        return cls(
            tuple(tap for tap in taps if encodings is None or any(name in encodings for name in tap.encode))
        )

    def places(self, net: FittedNet, arrays: Arrays) -> dict[str, Tap]:
        """Return where each part is read in a net.

        Raises
        ------
        TapError
            If fewer layers match than ``last`` says where each is encoded alone.
        """
        places: dict[str, Tap] = {}
        for tap in self.taps:
            parsed = parse_tap(net.module, tap.tap, pool=tap.pool)
            if tap.n_parts == 1:
                how = {} if tap.last is None else {"last": tap.last, "combine": cast(Any, tap.combine)}
                places[tap.key] = replace(parsed, **how)
                continue
            layers = net.layers_in_order(parsed, arrays)
            if len(layers) < tap.n_parts:
                raise TapError(
                    f"tap {tap.tap!r} must mean at least last={tap.n_parts} layers; got {len(layers)} "
                    f"({', '.join(map(str, layers))}); lower last"
                )
            places |= dict(zip(tap.parts, layers[-tap.n_parts :], strict=True))
        return places

    def read(self, net: FittedNet, arrays: Arrays) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return predictions and activations by part."""
        return net.read(arrays, self.places(net, arrays))

    def embed(self, net: FittedNet, arrays: Arrays) -> dict[str, np.ndarray]:
        """Return activations by part."""
        return net.embed(arrays, self.places(net, arrays))


def wanted_taps(taps: Sequence[TapOptions], wanted: Collection[str]) -> list[TapOptions]:
    """Return the taps that give some of these outputs, with those encodings alone."""
    kept = {tap.key: [name for name in tap.encode if f"{tap.key}@{name}" in wanted] for tap in taps}
    return [tap.model_copy(update={"encode": kept[tap.key]}) for tap in taps if kept[tap.key]]


def fit_encoders(
    net: FittedNet,
    taps: Sequence[TapOptions],
    arrays: Arrays,
    y: np.ndarray,
    anchors: Arrays | None,
    task: Task,
    seed: int,
) -> Encoders:
    """Fit every encoding within the fold's own space on its training rows."""
    reader = TapReader.of(taps, PER_FOLD)
    if not reader.taps:
        return {}
    embeddings = reader.embed(net, arrays)
    anchored = {} if anchors is None else reader.embed(net, anchors)
    return {
        f"{part}@{name}": PER_FOLD[name].fit(embeddings[part], y, task, seed=seed, anchors=anchored.get(part))
        for tap in reader.taps
        for name in tap.encode
        if name in PER_FOLD
        for part in tap.parts
    }


def encode(
    taps: Sequence[TapOptions],
    encoders: Sequence[Encoders],
    caught: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Return columns by output name; activations that are aligned later go by ``tap/PART/NET``."""
    outputs: dict[str, np.ndarray] = {}
    for tap in taps:
        for name in tap.encode:
            if name in CROSS_FOLD:
                outputs |= tap_arrays([tap], caught)
                continue
            parts = [
                [
                    fitted[f"{part}@{name}"].transform(rows[part])
                    for fitted, rows in zip(encoders, caught, strict=True)
                ]
                for part in tap.parts
            ]
            join = mean_over_nets if PER_FOLD[name].has_common_columns else np.hstack
            joined = [join(nets) for nets in parts]
            outputs[f"{tap.key}@{name}"] = np.hstack(joined)
    return outputs


def tap_arrays(
    taps: Sequence[TapOptions], caught: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return activations by ``tap/PART/NET``."""
    return {
        f"tap/{part}/{net}": rows[part]
        for tap in taps
        for part in tap.parts
        for net, rows in enumerate(caught)
    }


def save_encoders(encoders: Sequence[Encoders], writer: EntryWriter) -> list[dict[str, list[str]]]:
    """Write what the encoders of each net learnt; return the names of their arrays."""
    named = []
    for i, fitted in enumerate(encoders):
        arrays = {key: encoder.arrays() for key, encoder in fitted.items()}
        for key, values in arrays.items():
            for name, array in values.items():
                writer.array(f"encoder/{i}/{key}/{name}", array)
        named.append({key: sorted(values) for key, values in arrays.items()})
    return named


def load_encoders(
    entry: Entry, named: Sequence[Mapping[str, Sequence[str]]], task: Task
) -> tuple[Encoders, ...]:
    """Read what `save_encoders` wrote."""
    for key in (key for fitted in named for key in fitted):
        encoding = key.rpartition("@")[2]
        must(encoding in PER_FOLD, "net.json.encoders", f"be of {', '.join(PER_FOLD)}", key)
    return tuple(
        {
            key: PER_FOLD[key.rpartition("@")[2]].from_arrays(
                {name: entry.array(f"encoder/{i}/{key}/{name}") for name in names}, task
            )
            for key, names in fitted.items()
        }
        for i, fitted in enumerate(named)
    )
