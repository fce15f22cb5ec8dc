"""Refuse impossible sizes and missing extras with messages of our own, before torch or an import fails."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stackfeat.errors import MissingExtraError, UsageError
from stackfeat.registry.resolve import suggest


def check_columns(net: str, n_features: int, cardinalities: Sequence[int]) -> None:
    """Refuse a table without columns."""
    if n_features < 1 and not cardinalities:
        raise UsageError(
            f"{net} must have at least one input column; got n_features={n_features}, cardinalities=(); "
            "check the member's inputs"
        )


def only_input(shapes: Mapping[str, Sequence[int]], net: str, kind: str) -> tuple[str, tuple[int, ...]]:
    """Return name and row shape of the one input that a net reads; `kind` is what it should be, for the error."""
    if len(shapes) != 1:
        raise UsageError(
            f"{net} must read one {kind}; got the inputs {', '.join(shapes) or 'none'}; name one in the member's "
            "inputs, or use net: fusion"
        )
    ((name, shape),) = shapes.items()
    return name, tuple(shape)


def check_widths(hidden: Sequence[int], *, may_be_empty: bool = False) -> None:
    """Refuse hidden layers without units."""
    if not (hidden or may_be_empty) or any(n_units < 1 for n_units in hidden):
        raise UsageError(f"hidden must be widths of at least 1; got hidden={list(hidden)}; try [256, 128]")


def check_at_least(least: int, **sizes: int) -> None:
    """Refuse sizes below `least`."""
    for name, size in sizes.items():
        if size < least:
            raise UsageError(f"{name} must be at least {least}; got {name}={size}; raise it")


def check_heads(name: str, width: int, heads: int) -> None:
    """Refuse a width that attention heads cannot share."""
    if width % heads:
        raise UsageError(
            f"{name} must be a multiple of heads; got {name}={width}, heads={heads}; "
            f"try {name}: {heads * max(1, round(width / heads))}"
        )


def check_one_of(name: str, value: str, names: Iterable[str]) -> None:
    """Refuse a name that is not offered."""
    known = list(names)
    if value not in known:
        raise UsageError(
            f"{name} must be one of {', '.join(known)}; got {name}={value!r}.{suggest(value, known)} "
            "Correct the member's params"
        )


def import_extra(package: str, net: str, extra: str) -> Any:
    """Return an optional package.

    Raises
    ------
    MissingExtraError
        If it is not installed; names the extra.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(
            f"net {net!r} needs package {package!r}, which is not installed. "
            f'Install it: pip install "stackfeat[{extra}]"'
        ) from error
