"""Whether ``stackfeat run`` was given a config or a training file, and options that go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackfeat.data.files.tables import BUILTIN, is_called_like_data
from stackfeat.errors import UsageError

if TYPE_CHECKING:
    from stackfeat.config import LoadedConfig


def config_of(
    path: Path, of_file: Mapping[str, Any], of_config: Mapping[str, Any], overrides: Sequence[str] = ()
) -> LoadedConfig | None:
    """Return the config that `init` would write for a training file, with what it guessed; None for a config.

    Parameters
    ----------
    of_file, of_config : mapping of str to value
        What was given for options of one of the two; empty where nothing was.
    overrides : sequence of str
        What was given for both, as options of a config.

    Raises
    ------
    UsageError
        If an option of the other was given, or a training file without its target.
    """
    is_data = str(path).startswith(BUILTIN) or is_called_like_data(path)
    for option in [name for name, value in (of_config if is_data else of_file).items() if value]:
        what, got = ("a config", "a training file") if is_data else ("a training file", "a config")
        remedy = "write a config with stackfeat init" if is_data else "say it in the config"
        raise UsageError(f"{option} is for {what}; got {path}, which is {got}; {remedy}")
    if not is_data:
        return None
    target: str | tuple[str, ...] | None = of_file["--target"]
    if target is None:
        raise UsageError(
            f"a training file needs --target COLUMN, the column to predict; got {path} alone; name it, or give a "
            "config"
        )
    from stackfeat.config.guessed import OF_INIT, naming
    from stackfeat.config.scaffold import Wishes
    from stackfeat.pipeline.fit import config_of_files

    told = {name: of_file[f"--{name}"] for name in ("metric", "limit", "query")}
    preset, task = str(of_file["--preset"] or "good"), of_file["--task"]
    wishes = Wishes(task=None if task is None else str(task), preset=preset, **told)
    with naming(OF_INIT):
        loaded, _ = config_of_files(path, target, of_file["--test"], None, wishes, Path.cwd(), overrides)
    return loaded


def named_targets(given: Sequence[str]) -> str | tuple[str, ...]:
    """Return what --target said: once, a column or several with commas between; more often, a column each time."""
    return given[0] if len(given) == 1 else tuple(given)
