"""The quickstart, to be written anywhere: a config over built-in data, which needs no other file.

In:  a folder.
Out: the config in it. Nothing that stands there is replaced.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from stackfeat.errors import UsageError, one_line
from stackfeat.output.files import write_bytes

NAME = "quickstart.yaml"
_MADE = (NAME, "runs", ".stackfeat")
"""What an earlier demo has left in its folder."""


def quickstart() -> bytes:
    """Return the config."""
    return files("stackfeat.config").joinpath(NAME).read_bytes()


def write_demo(folder: Path) -> Path:
    """Write the quickstart into a folder that is new, empty, or that of an earlier demo; return the config's path.

    Raises
    ------
    UsageError
        If anything else stands there, or the config was edited.
    """
    path, text = folder / NAME, quickstart()
    if folder.is_dir():
        found = sorted(one.name for one in folder.iterdir())
        is_own = path.is_file() and not path.is_symlink() and path.read_bytes() == text
        foreign = [name for name in found if not (is_own and name in _MADE)]
        if foreign:
            raise UsageError(
                f"a demo needs a folder of its own; got {folder}, which holds {one_line(foreign[0])}; name a new one "
                "with --output"
            )
        if is_own:
            return path
    elif folder.exists() or folder.is_symlink():
        raise UsageError(
            f"a demo needs a folder of its own; got {folder}, which is a file; name a new one with --output"
        )
    write_bytes(path, text)
    return path
