"""extract and layers: nets named on the command line, built, loaded and read.

In:  a path to a class, params, weights, data files; or a config and one of its members.
Out: files of features, or the table of layers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from stackfeat.errors import ConfigError, UsageError, one_line
from stackfeat.output.feature_files import FORMATS, SAVED, write_features
from stackfeat.registry.names import NETS
from stackfeat.registry.resolve import check_name, resolve, suggest
from stackfeat.registry.user_code import importing

if TYPE_CHECKING:
    from stackfeat.layers.activations.listing import LayerTable
    from stackfeat.members.net import NetMember

_SHAPE = re.compile(r"(\d+(?:x\d+)*)(?::(float32|int64))?")
_PARTS = ".npy"


@dataclass(frozen=True)
class NetSource:
    """A net as the command line names it."""

    name: str
    params: str = ""
    weights: Path | None = None
    trust_code: bool = False

    def check(self) -> None:
        """Raise what `build` would raise, as far as that can be known without importing torch."""
        check_name(self.name, NETS, "net", **self._code())
        self._params()
        if self.weights is not None and not self.weights.is_file():
            raise UsageError(
                f"weights must be a file; got {self.weights}, which is not there; correct the path"
            )

    def build(self) -> Any:
        """Return the net, a torch module, with its weights."""
        from stackfeat.nets.build import construct
        from stackfeat.nets.weights import load_weights

        self.check()
        cls = resolve(self.name, NETS, "net", **self._code())
        model = construct(cast(Any, cls), self._params())
        if self.weights is not None:
            load_weights(model, self.weights)
        return model

    def _code(self) -> dict[str, Any]:
        return {
            "packages": (),
            "trust_code": self.trust_code,
            "search_path": Path.cwd() if self.trust_code else None,
        }

    def _params(self) -> dict[str, Any]:
        text = self.params
        if text and not text.lstrip().startswith("{") and Path(text).is_file():
            text = Path(text).read_text("utf-8")
        try:
            params = json.loads(text or "{}")
        except ValueError as error:
            raise UsageError(
                f"--params must be JSON, or a file of it; got {text!r} ({error}); try '{{\"hidden\": [64]}}'"
            ) from error
        if not isinstance(params, dict):
            raise UsageError(
                f"--params must be a JSON object of arguments; got {text!r}; use '{{\"name\": 1}}'"
            )
        return params


@dataclass(frozen=True)
class ExtractedFiles:
    """Files of features; the text has a line for each.

    Attributes
    ----------
    shapes : mapping
        By tap, in the order of the files where each tap has its own.
    """

    file_format: str
    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]

    def to_json(self) -> dict[str, Any]:
        taps = [{"tap": key, "shape": list(shape)} for key, shape in self.shapes.items()]
        return {"format": self.file_format, "files": list(self.files), "taps": taps}

    def __str__(self) -> str:
        shapes = {key: "×".join(map(str, shape)) for key, shape in self.shapes.items()}
        if self.file_format not in SAVED:
            lines = [f"{path}  {shape}" for path, shape in zip(self.files, shapes.values(), strict=True)]
        else:
            held = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            lines = [f"{self.files[0]}  {held}", *map(str, self.files[1:])]
        return "\n".join(map(one_line, lines))


def extract_files(
    net: NetSource,
    data: Sequence[Path],
    folder: Path,
    *,
    file_format: str = "npy",
    batch_size: str = "auto",
    options: Mapping[str, Any],
) -> ExtractedFiles:
    """Extract to files; `options` are others of `extract`."""
    if batch_size != "auto" and (not batch_size.isdecimal() or int(batch_size) < 1):
        raise UsageError(f"--batch-size must be 'auto' or a whole number from 1; got {batch_size!r}")
    if file_format not in FORMATS:
        raise UsageError(
            f"--format must be one of {', '.join(FORMATS)}; got {file_format!r}.{suggest(file_format, FORMATS)}"
        )
    net.check()
    for path in data:
        if not path.is_file():
            raise UsageError(f"--data must be an npy or npz file; got {path}, which is not there")
    from stackfeat.layers.extraction.extract import extract
    from stackfeat.layers.extraction.files import final_path, open_arrays
    from stackfeat.layers.extraction.resume import remove_outputs

    model = net.build()
    inputs = data[0] if len(data) == 1 else tuple(open_arrays(path) for path in data)
    # Rows are streamed to npy files first in any case: they are what a killed call goes on from.
    parts = folder / _PARTS if file_format in SAVED else folder
    size: int | Literal["auto"] = "auto" if batch_size == "auto" else int(batch_size)
    arrays = extract(model, inputs, out=parts, batch_size=size, **options)
    shapes = {key: tuple(values.shape) for key, values in arrays.items()}
    if file_format not in SAVED:
        return ExtractedFiles(file_format, tuple(final_path(folder, key) for key in shapes), shapes)
    paths = write_features(arrays, folder, file_format)
    del arrays
    remove_outputs(parts)
    return ExtractedFiles(file_format, tuple(paths), shapes)


def layers_of_net(net: NetSource, shapes: Sequence[str], *, functions: bool = False) -> LayerTable:
    """Return the table of layers of a net named on the command line."""
    if not shapes:
        raise UsageError("--input must say what forward takes, such as --input 2x3x224x224; got none")
    parsed = [_shape(text) for text in shapes]
    from stackfeat.layers.activations.listing import list_layers
    from stackfeat.nets.build import made_up_input

    example = [made_up_input(shape, kind) for shape, kind in parsed]
    return list_layers(net.build(), *example, functions=functions)


def layers_of_member(
    config: Path,
    member: str,
    *,
    overrides: Sequence[str] = (),
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
    functions: bool = False,
) -> LayerTable:
    """Return the table of layers of a config's net member, run on its first training rows."""
    from stackfeat.config import load_config

    loaded = load_config(config, overrides=overrides, trust_code=trust_code, data_roots=data_roots)
    nets = {
        name: options
        for level, members in loaded.config.levels.items()
        for short, options in members.items()
        if options.has_layers
        for name in (f"{level}/{short}", short)
    }
    if member not in nets:
        raise ConfigError(
            f"MEMBER must be a net of {config}; got {member!r}; nets are "
            f"{', '.join(name for name in nets if '/' in name) or 'none'}.{suggest(member, nets)}"
        )
    from stackfeat.data.schema.load import load
    from stackfeat.layers.activations.listing import list_layers
    from stackfeat.pipeline.prepare import first_rows

    options = nets[member]
    data = load(loaded.config.data, loaded.folder, loaded.config.task, loaded.config.metric)
    with importing(loaded.code):
        net = cast("NetMember", options.member(loaded.code.is_trusted))
        rows = first_rows(data.train, options)
        model, columns = net.untrained(rows, data.train.task, loaded.config.seed)
        example = [column[:] for column in columns]
        return list_layers(model, *example, functions=functions)


def _shape(text: str) -> tuple[tuple[int, ...], str]:
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise UsageError(f"--input must look like 2x3x224x224 or 2x16:int64; got {text!r}")
    return tuple(map(int, match[1].split("x"))), match[2] or "float32"
