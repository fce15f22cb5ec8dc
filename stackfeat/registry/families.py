"""Nets of libraries that have many: `timm:resnet18` names one of them.

In:  a name of a config.
Out: whether it is such a name, whether the library is installed, what builds the net.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from stackfeat.errors import MissingExtraError
from stackfeat.registry.names import NET_FAMILIES, NETS
from stackfeat.registry.source import find_module


def in_family(name: str, table: Mapping[str, str]) -> bool:
    """Whether a net is a model of such a library; `table` is that of nets, or holds it."""
    library, _, model = name.partition(":")
    return bool(model) and library in NET_FAMILIES and NETS.keys() <= table.keys()


def check_family(name: str, what: str) -> None:
    """Raise MissingExtraError where the library is not installed; nothing is imported."""
    library = name.partition(":")[0]
    # timm itself needs torchvision.
    missing = [package for package in {library: 0, "torchvision": 0} if find_module(package, None) is None]
    if missing:
        raise MissingExtraError(
            f"{what} {name!r} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
            "installed; install: pip install 'stackfeat[vision]' (beside a CPU build of torch take torchvision "
            "from the same index as torch)"
        )


def made_by_family(name: str) -> object:
    """Return what builds the net; imports its library."""
    check_family(name, "net")
    library, _, model = name.partition(":")
    module, _, attribute = NET_FAMILIES[library].partition(":")
    maker: Any = getattr(importlib.import_module(module), attribute)
    made: object = maker(model)
    return made
