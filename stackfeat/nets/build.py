"""From a class and its params to a module.

In:  a module class or factory, params from the config, and what the data is like.
Out: a module; of `n_features`, `n_outputs`, `cardinalities`, `shapes`, `vocabulary` and `prepared` the constructor
     gets those that its signature names.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from torch import nn

from stackfeat.errors import MemberError
from stackfeat.nets.named_inputs import bind_inputs
from stackfeat.nets.taps.values import first_tensor
from stackfeat.structure import must, structured

Output = Literal["auto", "logits", "proba", "log_proba", "value", "none"]
MOST_COLUMNS = 100_000_000


@dataclass(frozen=True)
class NetSpec:
    """What a net is made of, without its weights.

    Attributes
    ----------
    cls : type or callable
        Returns an `nn.Module`.
    params : mapping
        Handed to `cls` verbatim; JSON values, so that a fitted net can be stored.
    n_features : int
        Columns of the float tensor a table becomes (numeric ones alone where categories have codes).
    n_outputs : int
        Classes, or 1.
    cardinalities : tuple of int
        Codes per categorical column, the code 0 (unknown) included.
    shapes : mapping of str to tuple of int
        Shape of a row of each input.
    vocabulary : mapping of str to int
        Inputs of tokens: how many there are; later files may hold others, of any number.
    input_names : tuple of str
        A name for each array; where all are arguments of ``forward``, arrays go by name.
    optional : tuple of str
        Those that are left out where ``forward`` has no argument of the name: lengths of sequences.
    output : {"auto", "logits", "proba", "log_proba", "value"}
        What ``forward`` returns; ``auto`` looks at the output of a few rows. ``none``: it is not read,
        and may have any shape.
    output_item : int or str
        Which item is the output, where ``forward`` returns several.
    prepared : mapping, optional
        What the class learned of the training rows before it was built; see `on_rows`.
    """

    cls: Callable[..., nn.Module]
    params: Mapping[str, Any]
    n_features: int
    n_outputs: int
    cardinalities: tuple[int, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    output: Output = "auto"
    prepared: Mapping[str, Any] | None = None
    output_item: int | str = 0

    @property
    def accepts_categories(self) -> bool:
        return accepts_categories(self.cls)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the class."""
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "cls"}
        # Pairs: the order of inputs is part of what a net is, and a stored header sorts its keys.
        facts = {
            "shapes": [[name, list(shape)] for name, shape in self.shapes.items()],
            "vocabulary": dict(self.vocabulary),
        }
        return values | {"params": dict(self.params)} | facts

    @classmethod
    def from_json(cls, values: Mapping[str, Any], net: Callable[..., nn.Module]) -> NetSpec:
        """Put the class back; StructureError if the values are not those of `to_json`."""
        said = structured(_Said, values, "spec")
        facts = {item.name: getattr(said, item.name) for item in fields(_Said)}
        for name in ("n_features", "n_outputs"):
            must(0 <= facts[name] <= MOST_COLUMNS, f"spec.{name}", f"be at most {MOST_COLUMNS}", facts[name])
        return cls(net, **{**facts, "shapes": dict(said.shapes)})

    def on_rows(self, arrays: Sequence[np.ndarray]) -> NetSpec:
        """Return the spec with what its class wants to know of the rows it will be trained on.

        A class whose constructor names ``prepared`` may have a classmethod
        ``prepare(arrays, params)`` that returns JSON values: quantiles, bin edges. They are handed
        to the constructor and stored with the fitted net, so that the same module is built again.

        Parameters
        ----------
        arrays : sequence of ndarray
            The rows of `fit_net`, without the target: nothing a label says can enter.

        Raises
        ------
        MemberError
            If ``prepare`` returns what JSON cannot hold.
        """
        prepare = getattr(self.cls, "prepare", None)
        if not inspect.ismethod(prepare) or "prepared" not in inspect.signature(self.cls).parameters:
            return self
        prepared = prepare(arrays, dict(self.params))
        try:
            # As it will be read back, so that a stored net is built of the very same values.
            prepared = json.loads(json.dumps(prepared, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise MemberError(
                f"prepare of {self.cls.__name__} must return plain JSON values; got {error}; "
                "use finite numbers, texts, lists and dicts, such as array.tolist()"
            ) from error
        return replace(self, prepared=prepared)

    def build(self) -> nn.Module:
        """Return a new module with random weights drawn from torch's global generator."""
        module = build_net(
            self.cls,
            self.params,
            n_features=self.n_features,
            n_outputs=self.n_outputs,
            cardinalities=self.cardinalities,
            shapes=self.shapes,
            prepared=self.prepared,
            vocabulary=self.vocabulary,
        )
        if self.input_names:
            bind_inputs(module, self.input_names, self.optional)
        if self.output_item != 0 or self.output == "none":
            # On the module itself, so that training, inference and taps all meet the same output.
            module.register_forward_hook(partial(pick_output, self.output_item, self.output == "none"))
        return module


@dataclass(frozen=True)
class _Said:
    """What `NetSpec.to_json` writes."""

    params: dict[str, Any]
    n_features: int
    n_outputs: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    cardinalities: tuple[int, ...] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict)
    input_names: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    output: Output = "auto"
    prepared: Any = None
    output_item: int | str = 0


def pick_output(item: int | str, is_unread: bool, module: nn.Module, given: Any, output: Any) -> Any:
    """Forward hook: return one item of the output; of an output that nobody reads, a column.

    Raises
    ------
    MemberError
        If there is no such item.
    """
    if item != 0:
        try:
            output = output[item]
        except (KeyError, IndexError, TypeError) as error:
            named = list(output) if isinstance(output, Mapping) else None
            got = f"keys {named}" if named else f"{type(output).__name__}"
            got += f" of {len(output)}" if isinstance(output, tuple | list) else ""
            raise MemberError(
                f"output_item must be in what {type(module).__name__} returns; got output_item={item!r}, {got}; "
                "correct it"
            ) from error
    if not is_unread:
        return output
    tensor = first_tensor(output)
    return output if tensor is None or tensor.ndim < 2 else tensor.flatten(1)[:, :1]


def accepts_categories(cls: Callable[..., nn.Module]) -> bool:
    """Say whether a table reaches the net as ``(numeric, codes)``; otherwise as one float tensor."""
    return bool(getattr(cls, "accepts_categories", False))


def build_net(
    cls: Callable[..., nn.Module],
    params: Mapping[str, Any],
    *,
    n_features: int,
    n_outputs: int,
    cardinalities: Sequence[int] = (),
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    prepared: Mapping[str, Any] | None = None,
    vocabulary: Mapping[str, int] | None = None,
) -> nn.Module:
    """Call `cls` with `params` and those of the six facts that its signature names.

    Raises
    ------
    MemberError
        If the constructor refuses its arguments or does not return a module.
    """
    facts = {
        "n_features": n_features,
        "n_outputs": n_outputs,
        "cardinalities": tuple(cardinalities),
        "shapes": dict(shapes or {}),
        "prepared": prepared,
        "vocabulary": dict(vocabulary or {}),
    }
    name = getattr(cls, "__name__", repr(cls))
    named = inspect.signature(cls).parameters
    arguments = {key: value for key, value in facts.items() if key in named} | dict(params)
    try:
        inspect.signature(cls).bind(**arguments)
    except TypeError as error:
        raise MemberError(
            f"the arguments must fit {name}{inspect.signature(cls)}; got {sorted(arguments)} ({error}); "
            "correct the member's params"
        ) from error
    module = cls(**arguments)
    if not isinstance(module, nn.Module):
        raise MemberError(
            f"{name} must return a torch.nn.Module; got {type(module).__name__}; "
            "name a module class or factory"
        )
    return module
