"""One place to read in a net, and how it is written.

In:  text such as ``encoder.layers.*.dropout2:input[0]#-1``, or the parts of it.
Out: a `Tap`, which is data: it knows no net.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

from torch import nn

from stackfeat.data.phrases import cut, quoted
from stackfeat.errors import TapError
from stackfeat.registry.resolve import suggest
from stackfeat.registry.wildcards import is_pattern

Side = Literal["output", "input", "grad"]
Pool = Literal["auto", "none", "flatten", "mean", "max", "cls", "last"]
Combine = Literal["concat", "mean", "stack"]
Item = int | str | tuple[int | str, ...] | None

GRAMMAR = re.compile(
    r"(?P<layer>[^:\[\]#]*)(?::(?P<side>\w+))?(?P<items>(?:\[[^\[\]]+\])*)(?:#(?P<call>-?\d{1,9}|all))?"
)
FORM = (
    "'layer', 'layer:input', 'layer:grad', 'layer[0]', 'layer[key]', 'layer#0', 'layer#all' or 'block.*.act'"
)


@dataclass(frozen=True, repr=False)
class Tap:
    """One place to read.

    Attributes
    ----------
    layer : str, optional
        Name of a layer, as in ``model.named_modules()``, or a name given to `stackfeat.mark`, or a
        pattern: ``*`` and ``?`` stand for parts of one segment, ``**`` for any number of segments.
        The empty name is the net itself.
    side : {"output", "input", "grad"}
        What the layer returns, what it is given, or the gradient at its output.
    item : int, str or tuple of them, optional
        Which value of a tuple, list, dict or dataclass, or which argument; by default the first
        tensor. A tuple goes deeper: ``(1, 0)`` is ``[1][0]``.
    call : int or "all"
        Which call of a layer that runs several times in one forward pass; -1 is the last.
    pool : str
        How more than two dimensions become columns; see `stackfeat.nets.reading.pooling`.
    last : int, optional
        Read only the last so many matching layers, in the order in which they ran, as one value.
    combine : {"concat", "mean", "stack"}, optional
        How several values become one: side by side (the default), their mean, or in a new
        dimension 1.
    type : type, optional
        A class of layers: every layer of it is read.

    Raises
    ------
    TapError
        If the parts are no tap.

    Examples
    --------
    >>> Tap.parse("lstm[0]")
    Tap('lstm', item=0)
    >>> str(Tap("head", side="input"))
    'head:input'
    """

    layer: str | None = None
    side: Side = "output"
    item: Item = None
    call: int | Literal["all"] = -1
    pool: Pool = "auto"
    last: int | None = None
    combine: Combine | None = None
    type: type[nn.Module] | None = None

    def __post_init__(self) -> None:
        if self.layer is None and self.type is None:
            raise TapError(
                "a tap must name a layer or a type; got neither; write Tap('fc.1') or Tap(type=nn.ReLU)"
            )
        for name, legal in (
            ("side", get_args(Side)),
            ("pool", get_args(Pool)),
            ("combine", get_args(Combine)),
        ):
            value = getattr(self, name)
            if value not in legal and not (name == "combine" and value is None):
                raise TapError(
                    f"a tap's {name} must be one of {', '.join(legal)}; got {name}={value!r}."
                    f"{suggest(str(value), legal)}"
                )
        if self.call != "all" and not isinstance(self.call, int):
            raise TapError(
                f"a tap's call must be a number or 'all'; got call={self.call!r}; use -1 for the last"
            )
        if self.last is not None and (self.last < 1 or (self.call != "all" and self.call < -1)):
            raise TapError(
                f"last must be 1 or more, with call -1, 0, 1, ... or 'all'; got last={self.last}, call={self.call}; "
                "use call=-1"
            )

    @classmethod
    def parse(cls, text: str, *, pool: Pool = "auto") -> Tap:
        """Read ``name[:side][[item]...][#call]``.

        Raises
        ------
        TapError
            If the text is no tap.
        """
        match = GRAMMAR.fullmatch(text)
        if match is None or not (match["layer"] or match["side"]):
            raise TapError(f"a tap must look like {FORM}; got tap={quoted(text)}; name a layer of the net")
        layer, side, items, call = match.group("layer", "side", "items", "call")
        if side not in (None, *get_args(Side)):
            raise TapError(
                f"a tap's side must be 'input', 'output' or 'grad'; got tap={quoted(text)}; try '{cut(layer)}:input'"
            )
        path = tuple(
            int(item) if re.fullmatch(r"-?\d{1,9}", item) else item
            for item in re.findall(r"\[([^\]]+)\]", items)
        )
        return cls(
            layer=layer,
            side=cast(Side, side or "output"),
            item=path[0] if len(path) == 1 else path or None,
            call="all" if call == "all" else int(call or -1),
            pool=pool,
        )

    @property
    def path(self) -> tuple[int | str, ...]:
        """The items, outermost first."""
        if self.item is None:
            return ()
        return self.item if isinstance(self.item, tuple) else (self.item,)

    @property
    def is_pattern(self) -> bool:
        """Whether the tap may mean several layers."""
        return self.layer is None or self.type is not None or is_pattern(self.layer)

    def __str__(self) -> str:
        kind = "" if self.type is None else f"<{self.type.__name__}>"
        layer = f"{self.layer or ''}{kind}"
        side = f":{self.side}" if self.side != "output" or not layer else ""
        items = "".join(f"[{item}]" for item in self.path)
        return f"{layer}{side}{items}{'' if self.call == -1 else f'#{self.call}'}"

    def __repr__(self) -> str:
        given = [(field.name, getattr(self, field.name)) for field in fields(self)]
        parts = [
            repr(value)
            if name == "layer"
            else f"{name}={value.__name__ if isinstance(value, type) else repr(value)}"
            for (name, value), field in zip(given, fields(self), strict=True)
            if value != field.default
        ]
        return f"Tap({', '.join(parts)})"
