"""A table of a net's layers: what a tap may name, and what it would give.

In:  a module, and example arguments.
Out: a `LayerTable`, a row per layer and per mark, and per function that a layer calls if asked for.
     Also the layers that a pattern means, in execution order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, TapError, UsageError, continued, one_line
from stackfeat.layers.activations.call_trace import CallTrace, reason_of, trace_pass
from stackfeat.layers.activations.dry_run import INFLUENCE, RANDOM, REORDER, examine
from stackfeat.layers.taps.collector import Fired
from stackfeat.layers.taps.hooks import HookSession
from stackfeat.layers.taps.layers import Layers, named_layers, never_called, unwrap
from stackfeat.layers.taps.passes import eager
from stackfeat.layers.taps.refusals import refusals
from stackfeat.layers.taps.runtime import evaluating, plain_transformers, preserve_state
from stackfeat.layers.taps.tap import Read, Tap, function_text, resolve_taps
from stackfeat.layers.taps.values import Leaf
from stackfeat.registry.resolve import suggest

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("name", "type", "inputs", "outputs", "dtype", "calls", "problem")


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes
    ----------
    name : str
    type : str
        Its class, or ``mark``, or ``function``.
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
        In the order of definition, then marks, then functions in the order of their first call.
    model : str
        Class of the net.
    warning : str
        What is wrong with the whole net: rows that influence each other, change places, or differ in each pass.
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

    def to_json(self) -> dict[str, Any]:
        counts = {"n_layers": len(self.rows), "n_tappable": len(self.names)}
        return {
            "model": self.model,
            **counts,
            "layers": list(map(asdict, self.rows)),
            "warning": self.warning,
        }

    def __str__(self) -> str:
        columns = [
            key for key in COLUMNS if key in ("name", "type") or any(getattr(row, key) for row in self.rows)
        ]
        cells = [["cannot be tapped because it" if key == "problem" else key for key in columns]]
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
        head = f"{one_line(self.model)}: {len(self.names)} of {len(self.rows)} can be tapped"
        return "\n".join([head, *lines, continued(self.warning)]).rstrip()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))


def list_layers(
    model: nn.Module,
    /,
    *example: Any,
    functions: bool = False,
    example_kwargs: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> LayerTable:
    """Return a table of the layers of a net.

    Parameters
    ----------
    model : nn.Module
        Is as before afterwards: modes, buffers, generators, hooks.
    *example, **kwargs
        Arguments of the net, of a few rows; without them the table has names and types only.
    functions : bool
        True adds a row for each function of torch that the forward of a layer calls itself, ``block.relu()``;
        what torch's own layers without children call is left out: tap the layer.
    example_kwargs : mapping of str to argument, optional
        More arguments by name: those of a net whose forward has one called ``functions``, say.

    Raises
    ------
    UsageError
        If functions are asked for without an example, which alone can show them.
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
    kwargs = {**kwargs, **(example_kwargs or {})}
    layers = named_layers(model)
    names: dict[int, list[str]] = {}
    for name, layer in layers.items():
        names.setdefault(id(layer), []).append(name)
    listed = [own for own in names.values() if own[0]]
    if not example and not kwargs:
        if functions:
            raise UsageError(
                "functions are found by running the net; got no example; give the arguments of forward, of a few rows"
            )
        return LayerTable(tuple(row_of(layers, own, None) for own in listed), type(model).__name__)
    with eager(whole):
        with preserve_state(model), evaluating(model), plain_transformers():
            trace = trace_pass(model, (example, kwargs), functions=functions)
        warning = warning_of(model, example, kwargs)
    rows = [row_of(layers, own, trace) for own in listed]
    rows += [LayerRow(name, "mark", calls=trace.marks.count(name)) for name in dict.fromkeys(trace.marks)]
    rows += [
        row_of_function(name, function, trace)
        for name, function in trace.functions
        if calls_own(layers[name])
    ]
    return LayerTable(tuple(rows), type(model).__name__, warning)


def warning_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return what is wrong with the whole net: rows that influence each other, a fixed number of them."""
    try:
        report = examine(model, (), args, kwargs)
    except TapError as error:
        return str(error)
    findings = ((report.reordered, REORDER), (report.influenced, INFLUENCE), (report.random, RANDOM))
    return "\n".join(text.format(where="its output") for keys, text in findings if keys)


def row_of(layers: Layers, names: Sequence[str], trace: CallTrace | None) -> LayerRow:
    """Return what is known of a layer with these names."""
    name, *others = names
    layer = layers[name]
    problem = never_called(layers, name) or ""
    calls, shapes = None, ("", "", "")
    if trace is not None:
        calls, shapes = trace.calls[name], trace.shapes.get(name, shapes)
        problem = "" if calls else reason_of(layers, name, trace)
    n_weights = sum(weight.numel() for weight in layer.parameters())
    return LayerRow(name, type(layer).__name__, *shapes, calls, n_weights, tuple(others), problem)


def calls_own(layer: nn.Module) -> bool:
    """Whether the functions that a layer calls say more than the layer itself."""
    is_from_torch = type(layer).__module__.partition(".")[0] == "torch"
    return not is_from_torch or any(layer.children())


def row_of_function(name: str, function: str, trace: CallTrace) -> LayerRow:
    """Return what is known of a function that a layer calls."""
    call = name, function
    text = function_text(name, function)
    return LayerRow(text, "function", *trace.function_shapes[call], calls=trace.functions[call])


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
    found: dict[str, Tap] = {}

    def note(read: Read, _fired: Fired, _leaf: Leaf) -> None:
        found.pop(read.key, None)
        found[read.key] = read.tap

    with (
        evaluating(module),
        torch.no_grad(),
        plain_transformers(),
        HookSession(module, reads, note),
        refusals(module, tuple(inputs), {}),
    ):
        module(*inputs)
    if not found:
        names = ", ".join(read.key for read in reads[:4])
        raise TapError(
            f"a tapped layer must be one that runs; got tap={str(tap)!r}, and none of {names} does"
        )
    return tuple(found.values())
