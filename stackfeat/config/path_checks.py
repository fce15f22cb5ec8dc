"""Check the files and folders a config names: they stay inside its folder, and inputs exist.

In:  a RunConfig, and the folders the user allows (never the config).
Out: findings. Links are followed before a place is judged.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.output.run_file import FOLDERS as RUN_FOLDERS
from stackfeat.registry.resolve import suggest

ROOTS_VARIABLE = "STACKFEAT_DATA_ROOTS"
FOLDERS = ("outputs.dir", "store")


@dataclass(frozen=True)
class Allowed:
    """What the user allows, beside the config.

    Attributes
    ----------
    folder : Path
        The config's folder; paths are relative to it.
    data_roots : tuple of Path
        Further folders that paths may lead to.
    trust_code : bool
        Whether the config may name code outside the tables and trusted packages.
    overridden : collection of str
        Paths given with ``--set``: the user's own words, so folders to write to may lie anywhere.
    """

    folder: Path
    data_roots: tuple[Path, ...] = ()
    trust_code: bool = False
    overridden: Collection[str] = ()

    def resolve(self, path: str) -> Path | None:
        """Return the absolute path behind all links, or None where it leaves the allowed folders."""
        found = (self.folder / path).resolve()
        roots = [self.folder, *self.data_roots]
        return found if any(found.is_relative_to(root.resolve()) for root in roots) else None


def data_roots_from(roots: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Return `roots` and those of the environment variable STACKFEAT_DATA_ROOTS, made absolute."""
    named = os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep)
    paths = [Path(root) for root in roots] + [Path(root) for root in named if root]
    return tuple(path.expanduser().resolve() for path in paths)


def path_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about files to read and folders to write."""
    findings = []
    for role in ("train", "test", "sample_submission"):
        path = getattr(config.data, role)
        if path is not None and not path.startswith("sklearn:"):
            findings += file_findings(f"data.{role}", path, allowed)
    for place, path in zip(FOLDERS, (config.run_dir, config.store), strict=True):
        findings += _folder_findings(place, path, allowed)
    return findings or _nested(config.run_dir, config.store, allowed)


def _nested(run_dir: str, store: str, allowed: Allowed) -> list[Finding]:
    """Return whether results and store would tidy away each other's files."""
    results, entries = (allowed.folder / run_dir).resolve(), (allowed.folder / store).resolve()
    in_results = entries.relative_to(results).parts if entries.is_relative_to(results) else ("",)
    if results.is_relative_to(entries) or in_results[0] in RUN_FOLDERS:
        got = (
            f"{run_dir!r} for both" if results == entries else f"outputs.dir={run_dir!r} and store={store!r}"
        )
        message = f"results and store need folders of their own; got {got}. Choose another outputs.dir"
        return [Finding("outputs.dir", message)]
    return []


def file_findings(place: str, path: str, allowed: Allowed) -> list[Finding]:
    """Return what is wrong with the file at `path`, named at `place` of a config."""
    try:
        found = allowed.resolve(path)
        is_file = found is not None and found.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        return [no_path(place, "file", path, error)]
    if found is None:
        return [Finding(place, outside(path, allowed))]
    if is_file:
        return []
    if found.is_dir():
        return [Finding(place, f"must be a file; got the folder {path!r}. Name a file in it")]
    if found.exists():
        return [Finding(place, f"must be a regular file; got {path!r}, a pipe or device. Write it to a file")]
    beside = [item.name for item in found.parent.iterdir()] if found.parent.is_dir() else []
    message = f"there is no file {path!r} in {allowed.folder}.{suggest(found.name, beside)}"
    return [Finding(place, message)]


def _folder_findings(place: str, path: str, allowed: Allowed) -> list[Finding]:
    if "://" in path:
        message = f"must be a folder; got the address {path[:80]!r}. Nothing in a config reaches the network"
        return [Finding(place, f"{message}: name a folder, or leave it out")]
    try:
        found = (allowed.folder / path).resolve()
        is_inside, obstacle = allowed.resolve(path) is not None, _obstacle(allowed.folder / path)
    except (OSError, ValueError, RuntimeError) as error:
        return [no_path(place, "folder", path, error)]
    is_own_word = any(place == name or place.startswith(f"{name}.") for name in allowed.overridden)
    if not is_inside and not is_own_word:
        remedy = f", or give it on the command line: --set {place}={path}"
        return [Finding(place, outside(path, allowed) + remedy)]
    if obstacle is not None:
        return [Finding(place, f"must be a folder; got {obstacle}. Choose another name")]
    # A run replaces its own files, config.yaml among them, and removes stale ones.
    if found == allowed.folder.resolve():
        return [
            Finding(place, f"must be a folder of its own; got the config's folder ({path!r}). Name one in it")
        ]
    return []


def _obstacle(path: Path) -> str | None:
    """Return what stands where a folder is to be, or where one above it is to be; None where nothing does."""
    above = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if above.is_dir():
        return None
    kind = "file" if above.is_file() else "pipe or device" if above.exists() else "broken link"
    there = f"the {kind} {str(above)!r}"
    return there if above == path else f"{str(path)!r}, which is below {there}"


def no_path(place: str, kind: str, path: str, error: Exception) -> Finding:
    """Return what is said of a text that the file system takes for no path."""
    reason = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return Finding(place, f"must be the path of a {kind}; got {path[:80]!r} ({reason})")


def outside(path: str, allowed: Allowed) -> str:
    """Return what is said of a path that leaves the allowed folders."""
    return (
        f"paths stay inside the config's folder ({allowed.folder}), links followed; got {path!r}. "
        f"Move it there, or allow its folder with --data-root DIR or {ROOTS_VARIABLE}"
    )
