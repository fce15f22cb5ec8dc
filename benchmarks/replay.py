"""Record what the package gives today, and compare it with what it gives after its code was moved.

In:  nothing but this checkout: small configs, data sets and nets, all from fixed seeds.
Out: a file of hashes, with a few numbers beside each; or what differs from such a file, and by how much.

    python benchmarks/replay.py record FILE.json [--only PATTERN ...] [--whole]
    python benchmarks/replay.py compare FILE.json [--only PATTERN ...] [--any-machine]
    python benchmarks/replay.py list

PATTERN is a glob over the names that `list` prints, such as `configs/*`, or a part of one. `--whole` keeps
all numbers in FILE.npz, so that `compare` finds the greatest difference among all of them. `compare` ends with
0 where all is the same, 1 where something differs, 3 where the file is from a machine that rounds otherwise.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "scipy", "pandas", "scikit-learn", "torch", "lightgbm", "catboost")
SAME, DIFFERS, OTHER_MACHINE = 0, 1, 3


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description="Record results, or compare them with recorded ones.")
    parser.add_argument("command", choices=("record", "compare", "list"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--only", action="append", metavar="PATTERN", default=[])
    parser.add_argument("--whole", action="store_true", help="record: keep all numbers in FILE.npz")
    parser.add_argument(
        "--any-machine", action="store_true", help="compare: also with another machine's file"
    )
    arguments = parser.parse_args()
    prepare_process()
    units = chosen(all_units(), arguments.only)
    if arguments.command == "list":
        print("\n".join(units))
        return
    if arguments.file is None:
        parser.error("FILE.json must be named")
    if arguments.command == "record":
        record(arguments.file, units, whole=arguments.whole)
        return
    sys.exit(compare(arguments.file, units, any_machine=arguments.any_machine))


def prepare_process() -> None:
    """Take one thread, this checkout's package, and no code or folders that this user trusts."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    os.environ.pop("STACKFEAT_DATA_ROOTS", None)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path[0] = str(ROOT)


Units = dict[str, Callable[[Path], Iterator[Any]]]


def all_units() -> Units:
    from benchmarks.replayed import commands, estimators, layers, runs

    return {**runs.UNITS, **estimators.UNITS, **layers.UNITS, **commands.UNITS}


def chosen(units: Units, patterns: list[str]) -> Units:
    """Return the units whose names fit a pattern or hold it; all without patterns."""
    found = {
        name: unit
        for name, unit in units.items()
        if not patterns or any(fnmatch.fnmatch(name, pattern) or pattern in name for pattern in patterns)
    }
    if not found:
        sys.exit(f"--only must fit a name; got {patterns}; `list` prints the names")
    return found


def results(units: Units) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield for each unit its entries by name, or the last line of its traceback."""
    for name, unit in units.items():
        started = cpu_seconds()
        with tempfile.TemporaryDirectory() as folder:
            reset_generators()
            try:
                found: dict[str, Any] | str = dict(unit(Path(folder).resolve()))
            except Exception:
                traceback.print_exc()
                found = traceback.format_exc().strip().splitlines()[-1].replace(folder, "FOLDER")
        print(f"{cpu_seconds() - started:6.1f} s  {name}", file=sys.stderr, flush=True)
        yield name, found


def reset_generators() -> None:
    """Make a unit's bytes independent of which units ran before it."""
    import random

    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    torch.set_num_threads(1)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def record(path: Path, units: Units, *, whole: bool) -> None:
    """Write the entries of the units to a file; end with an error where one fails."""
    import numpy as np

    kept: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}
    for unit, found in results(units):
        if isinstance(found, str):
            failed[unit] = found
            continue
        kept |= {f"{unit}: {name}": entry.to_json() for name, entry in found.items()}
        arrays |= {f"{unit}: {name}": entry.whole for name, entry in found.items() if entry.whole is not None}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in kept)
    path.write_text(f'{{"machine": {json.dumps(machine(), indent=1)},\n"entries": {{\n{lines}\n}}}}\n')
    if whole:
        names = np.array(list(arrays))
        np.savez_compressed(
            path.with_suffix(".npz"), names=names, **{f"a{i}": arrays[n] for i, n in enumerate(names)}
        )
    print(f"{len(kept)} entries of {len(units) - len(failed)} units are in {path}")
    if failed:
        sys.exit(
            f"every unit must run to be recorded; got {failed}; make them run, or leave them out by --only"
        )


def machine() -> dict[str, str]:
    """Return what decides how sums are rounded: libraries and the kernels that they choose for this CPU."""
    import numpy as np
    import scipy.linalg  # noqa: F401  (its BLAS is another than numpy's, and listed once loaded)
    import torch
    from threadpoolctl import threadpool_info

    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[index]
    blas = {
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    versions = {name: installed(name) for name in LIBRARIES}
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": ".".join(platform.python_version_tuple()[:2]),
        **versions,
        "blas": ", ".join(sorted(blas)),
        "numpy simd": " ".join(sorted({*simd["baseline"], *simd.get("found", [])})),
        "torch kernels": torch.backends.cpu.get_cpu_capability(),
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def compare(path: Path, units: Units, *, any_machine: bool) -> int:
    """Print what differs from a recorded file; return the exit code."""
    recorded = json.loads(path.read_text())
    here = machine()
    others = [
        f"{name}: recorded {value}, here {here.get(name)}"
        for name, value in recorded["machine"].items()
        if here.get(name) != value
    ]
    if others and not any_machine:
        print("recorded where sums may be rounded otherwise; " + "; ".join(others))
        return OTHER_MACHINE
    whole = read_whole(path.with_suffix(".npz"))
    n_entries, n_differing = 0, 0
    for unit, found in results(units):
        before = of_unit(recorded["entries"], unit)
        n_entries += len(before)
        lines = (
            [f"fails: {found}"]
            if isinstance(found, str)
            else list(differences(before, found, of_unit(whole, unit)))
        )
        n_differing += len(lines)
        if lines:
            print(f"{unit}: {len(lines)} of {len(before)} entries differ")
            print("".join(f"    {line}\n" for line in lines), end="", flush=True)
    print(f"{n_differing} of {n_entries} entries differ")
    return DIFFERS if n_differing else SAME


def read_whole(path: Path) -> dict[str, Any]:
    import numpy as np

    if not path.exists():
        return {}
    with np.load(path) as archive:
        return {str(name): archive[f"a{i}"] for i, name in enumerate(archive["names"])}


def of_unit(entries: dict[str, Any], unit: str) -> dict[str, Any]:
    start = f"{unit}: "
    return {name.removeprefix(start): entry for name, entry in entries.items() if name.startswith(start)}


def differences(before: dict[str, Any], now: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    """Yield a line for every entry that is gone, new or other than before."""
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"{name}: is gone"
        elif name not in before:
            yield f"{name}: is new"
        elif before[name]["sha"] != now[name].sha:
            yield f"{name}: {size_of_difference(name, before[name]['values'], now[name], whole.get(name))}"


def size_of_difference(name: str, kept: list[float], now: Any, whole: Any) -> str:
    """Say how far numbers are apart, by the largest of all numbers, or of the kept ones."""
    import numpy as np

    is_whole = whole is not None
    old = np.asarray(whole if is_whole else kept, dtype=np.float64)
    new = np.asarray(now.whole if is_whole else now.to_json()["values"], dtype=np.float64)
    if old.shape != new.shape:
        return f"{len(old)} numbers became {len(new)}"
    if not len(old):
        return "differs"
    if (np.isnan(old) != np.isnan(new)).any():
        return "numbers became NaN, or NaN numbers"
    apart = np.nan_to_num(np.abs(old - new))
    scale = np.nanmax(np.abs(old)) if np.isfinite(old).any() else 0.0
    text = f"greatest difference {apart.max():.3g}, relative {apart.max() / (scale or 1.0):.3g}"
    text += f" of {'all' if is_whole else 'the kept'} {len(old)} numbers"
    if name.startswith("score/"):
        text += f"; score {old[0]:.8g} -> {new[0]:.8g}, {apart[0] / (old[1] or 1.0):.2g} standard errors"
    return text


if __name__ == "__main__":
    main()
