"""trust: what a config would run, shown before it is remembered. Nothing is imported: sources are read as text.

In:  a config file.
Out: lines that name every file, class and parameter that needs trust; and a record in the user's state folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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
class ShownFile:
    """A file that a config would run, or the config itself.

    Attributes
    ----------
    sha256 : str
        Empty for a folder of modules.
    since : str
        What has become of it since it was last trusted: new, changed or the same; empty where it never was.
    hides : str
        The installed module in whose place it would be imported; empty where there is none.
    """

    path: str
    sha256: str
    is_installed: bool = False
    since: str = ""
    hides: str = ""

    def __str__(self) -> str:
        kind = (
            " (of an installed package)"
            if self.is_installed
            else ""
            if self.sha256
            else " (a folder of modules)"
        )
        kind += f", in the place of the installed {self.hides}" if self.hides else ""
        since = {"": "", "new": ", new"}.get(self.since, f", {self.since} since it was last trusted")
        return f"  {self.sha256[:_SHORT]:<{_SHORT}}  {self.path}{kind}{since}"


@dataclass(frozen=True)
class TrustRequest:
    """What a config asks to be trusted with; its text is for the person who decides.

    Attributes
    ----------
    files : list of SourceFile
        As they are remembered.
    shown : tuple of ShownFile
        The same with what there is to say of them, after the config itself.
    lines : mapping of str to int
        Where in the config each of the needs stands.
    """

    config: ConfigFile
    needs: list[Need]
    files: list[SourceFile]
    shown: tuple[ShownFile, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        needs = [{**asdict(need), "line": self.lines.get(need.path)} for need in self.needs]
        own = {"config": self.config.path, "state_folder": state_folder()}
        return {**own, "files": list(map(asdict, self.shown)), "needs": needs}

    def __str__(self) -> str:
        path = self.config.path
        if not self.needs:
            return f"{one_line(path)} names no code of your own: it runs without trust"
        lines = [f"{path} would run these files:", *map(str, self.shown), "because it names:"]
        lines += [f"  {need.what} {need.value}   {self._place(need)}" for need in self.needs if need.is_name]
        parameters = [need for need in self.needs if not need.is_name]
        if parameters:
            lines.append("and gives parameters that only a trusted config may give:")
            lines += [f"  {need.path}: {need.value!r}   {self._place(need)}" for need in parameters]
        lines.append("Modules that these files find by other means than an import statement are not covered.")
        return "\n".join(map(one_line, lines))

    def _place(self, need: Need) -> str:
        line = self.lines.get(need.path)
        return f"({need.path})" if line is None else f"({need.path}, line {line})"


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
        return TrustRequest(config, [], [])
    files = source_files(needs, config.folder)
    return TrustRequest(config, needs, files, _shown(config, files), loaded.lines)


def remember(asked: TrustRequest) -> str:
    """Remember what was shown; return what is said of it."""
    remember_config(asked.config, asked.needs, asked.files)
    return one_line(
        f"trusted: {asked.config.path}, until a byte of these files changes; remembered in {state_folder()}"
    )


def forget_config(path: Path) -> str:
    """Trust a config, and the runs it made, no longer; return what is said of it.

    Raises
    ------
    UsageError
        If it was not trusted.
    """
    if not forget(path):
        raise UsageError(f"{path} must be a trusted config; got one that is not; see stackfeat trust --list")
    return one_line(f"forgotten: {path}")


@dataclass(frozen=True)
class TrustedConfigs:
    """Which files have changed of every config that is trusted, by its path; the text has a line for each."""

    changed: Mapping[str, Sequence[str]]
    folder: Path

    def to_json(self) -> dict[str, Any]:
        configs = [{"config": path, "changed": list(files)} for path, files in self.changed.items()]
        return {"trusted": configs, "state_folder": self.folder}

    def __str__(self) -> str:
        states = {
            path: f"changed: {', '.join(files)}" if files else "trusted"
            for path, files in self.changed.items()
        }
        lines = [one_line(f"{path}   {state}") for path, state in states.items()]
        return "\n".join(lines) or f"no config is trusted; remembered ones would be in {self.folder}"


def list_trusted() -> TrustedConfigs:
    """Return every config that is remembered, and whether it still holds."""
    return TrustedConfigs(trusted_configs(), state_folder())


def _shown(config: ConfigFile, files: Sequence[SourceFile]) -> tuple[ShownFile, ...]:
    states = changed_files(config, files)
    real = str(config.real)
    return (
        ShownFile(real, config.sha256, since=states.get(real, "")),
        *(
            ShownFile(
                file.path,
                file.sha256,
                file.installed,
                states.get(file.path, ""),
                _hidden(file, config.folder),
            )
            for file in files
        ),
    )


def _hidden(file: SourceFile, folder: Path) -> str:
    """Return the installed module that has the name of a module beside the config."""
    top = file.module.partition(".")[0]
    elsewhere = find_module(top, None)
    is_beside = Path(file.path).is_relative_to(folder)
    hides = is_beside and elsewhere is not None and not elsewhere.path.absolute().is_relative_to(folder)
    return top if hides else ""
