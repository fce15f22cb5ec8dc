"""Broken and hostile files, made from a seed: whole files damaged at random, and values nobody expects.

A case is a call of a reader on a file that was just written. It may end well or with a StackfeatError;
anything else is a fault.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stackfeat.cli.entries import explain_entry, list_entries, measure_store
from stackfeat.config.load import load_config
from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.data.samples import Samples, Table
from stackfeat.data.schema.load import load, read_sample
from stackfeat.data.schema.prediction_file import read_predictions
from stackfeat.data.splits.folds import make_folds
from stackfeat.engine.graph import match_block
from stackfeat.errors import StackfeatError
from stackfeat.members.imported_rows import read_fold_file
from stackfeat.registry.patterns import matches
from stackfeat.store import Store
from stackfeat.tasks.task import Task
from tests.security.hostile_values import CELLS, NAMES, RICH, WORDS
from tests.store.intact import is_intact

ROOT = Path(__file__).resolve().parent.parent.parent
Case = Callable[[], object]
Maker = Callable[[random.Random, Path], Case]


def damaged(rng: random.Random, data: bytes, other: bytes = b"") -> bytes:
    """Return bytes with some flipped, cut, inserted, doubled or taken from another file."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(7):
            case 0 if changed:
                changed[place % len(changed)] ^= 1 << rng.randrange(8)
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = rng.randbytes(length)
            case 3:
                changed[place:place] = changed[place : place + length] * rng.choice([1, 3])
            case 4:
                start = rng.randrange(len(other) + 1)
                changed[place : place + length] = other[start : start + length]
            case 5:
                del changed[place:]
            case _:
                number = rng.choice([0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
                changed[place : place + 8] = struct.pack("<Q", number)[: rng.choice([4, 8])]
    return bytes(changed)


def table(rng: random.Random, n_rows: int = 12) -> pd.DataFrame:
    """Return a small table that can be read."""
    return pd.DataFrame(
        {
            "id": [f"r{i}" for i in range(n_rows)],
            "n": [round(rng.gauss(0, 1), 3) for _ in range(n_rows)],
            "c": [rng.choice(["red", "green"]) for _ in range(n_rows)],
            "d": [f"2024-01-{i + 1:02}" for i in range(n_rows)],
            "fold": [i % 3 for i in range(n_rows)],
            "y": [i % 2 for i in range(n_rows)],
        }
    )


def csv_text(rng: random.Random) -> bytes:
    """Return a csv file with hostile cells, names, separators, line ends and encodings."""
    frame = table(rng, rng.choice([1, 3, 12, 12, 12, 12]))
    separator = rng.choice([",", ",", ",", ";", "\t", "|", " "])
    rows = [[str(name) for name in frame.columns], *frame.astype(str).values.tolist()]
    for _ in range(rng.choice([0, 1, 1, 2, 10])):
        row = rng.choice(rows)
        match rng.randrange(8):
            case 0 | 1 | 2 | 3 | 4 if row:
                row[rng.randrange(len(row))] = rng.choice(CELLS)
            case 5:
                row.append(rng.choice(CELLS))
            case 6 if row:
                row.pop()
            case _:
                rows[0][rng.randrange(len(rows[0])) if rows[0] else 0 :] = [rng.choice(CELLS)]
    text = rng.choice(["\n", "\n", "\r\n", "\r"]).join(separator.join(row) for row in rows)
    encoding = rng.choice(["utf-8"] * 9 + ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
    data = text.encode(encoding, "replace")
    return damaged(rng, data, data) if rng.random() < 0.2 else data


def data_options(rng: random.Random, name: str) -> DataOptions:
    """Return options of the table, some of them about columns that are not there."""
    columns = ["id", "n", "c", "d", "fold", "n", "c", "d", "fold", "y", "x0", "nothing", "*", "x" * 5_000]
    given: dict[str, object] = {"train": name, "target": "y"}
    for role in ("id", "group", "time", "weight", "fold"):
        if rng.random() < 0.08:
            given[role] = rng.choice(columns)
    if rng.random() < 0.06:
        given["separator"] = rng.choice(
            [",", ";", "\n", "\r", '"', "ab", "", "\0", "é", " ", "\x1f", ".", "\\"]
        )
    if rng.random() < 0.06:
        names = [
            "utf-8",
            "utf-16",
            "latin-1",
            "utf-7",
            "idna",
            "punycode",
            "hex",
            "x\0",
            "../x",
            "",
            "cp037",
            "utf-32-be",
        ]
        given["encoding"] = rng.choice(names)
    if rng.random() < 0.15:
        given["types"] = {
            rng.choice(columns): rng.choice(["numeric", "categorical", "boolean", "date", "text", "words"])
        }
    if rng.random() < 0.08:
        given["drop"] = [rng.choice(columns)]
    if rng.random() < 0.05:
        given["positive"] = rng.choice(["1", 1, True, "x" * 5_000])
    if rng.random() < 0.2:
        given["test"] = name
    if rng.random() < 0.1:
        given["sample_submission"] = name
    return DataOptions.model_validate(given)


def load_case(rng: random.Random, folder: Path, options: DataOptions) -> Case:
    kind, metric = rng.choice([("binary", "log_loss"), ("multiclass", "log_loss"), ("regression", "rmsle")])
    folds = FoldOptions(kind=rng.choice(["auto"] * 5 + ["stratified", "column", "time"]), n=2)

    def call() -> object:
        read_sample(options, folder)
        loaded = load(options, folder, kind, metric)  # type: ignore[arg-type]
        return make_folds(folds, loaded.train)

    return call


def csv_case(rng: random.Random, folder: Path) -> Case:
    (folder / "t.csv").write_bytes(csv_text(rng))
    return load_case(rng, folder, data_options(rng, "t.csv"))


def arrow_case(rng: random.Random, folder: Path) -> Case:
    frame = table(rng)
    odd = [[1, 2], {"a": 1}, b"\xff", None, 10**30, pd.Timestamp("2024-01-01"), 1.5, True, "x" * 5_000]
    if rng.random() < 0.6:
        with warnings.catch_warnings(action="ignore"):
            frame["n"] = pd.Series([rng.choice(odd)] * len(frame), dtype=object)
    if rng.random() < 0.2:
        frame["c"] = pd.period_range("2024-01", periods=len(frame), freq="M")
    if rng.random() < 0.2:
        frame["y"] = frame["c"].astype("category") if rng.random() < 0.5 else pd.to_datetime(frame["d"])
    name = rng.choice(["t.parquet", "t.feather"])
    try:
        frame.to_parquet(folder / name) if name == "t.parquet" else frame.to_feather(folder / name)
    except Exception:  # not every table can be written
        table(rng).to_parquet(folder / "t.parquet")
        name = "t.parquet"
    if rng.random() < 0.7:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(damaged(rng, data, data))
    return load_case(rng, folder, data_options(rng, name))


def some_array(rng: random.Random, n_rows: int) -> np.ndarray:
    """Return an array of any type and shape, most of them of no use."""
    shape = rng.choice(
        [(n_rows,), (n_rows, 3), (n_rows, 4, 2), (n_rows, 3, 4, 4), (), (0,), (n_rows + 1,), (2, n_rows)]
    )
    dtype = rng.choice(
        ["f8", ">f4", "f2", "i8", "u1", "?", "U3", "S2", "M8[D]", "m8[s]", "c16", "V4", "g", "M8", "O"]
    )
    values = np.zeros(shape, dtype=[("a", "f4"), ("b", "U2")] if rng.random() < 0.1 else dtype)
    if values.dtype.kind in "fiu" and rng.random() < 0.6:
        fill = rng.choice([0, 1, 3, -1, np.nan, np.inf, 1e300, 2**40])
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            values = np.full(shape, fill).astype(dtype)
    return np.asfortranarray(values) if rng.random() < 0.2 else values


def npy_bytes(rng: random.Random, array: np.ndarray) -> bytes:
    """Return a npy file, some with a header that lies."""
    held = io.BytesIO()
    np.save(held, array, allow_pickle=True)
    data = held.getvalue()
    if rng.random() < 0.04:
        shape = rng.choice(
            ["(10000000000000,)", "(-1,)", "(2, 9223372036854775807)", "(1e3,)", "()", "(True,)", "1"]
        )
        dtype = rng.choice(["<f8", "|O", ">U1000000", "|V0", "<M8", "nonsense"])
        header = (
            f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        )
        data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(rng.choice([0, 8, 200]))
    return damaged(rng, data, data) if rng.random() < 0.04 else data


def npz_case(rng: random.Random, folder: Path) -> Case:
    n_rows = rng.choice([1, 3, 8, 8, 8])
    arrays = {
        "X": np.arange(n_rows * 3.0).reshape(n_rows, 3),
        "y": np.arange(n_rows) % 2,
        "id": np.arange(n_rows).astype(str),
        "V": np.zeros((n_rows, 4, 2), np.float32),
        "n": np.full(n_rows, 2),
    }
    packed = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(packed, "w", method) as archive, warnings.catch_warnings(action="ignore"):
        for name, array in arrays.items():
            if rng.random() < 0.03:
                continue
            changed = some_array(rng, n_rows) if rng.random() < 0.12 else array
            archive.writestr(f"{name}.npy", npy_bytes(rng, changed))
        if rng.random() < 0.05:
            archive.writestr(
                rng.choice(["X.npy", "../x.npy", "a/", "a\0b", "readme"]), b"x" * rng.choice([0, 10, 10**6])
            )
    data = bytearray(packed.getvalue())
    if rng.random() < 0.05:  # says that it is encrypted
        data[6] |= 1
    (folder / "t.npz").write_bytes(
        damaged(rng, bytes(data), bytes(data)) if rng.random() < 0.2 else bytes(data)
    )
    options = data_options(rng, "t.npz")
    if rng.random() < 0.5:
        given = {
            "array": rng.choice(["V", "X", "n", "nothing"]),
            "kind": rng.choice(["auto", "sequence", "tokens", "image"]),
        }
        lengths = {"lengths": rng.choice(["n", "y", "V"])} if rng.random() < 0.5 else {}
        inputs = {"a": {**given, **lengths}, "table": {"columns": ["*"]}}
        options = DataOptions.model_validate({**options.to_json(), "inputs": inputs})
    return load_case(rng, folder, options)


def image_case(rng: random.Random, folder: Path) -> Case:
    frame = table(rng, 3)
    kind = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
    held = io.BytesIO()
    mode = rng.choice(["RGB", "L"] if kind in ("JPEG", "WEBP", "PPM") else ["RGB", "L", "P", "1"])
    Image.new(mode, (rng.choice([1, 20]), rng.choice([1, 30]))).save(held, kind)
    for i in range(3):
        data = held.getvalue()
        (folder / f"{i}.png").write_bytes(damaged(rng, data, data) if rng.random() < 0.4 else data)
    odd = ["", "0.png", "missing.png", "../0.png", "/etc/passwd", "a\0b", "x" * 5_000, ".", "t.csv", "\udc80"]
    paths = [rng.choice(odd) if rng.random() < 0.08 else f"{i}.png" for i in range(3)]
    frame["image"] = pd.Series(paths, dtype=object)
    (folder / "t.csv").write_bytes(frame.to_csv(index=False).encode("utf-8", "surrogateescape"))
    given = {
        "column": "image",
        "size": 8,
        "mode": rng.choice(["RGB", "L"]),
        "broken": rng.choice(["warn", "error"]),
    }
    given |= {"resize": rng.choice(["short_side", "pad", "stretch"])}
    options = DataOptions.model_validate(
        {"train": "t.csv", "target": "y", "inputs": {"image": given, "table": {"columns": ["n"]}}}
    )
    return load_case(rng, folder, options)


def prediction_case(rng: random.Random, folder: Path) -> Case:
    labels: tuple[object, ...] = rng.choice([("a", "b", "c"), (0, 1), ()])
    kinds = {3: "multiclass", 2: "binary", 0: "regression"}
    task = Task(kind=kinds[len(labels)], classes=labels)  # type: ignore[arg-type]
    n_rows = 6
    columns = {str(label): [round(1 / len(labels), 3)] * n_rows for label in labels} or {
        "prediction": [1.0] * n_rows
    }
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(n_rows)], **columns})
    name = rng.choice(["p.csv", "p.csv", "p.npy", "p.parquet", "p.feather"])
    ids: Path | None = None
    if name == "p.npy":
        array = some_array(rng, n_rows) if rng.random() < 0.4 else frame.iloc[:, 1:].to_numpy()
        array = frame.to_records(index=False) if rng.random() < 0.2 else array
        data = npy_bytes(rng, array)
        ids = folder / rng.choice(["ids.npy", "ids.csv"])
        ids.write_bytes(npy_bytes(rng, frame["id"].to_numpy("U2")) if ids.suffix == ".npy" else csv_text(rng))
    elif name == "p.csv":
        data = frame.to_csv(index=False).encode() if rng.random() < 0.8 else csv_text(rng)
    else:
        held = io.BytesIO()
        frame.to_parquet(held) if name == "p.parquet" else frame.to_feather(held)
        data = held.getvalue()
    (folder / name).write_bytes(damaged(rng, data, data) if rng.random() < 0.5 else data)
    classes = rng.choice([None, None, labels, ("a",), ("x" * 5_000,)])
    return lambda: read_predictions(folder / name, task, "id", ids=ids, classes=classes)


def fold_case(rng: random.Random, folder: Path) -> Case:
    ids = np.array([f"r{i}" for i in range(12)])
    inputs = {"table": Table(np.eye(12), tuple(ids), np.zeros((12, 0), np.int32), (), ())}
    samples = Samples(ids=ids, inputs=inputs, y=np.arange(12) % 2, task=Task(kind="binary", classes=(0, 1)))
    folds = make_folds(FoldOptions(kind="stratified", n=3, repeats=rng.choice([1, 2])), samples)
    frame = pd.DataFrame({"id": ids, "fold": np.arange(12) % 3})
    if rng.random() < 0.5:
        frame["repeat"] = rng.choice([0, 1, -1, 10**6, 1e300])
    if rng.random() < 0.5:
        frame["fold"] = frame["fold"].astype(object)
        frame.loc[3, "fold"] = rng.choice([-1, 10**6, 1e300, "", "x", "nan", "inf", 0.5, -7])
    data = frame.to_csv(index=False).encode()
    (folder / "f.csv").write_bytes(damaged(rng, data, data) if rng.random() < 0.6 else data)
    return lambda: read_fold_file(folder / "f.csv", ids, folds, "id")


def manifest_case(rng: random.Random, folder: Path) -> Case:
    store = Store(folder / "store")
    for key in ("aaaa", "bbbb"):
        if not store.has(key):
            with store.write(key, "fit", {"member": {"net": "mlp"}, "repeat": 0, "fold": 1}) as writer:
                writer.json("checks", [1, 2])
                writer.array("values", np.arange(4))
    files = sorted(path for path in (folder / "store" / "entries").rglob("*") if path.is_file())
    path = rng.choice([file for file in files if file.name == "manifest.json"] * 4 + files)
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.5:
        values = json.loads(data)
        spot = values
        while isinstance(spot, dict) and spot:
            key = rng.choice(sorted(spot))
            if not isinstance(spot[key], dict) or rng.random() < 0.3:
                spot[key] = rng.choice([None, -1, 2**70, 1e308, [], {}, "x" * 9_000, "../x", True, [[]] * 3])
                break
            spot = spot[key]
        data = json.dumps(values).encode()
    else:
        data = damaged(rng, data, files[0].read_bytes())
    path.chmod(0o644)
    path.write_bytes(data)
    if path.name == "manifest.json" and rng.random() < 0.7:
        (path.parent / "DONE").write_text(hashlib.sha256(data).hexdigest())

    def call() -> object:
        found = str(list_entries(folder / "store", rng.choice(["", "aa", "fit"])))
        for key in ("aaaa", "bbbb"):
            is_intact(Store(folder / "store"), key)
        return found, str(measure_store(folder / "store", "")), str(explain_entry(folder / "store", "aa"))

    return call


CONFIGS = [path.read_text("utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))] + [RICH] * 30


def config_text(rng: random.Random) -> bytes:
    """Return a config with values, keys and lines exchanged, or damaged bytes."""
    lines = rng.choice(CONFIGS).splitlines()
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for _ in range(rng.choice([0, 1, 1, 1, 2, 4])):
        place = rng.randrange(len(lines))
        line = lines[place]
        key, colon, _ = line.partition(":")
        tokens = re.findall(r"[^\s,{}\[\]:]+", line)
        match rng.randrange(16):
            case 0 | 1 | 2 if colon:
                lines[place] = f"{key}: {rng.choice(WORDS)}"
            case 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 if tokens:
                token = rng.choice(tokens)
                lines[place] = line.replace(token, rng.choice([rng.choice(WORDS), rng.choice(NAMES)]), 1)
            case 11:
                del lines[place : place + rng.choice([1, 3])]
            case 12:
                lines.insert(place, rng.choice(rng.choice(CONFIGS).splitlines()))
            case 13:
                lines[place] = " " * rng.randrange(9) + line.lstrip()
            case _:
                indent = line[: len(line) - len(line.lstrip())]
                lines[place] = f"{indent}{rng.choice([*WORDS, *NAMES])}: {rng.choice(WORDS)}"
        lines = lines or ["a: 1"]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return damaged(rng, data, data) if rng.random() < 0.08 else data


def config_case(rng: random.Random, folder: Path) -> Case:
    (folder / "c.yaml").write_bytes(config_text(rng))
    keys = [
        "seed",
        "data.train",
        "data.drop.0",
        "folds.n",
        "limits.time",
        "limits.memory",
        "executor.timeout",
        "metric",
    ]
    keys += [
        "levels.base.mlp.params",
        "levels.base.mlp.emit.0",
        "levels.final.soft.inputs",
        "stack.holdout",
        "a.b",
        ".",
    ]
    keys += [
        "levels",
        "data",
        "x" * 3_000,
        ".".join("a" * 500),
        "levels.base.mlp.train.lr",
        "task",
        "outputs.dir",
        "",
    ]
    overrides = [
        f"{rng.choice(keys)}{rng.choice(['=', '=', '=', ''])}{rng.choice(WORDS)}"
        for _ in range(rng.choice([0, 0, 1, 3]))
    ]
    return lambda: load_config(folder / "c.yaml", overrides=overrides)


def pattern_case(rng: random.Random, folder: Path) -> Case:
    from stackfeat.layers.taps.layers import match_pattern
    from stackfeat.layers.taps.tap import Tap

    letters = rng.choice(["*", "*a", "ab*?", "*.", "**.", "[]*#:/", "a*/b", "\0\ud800é*"])
    text = "".join(rng.choice(letters) for _ in range(rng.choice([1, 5, 30, 3_000, 100_000])))
    blocks = {f"base/{'a' * n}/proba": None for n in (1, 5, 200)}
    names = ["a" * 200, "a." * 50 + "b", "encoder.layers.0.dropout2"]

    def call() -> object:
        found = [matches(text, name) for name in names], match_block(text, blocks), match_pattern(text, names)
        return found, Tap.parse(text[: rng.choice([50, 100_000])])

    return call


READERS: dict[str, Maker] = {
    "csv": csv_case,
    "npz": npz_case,
    "arrow": arrow_case,
    "image": image_case,
    "prediction": prediction_case,
    "folds": fold_case,
    "manifest": manifest_case,
    "config": config_case,
    "pattern": pattern_case,
}


def fault_of(case: Case) -> BaseException | None:
    """Return what a reader should not have raised, or None."""
    with warnings.catch_warnings(action="ignore"):
        try:
            case()
        except StackfeatError as error:
            longest = max(map(len, str(error).splitlines()), default=0)
            return (
                None if longest < 6_000 and str(error) else AssertionError(f"{longest} characters in a line")
            )
        except Exception as error:
            return error
    return None
