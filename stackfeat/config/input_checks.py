"""Check `data.inputs`: options that go together, files that exist and lie where they may.

In:  a RunConfig, and what the user allows.
Out: findings. No file is opened here; arrays and images are checked when they are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stackfeat.config.fields import is_set
from stackfeat.config.path_checks import Allowed, no_path, outside
from stackfeat.config.problems import Finding
from stackfeat.config.run_config import RunConfig
from stackfeat.data.options import InputOptions
from stackfeat.registry.resolve import suggest

OF_ARRAYS = ("kind", "lengths", "channels")
OF_IMAGES = ("root", "size", "mode", "resize", "broken")
OF_BOTH = ("normalize", "stream")


def input_findings(config: RunConfig, allowed: Allowed) -> list[Finding]:
    """Return all findings about named inputs."""
    if config.data.inputs is None:
        return []
    if not config.data.inputs:
        return [
            Finding("data.inputs", "must name at least one input; got none. Remove it for one input `table`")
        ]
    findings = []
    for name, options in config.data.inputs.items():
        path = f"data.inputs.{name}"
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            message = f"names use letters, digits, '.', '_' and '-' only; got {name!r}"
            findings.append(Finding(path, message))
        if options.columns == ():
            findings.append(Finding(f"{path}.columns", "must name at least one column; got none"))
        findings += _option_findings(path, options)
        findings += _file_findings(path, options, config, allowed)
    return findings


def _option_findings(path: str, options: InputOptions) -> Iterator[Finding]:
    """Options that belong to another source, or miss or contradict each other."""
    source = "array" if options.array is not None else "column" if options.column is not None else "columns"
    legal = {"array": (*OF_ARRAYS, *OF_BOTH), "column": (*OF_IMAGES, *OF_BOTH), "columns": ()}[source]
    for option in (*OF_ARRAYS, *OF_IMAGES, *OF_BOTH):
        if option not in legal and is_set(options, option):
            wanted = (
                "array and column"
                if option in OF_BOTH
                else "array"
                if option in OF_ARRAYS
                else "column (image files)"
            )
            message = f"is for inputs with {wanted}; got an input of {source}. Remove it"
            yield Finding(f"{path}.{option}", message)
    if source == "column" and options.size is None:
        yield Finding(f"{path}.size", "image files need a size in pixels; got none. Add size: 64")
    if source == "column" and options.mode == "L" and options.normalize == "imagenet":
        message = "imagenet has means of three colours; got mode=L. Use mode: RGB, or normalize: standard"
        yield Finding(f"{path}.normalize", message)
    if options.lengths is not None and options.kind not in ("auto", "sequence", "tokens"):
        message = f"only sequences and tokens have lengths; got kind={options.kind}. Remove it"
        yield Finding(f"{path}.lengths", message)
    if options.channels != "auto" and options.kind not in ("auto", "image"):
        yield Finding(f"{path}.channels", f"only images have channels; got kind={options.kind}. Remove it")
    if options.kind in ("table", "tokens") and is_set(options, "normalize"):
        message = f"is for images and sequences; got kind={options.kind}. Remove it"
        yield Finding(f"{path}.normalize", message)
    if options.kind == "table" and is_set(options, "stream"):
        yield Finding(f"{path}.stream", "tables are held in memory; got kind=table. Use kind: array")


def _file_findings(path: str, options: InputOptions, config: RunConfig, allowed: Allowed) -> list[Finding]:
    findings: list[Finding] = []
    named = {"array": options.array, "lengths": options.lengths}
    if options.column is not None:
        named["root"] = options.root or "."
    for option, name in named.items():
        place = f"{path}.{option}"
        try:
            if option == "root" and name is not None:
                findings += _root_findings(place, name, allowed)
            elif name is not None:
                findings += _array_findings(place, name, option, config, allowed)
        except (OSError, ValueError, RuntimeError) as error:
            findings.append(no_path(place, "folder" if option == "root" else "file", str(name), error))
    return findings


def _root_findings(place: str, root: str, allowed: Allowed) -> Iterator[Finding]:
    found = allowed.resolve(root)
    if found is None:
        yield Finding(place, outside(root, allowed))
    elif not found.is_dir():
        beside = [item.name for item in found.parent.iterdir()] if found.parent.is_dir() else []
        yield Finding(place, f"there is no folder {root!r} in {allowed.folder}.{suggest(found.name, beside)}")


def _array_findings(
    place: str, name: str, option: str, config: RunConfig, allowed: Allowed
) -> Iterator[Finding]:
    """A npy file stands beside each data file; any other name means an array of a npz file."""
    files = [file for file in (config.data.train, config.data.test) if file is not None]
    for file in files:
        if file.startswith("sklearn:"):
            yield Finding(place, f"arrays are read from files; got {file}. Name a npz file")
            return
        if name.endswith(".npy"):
            beside = str(Path(file).parent / name.replace("{name}", Path(file).stem))
            found = allowed.resolve(beside)
            if found is None:
                yield Finding(place, outside(beside, allowed))
            elif not found.is_file():
                near = [item.name for item in found.parent.glob("*.npy")] if found.parent.is_dir() else []
                hint = suggest(found.name, near)
                remedy = "" if hint else " ({name} stands for the data file's name without suffix)"
                yield Finding(place, f"there is no file {beside!r} in {allowed.folder}.{hint}{remedy}")
        elif option == "array" and not file.lower().endswith(".npz"):
            message = (
                f"names an array of a npz file; got {name!r} and {file}. Use a npz file, or a npy file beside "
                f"it, such as '{{name}}_{name}.npy'"
            )
            yield Finding(place, message)
            return
