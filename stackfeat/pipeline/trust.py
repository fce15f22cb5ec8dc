"""trust: what a config would run, shown before it is remembered. Nothing is imported: sources are read as text.

In:  a config file.
Out: lines that name every file, class and parameter that needs trust; and a record in the user's state folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stackfeat.config.load import examine_config
from stackfeat.errors import UsageError, one_line
from stackfeat.registry.source import find_module
from stackfeat.registry.trust import (
    ConfigFile,
    Need,
    changed_files,
    forget,
    remember_config,
    source_files,
    state_folder,
    trusted_configs,
)
from stackfeat.registry.user_code import SourceFile

_SHORT = 12


@dataclass(frozen=True)
class TrustRequest:
    """What a config asks to be trusted with, as it was shown.

    Attributes
    ----------
    text : str
        For the person who decides.
    """

    config: ConfigFile
    needs: list[Need]
    files: list[SourceFile]
    text: str


def trust_request(path: Path, data_roots: Sequence[Path] = ()) -> TrustRequest:
    """Find out what a config needs trust for, without importing anything.

    Raises
    ------
    ConfigError
        If the config would not run under trust either.
    UsageError
        If it names compiled code, which nobody can read.
    """
    config, loaded, needs = examine_config(path, data_roots)
    if not needs:
        return TrustRequest(
            config, [], [], f"{one_line(path)} names no code of your own: it runs without trust"
        )
    files = source_files(needs, config.folder)
    lines = [f"{path} would run these files:", *_file_lines(config, files), "because it names:"]
    lines += [f"  {need.what} {need.value}   {_place(need, loaded.lines)}" for need in needs if need.is_name]
    parameters = [need for need in needs if not need.is_name]
    if parameters:
        lines.append("and gives parameters that only a trusted config may give:")
        lines += [f"  {need.path}: {need.value!r}   {_place(need, loaded.lines)}" for need in parameters]
    lines.append("Modules that these files find by other means than an import statement are not covered.")
    return TrustRequest(config, needs, files, "\n".join(map(one_line, lines)))


def remember(asked: TrustRequest) -> str:
    """Remember what was shown; return what is said of it."""
    remember_config(asked.config, asked.needs, asked.files)
    return one_line(
        f"trusted: {asked.config.path}, until a byte of these files changes; remembered in {state_folder()}"
    )


def forget_config(path: Path) -> str:
    """Trust a config, and the runs it made, no longer.

    Raises
    ------
    UsageError
        If it was not trusted.
    """
    if not forget(path):
        raise UsageError(f"{path} must be a trusted config; got one that is not; see stackfeat trust --list")
    return one_line(f"forgotten: {path}")


def describe_trusted() -> str:
    """Return a line for every config that is remembered, and whether it still holds."""
    lines = [one_line(f"{path}   {state}") for path, state in trusted_configs()]
    return "\n".join(lines) or f"no config is trusted; remembered ones would be in {state_folder()}"


def _file_lines(config: ConfigFile, files: Sequence[SourceFile]) -> list[str]:
    states = changed_files(config, files)
    shown = [(str(config.real), config.sha256, "")]
    for file in files:
        of_package = " (of an installed package)" if file.installed else ""
        kind = of_package or ("" if file.sha256 else " (a folder of modules)")
        shown.append((file.path, file.sha256, kind + _hides(file, config.folder)))
    return [
        f"  {digest[:_SHORT]:<{_SHORT}}  {path}{kind}{_since(states.get(path))}"
        for path, digest, kind in shown
    ]


def _hides(file: SourceFile, folder: Path) -> str:
    """Say of a module beside the config that an installed one has its name."""
    top = file.module.partition(".")[0]
    elsewhere = find_module(top, None)
    is_beside = Path(file.path).is_relative_to(folder)
    hides = is_beside and elsewhere is not None and not elsewhere.path.absolute().is_relative_to(folder)
    return f", in the place of the installed {top}" if hides else ""


def _since(state: str | None) -> str:
    return {None: "", "new": ", new"}.get(state, f", {state} since it was last trusted")


def _place(need: Need, lines: object) -> str:
    line = lines.get(need.path) if isinstance(lines, dict) else None
    return f"({need.path})" if line is None else f"({need.path}, line {line})"
