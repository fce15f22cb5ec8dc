"""Training options that a net's class declares: they hold where the config says nothing.

In:  the name of a net, the task, the options that a config gave.
Out: the options with what the class declares filled in. The class is read as text, not imported,
     so a config resolves without torch and without running code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stackfeat.errors import ConfigError
from stackfeat.nets.options import TrainOptions
from stackfeat.registry.names import NETS
from stackfeat.registry.resolve import suggest
from stackfeat.registry.source import class_literal, find_module
from stackfeat.store import file_stamp
from stackfeat.tasks.task import task_class

ATTRIBUTE = "train_defaults"
TASKS = ("classification", "regression")


def with_declared(net: str, given: TrainOptions, task: str, folder: Path | None = None) -> TrainOptions:
    """Return how a net is trained: as given, and by its own defaults where nothing is.

    A class declares them as a plain dict, ``train_defaults = {"lr": 0.04, "schedule": "coslog4"}``;
    under ``classification`` and ``regression`` stand those of one kind of task.

    Parameters
    ----------
    net : str
        A name of the table NETS, or ``pkg.mod:Class``.
    given : TrainOptions
        What the config says.
    task : {"binary", "multiclass", "regression"}
    folder : Path, optional
        Searched before the installed packages: the config's folder.

    Raises
    ------
    ConfigError
        If the class declares what is no option of training, or what does not go with those given.
    """
    declared = train_defaults(net, task, folder)
    missing = {name: value for name, value in declared.items() if name not in given.model_fields_set}
    if not missing:
        return given
    values = missing | {name: getattr(given, name) for name in given.model_fields_set}
    try:
        return TrainOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "train"
        raise ConfigError(
            f"{ATTRIBUTE} of net {net!r} must fit the options of train; got {missing} "
            f"({place}: {first['msg']}); correct the class, or set the option in the config"
        ) from error


def train_defaults(net: str, task: str, folder: Path | None = None) -> dict[str, Any]:
    """Return what the class of a net declares for a task; nothing where it declares nothing."""
    module, _, name = NETS.get(net, net).partition(":")
    found = find_module(module, None if net in NETS else folder) if name else None
    if found is None:
        return {}
    looked_at = file_stamp.now_ns()
    stamp = file_stamp.stamp_of(found.path.stat())
    read = _literal if file_stamp.is_settled(stamp, looked_at) else _literal.__wrapped__
    declared = read(found.path, stamp, name)
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise ConfigError(
            f"{ATTRIBUTE} of net {net!r} must be a dict of training options; got {declared!r}; correct the class"
        )
    common = {name: value for name, value in declared.items() if name not in TASKS}
    special = declared.get(task_class(task).family, {})
    for option in {**common, **special}:
        if option not in TrainOptions.model_fields:
            raise ConfigError(
                f"{ATTRIBUTE} of net {net!r} must name options of train; got {option!r}."
                f"{suggest(str(option), [*TrainOptions.model_fields, *TASKS])} Correct the class"
            )
    return {**common, **special}


@lru_cache(maxsize=64)
def _literal(path: Path, stamp: file_stamp.Stamp, name: str) -> Any:
    return class_literal(path, name, ATTRIBUTE)
