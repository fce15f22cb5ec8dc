"""A table of a net's layers: what a tap may name, and what it would give.

In:  a module, and example arguments.
Out: a `LayerTable`, a row per layer and per mark.
     Also the layers that a pattern means, in execution order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError, continued, one_line
from stackfeat.layers.activations.call_trace import INFLUENCE, examine
from stackfeat.layers.activations.dry_run import preserve_state
from stackfeat.layers.activations.why_not_called import Witness, reason_of, weights_used, witness_pass
from stackfeat.layers.taps import Tap, resolve_taps
from stackfeat.layers.taps.hooks import Fired, HookSession, eager
from stackfeat.layers.taps.layers import canonical_names, named_layers, never_called, unwrap
from stackfeat.layers.taps.runtime import evaluating, plain_transformers
from stackfeat.layers.taps.tap import Read
from stackfeat.layers.taps.values import Leaf, first_tensor, parts
from stackfeat.registry.resolve import suggest

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = {"name": "name", "type": "type", "inputs": "inputs", "outputs": "outputs", "dtype": "dtype"}


HEADINGS |= {"calls": "calls", "problem": "cannot be tapped because it"}


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes
    ----------
    name : str
    type : str
        Its class, or ``mark``.
    inputs, outputs : str
        Shapes at the last call; empty where it was not called, or without an example.
    dtype : str
        Of the first tensor of its output.
    calls : int or None
        In one forward pass; None without an example.
    n_weights : int
        Of the layer and all inside it.
    aliases : tuple of str
        Other names of the same layer.
    problem : str
        Why it cannot be tapped; empty where it can.
    """

    name: str
    type: str
    inputs: str = ""
    outputs: str = ""
    dtype: str = ""
    calls: int | None = None
    n_weights: int = 0
    aliases: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, repr=False)
class LayerTable:
    """The layers of a net.

    Attributes
    ----------
    rows : tuple of LayerRow
        In the order of definition, marks last.
    model : str
        Class of the net.
    warning : str
        What is wrong with the whole net: rows that influence each other.
    """

    rows: tuple[LayerRow, ...]
    model: str
    warning: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names that can be tapped."""
        return tuple(row.name for row in self.rows if not row.problem)

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> LayerRow:
        for row in self.rows:
            if name == row.name or name in row.aliases:
                return row
        names = [row.name for row in self.rows]
        raise LayerNotFoundError(f"there must be a layer of that name; got {name!r}.{suggest(name, names)}")

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a DataFrame, a column per attribute of `LayerRow`."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows], columns=list(LayerRow.__dataclass_fields__))

    def __str__(self) -> str:
        columns = [
            key for key in HEADINGS if key in ("name", "type") or any(getattr(row, key) for row in self.rows)
        ]
        cells = [[HEADINGS[key] for key in columns]]
        for row in self.rows:
            shown = ["" if getattr(row, key) is None else one_line(getattr(row, key)) for key in columns]
            if row.aliases:
                shown[0] += f" (= {one_line(', '.join(row.aliases))})"
            cells.append(shown)
        widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in cells
        ]
        lines.insert(1, "  ".join("-" * width for width in widths[:-1]) + "  " + "-" * len(cells[0][-1]))
        return "\n".join(
            [
                f"{one_line(self.model)}: {len(self.names)} of {len(self.rows)} can be tapped",
                *lines,
                continued(self.warning),
            ]
        ).rstrip()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))


def list_layers(model: nn.Module, *example: Any, **kwargs: Any) -> LayerTable:
    """Return a table of the layers of a net.

    Parameters
    ----------
    model : nn.Module
        Is as before afterwards: modes, buffers, generators, hooks.
    *example, **kwargs
        Arguments of the net, of a few rows; without them the table has names and types only.

    Raises
    ------
    TapError
        If the net is scripted, has lazy layers without a shape, or does not run on the example.

    Examples
    --------
    >>> table = list_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.randn(2, 4))
    >>> table.names
    ('0', '1')
    >>> table["0"].outputs
    '(2, 3)'
    """
    whole, model = model, unwrap(model)
    layers = named_layers(model)
    first = canonical_names(layers)
    aliases: dict[str, list[str]] = {}
    for name, layer in layers.items():
        if first[id(layer)] != name:
            aliases.setdefault(first[id(layer)], []).append(name)
    names = [name for name, layer in layers.items() if name and first[id(layer)] == name]
    if not example and not kwargs:
        rows = [row_of(layers, name, aliases) for name in names]
        return LayerTable(tuple(rows), type(model).__name__)
    with eager(whole):
        shapes, witness, used = watch(model, layers, example, kwargs)
        influenced = examine(model, (), example, kwargs).influenced
    rows = [row_of(layers, name, aliases, shapes.get(name), witness, used) for name in names]
    rows += [LayerRow(name, "mark", calls=witness.marks.count(name)) for name in dict.fromkeys(witness.marks)]
    warning = INFLUENCE.format(where="its output") if influenced else ""
    return LayerTable(tuple(rows), type(model).__name__, warning)


Shapes = dict[str, tuple[str, str, str]]


def watch(
    model: nn.Module, layers: Mapping[str, nn.Module], example: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Shapes, Witness, set[int]]:
    """Run once; return shapes and dtype by layer, what happened, and which weights reach the output."""
    shapes: Shapes = {}
    first = canonical_names(dict(layers))
    with ExitStack() as stack:
        stack.enter_context(preserve_state(model))
        stack.enter_context(evaluating(model))
        stack.enter_context(plain_transformers())
        for name, layer in layers.items():
            if first[id(layer)] != name or isinstance(layer, torch.jit.ScriptModule):
                continue

            def after(
                _layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any], output: Any, name: str = name
            ) -> None:
                inputs = [shape_of(value) for value in args]
                inputs += [
                    f"{key}={shape_of(value)}"
                    for key, value in given.items()
                    if first_tensor(value) is not None
                ]
                tensor = first_tensor(output)
                dtype = "" if tensor is None else str(tensor.dtype).removeprefix("torch.")
                shapes[name] = (", ".join(inputs), shape_of(output), dtype)

            stack.callback(layer.register_forward_hook(after, with_kwargs=True).remove)
        try:
            witness = witness_pass(model, example, kwargs)
        except Exception as error:
            ran = ", ".join(list(shapes)[-3:]) or "none"
            raise TapError(
                f"the net must run on the example; got {type(error).__name__}: {error} (last layers that ran: "
                f"{ran}); give arguments as forward takes them"
            ) from error
        used = weights_used(witness.output)
    return shapes, witness, used


def row_of(
    layers: dict[str, nn.Module],
    name: str,
    aliases: Mapping[str, list[str]],
    shapes: tuple[str, str, str] | None = None,
    witness: Witness | None = None,
    used: set[int] | None = None,
) -> LayerRow:
    layer = layers[name]
    calls = None if witness is None else witness.calls[name]
    problem = never_called(layers, name) or ""
    if witness is not None and not calls and not problem:
        problem = reason_of(layers, name, witness, used)
    inputs, outputs, dtype = shapes or ("", "", "")
    n_weights = sum(weight.numel() for weight in layer.parameters())
    others = tuple(aliases.get(name, ()))
    return LayerRow(name, type(layer).__name__, inputs, outputs, dtype, calls, n_weights, others, problem)


def shape_of(value: Any) -> str:
    """Write the shapes of tensors in any nesting."""
    if isinstance(value, Tensor):
        return "nested" if value.is_nested else str(tuple(value.shape))
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return f"packed {tuple(value.data.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shape_of(part)}" for key, part in value.items()) + "}"
    if parts(value):
        return "[" + ", ".join(shape_of(part) for part in parts(value)) + "]"
    return repr(value) if isinstance(value, bool | int | float | str | None) else type(value).__name__


def layers_in_order(module: nn.Module, tap: Tap, inputs: Sequence[Tensor]) -> tuple[Tap, ...]:
    """Return the tap of every matching layer, by its last call in one forward pass.

    Parameters
    ----------
    module : nn.Module
    tap : Tap
    inputs : sequence of Tensor
        Arguments of ``forward``: a few rows.

    Raises
    ------
    LayerNotFoundError
        If nothing matches.
    TapError
        If no matching layer runs.
    """
    reads = resolve_taps(module, [replace(tap, last=None, combine=None)])
    last_call: dict[str, int] = {}

    def note(read: Read, fired: Fired, leaf: Leaf) -> None:
        last_call[read.key] = fired.sequence

    with evaluating(module), torch.no_grad(), plain_transformers(), HookSession(module, reads, note):
        module(*inputs)
    found = {read.key: read.tap for read in reads if read.key in last_call}
    if not found:
        names = ", ".join(read.key for read in reads[:4])
        raise TapError(
            f"a tapped layer must be one that runs; got tap={str(tap)!r}, and none of {names} does"
        )
    return tuple(found[key] for key in sorted(found, key=lambda key: last_call[key]))
