"""Compute what is not there yet, print the tables, write them into the docs on request.

In:  data sets, seeds.
Out: losses of every test row in work/encodings, a csv of scores there, tables; with --write the section
     of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import os
import platform
import tempfile
import textwrap
import time
import warnings
from importlib.metadata import version
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from benchmarks.encodings.by_hand import by_hand  # noqa: E402
from benchmarks.encodings.compare import row_losses, score  # noqa: E402
from benchmarks.encodings.peers import scikit_learn_stacking  # noqa: E402
from benchmarks.encodings.rows import DATA_SETS, draw  # noqa: E402
from benchmarks.encodings.stack import run_stack  # noqa: E402
from benchmarks.encodings.stored import read_stored  # noqa: E402
from benchmarks.encodings.tables import (  # noqa: E402
    Results,
    averaging_table,
    gated_table,
    key_table,
    verdicts,
)

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TITLE = "## Stacks with hidden features"
SETTINGS = (
    "fashion_mnist is read as 14 x 14 means, uci_har as statistics and band energies of each channel, in folds of "
    "whole subjects. higgs_small has 500 test rows; 3,500 rows that no seed trains on join them. No setting was "
    "chosen by data set: nets of 256 and 128 units stop early on an inner split, LightGBM has "
    "fewer rounds where there are many classes. scikit-learn stacks its own net of the same widths and the same "
    "LightGBM over the same folds. Draws 0 to 12, test rows included, led to the votes that `gated_linear` "
    "shrinks to ([decision 8](decisions/0008-weighted-vote.md)). That read-outs vote too was found on rows of "
    "the training parts alone ([decision 9](decisions/0009-read-outs-vote.md)). Draws 16 to 21 are new to both.",
)
UNDER_GATES = (
    '"In" counts the fits (five folds and all rows, every seed) whose gate let the block in. What encodings cost '
    "beside training stands under *Encoding hidden layers*."
)
UNDER_ALL = (
    '"One fit" is a meta-learner fitted on all out-of-fold rows by hand, so that late, early and refit differ in '
    "nothing but the test rows; the other stacks are those of a run with `meta_fit: {meta_fit}`. "
    '"No gate" shares one penalty among all columns. With raw columns or no gate, `nested: false`: nested fits mend '
    "out-of-fold scores, which are not used here."
)
PACKAGES = ("torch", "lightgbm", "scikit-learn", "numpy")


def main() -> None:
    """Run what is asked for, then print."""
    arguments = parse()
    arguments.output.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.getLogger("stackfeat").setLevel(logging.ERROR)
    for name in arguments.data:
        for seed in arguments.seeds:
            path = arguments.output / f"{name}-{arguments.rows}-{seed}"
            if path.with_suffix(".json").exists():
                print(f"{name}, seed {seed}: there already", flush=True)
                continue
            compute(name, seed, path, arguments)
    results = read(arguments)
    write_csv(arguments.output / "scores.csv", results)
    text = "\n".join(section(results))
    print(text)
    if arguments.write:
        replace_section(REPOSITORY / "docs/benchmarks.md", text)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encodings", description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(DATA_SETS), choices=list(DATA_SETS), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(16, 22)))
    parser.add_argument("--rows", type=int, default=2500, help="training rows")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes of each run")
    parser.add_argument("--source", type=Path, default=REPOSITORY / "../shared/data")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "work/encodings")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/benchmarks.md")
    return parser.parse_args()


def compute(name: str, seed: int, path: Path, arguments: argparse.Namespace) -> None:
    """Compute every stack of one data set and seed; the json is written last."""
    started, cpu = time.perf_counter(), time.process_time()
    drawn = draw(name, arguments.source, seed, arguments.rows)
    with tempfile.TemporaryDirectory(prefix="encodings-") as folder:
        stacked = run_stack(drawn, seed, Path(folder), arguments.jobs)
        stored = read_stored(stacked.config)
    predictions = {
        **stacked.predictions,
        **by_hand(stored, seed),
        "sklearn": scikit_learn_stacking(drawn, stored.folds, seed),
    }
    losses = {key: row_losses(values, drawn.y_test) for key, values in predictions.items()}
    np.savez_compressed(path.with_suffix(".npz"), clusters=drawn.clusters, **losses)
    facts = {
        "data": name,
        "seed": seed,
        "is_value": drawn.kind == "regression",
        "n_train": len(drawn.train),
        "n_test": len(drawn.test),
        "seconds": stacked.seconds,
        "gates": stacked.gates,
        "meta_fit": stacked.meta_fit,
    }
    path.with_suffix(".json").write_text(json.dumps(facts))
    spent = f"{time.process_time() - cpu:.0f} s of this process, {time.perf_counter() - started:.0f} s in all"
    print(f"{name}, seed {seed}: {spent}", flush=True)


def read(arguments: argparse.Namespace) -> list[Results]:
    """Read the results of the data sets and seeds asked for."""
    results = []
    for name in arguments.data:
        paths = [arguments.output / f"{name}-{arguments.rows}-{seed}" for seed in arguments.seeds]
        arrays = [dict(np.load(path.with_suffix(".npz"), allow_pickle=False)) for path in paths]
        facts = [json.loads(path.with_suffix(".json").read_text()) for path in paths]
        clusters = [found.pop("clusters") for found in arrays]
        results.append(Results(name, facts[0]["is_value"], clusters[0], arrays, facts))
    return results


def write_csv(path: Path, results: list[Results]) -> None:
    """Write a row for each data set, seed and stack."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["data", "seed", "stack", "metric", "score", "n_train", "n_test"])
        for found in results:
            metric = "rmse in sd" if found.is_value else "log_loss"
            for losses, facts in zip(found.losses, found.facts, strict=True):
                for stack, values in losses.items():
                    value = score(values, found.is_value)
                    sizes = [facts["n_train"], facts["n_test"]]
                    writer.writerow([found.name, facts["seed"], stack, metric, f"{value:.6f}", *sizes])
    part.replace(path)


def section(results: list[Results]) -> list[str]:
    """The section of docs/benchmarks.md."""
    meta_fit = " and ".join(sorted({facts["meta_fit"] for found in results for facts in found.facts}))
    parts = [
        [TITLE],
        *(wrapped(text) for text in introduction(results)),
        ["### What holds"],
        [line for text in verdicts(results) for line in wrapped(text, "  ")],
        gated_table(results),
        wrapped(UNDER_GATES),
        ["### Late, early, refit"],
        averaging_table(results),
        ["### All stacks"],
        key_table(results),
        wrapped(UNDER_ALL.format(meta_fit=meta_fit)),
    ]
    return [line for part in parts for line in ("", *part)][1:]


def wrapped(text: str, indent: str = "") -> list[str]:
    """Break a paragraph into lines."""
    return textwrap.wrap(text, 110, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def introduction(results: list[Results]) -> list[str]:
    """How it was measured, a paragraph each."""
    n_seeds = len(results[0].losses)
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"`python -m benchmarks.encodings`: a net and LightGBM in five folds and stacks above them, on {n_seeds} "
        "draws of training rows of each data set; the test rows are the same for all. Log-loss; for "
        "california_housing the root mean squared error in standard deviations of the target. Differences "
        "are in **thousandths, below zero the first stack is better**; ± is the standard error of the paired "
        "difference over test rows (for uci_har over its nine test subjects), losses averaged over seeds.",
        *SETTINGS,
        f"{machine()}; Python {platform.python_version()}, {versions}.",
    ]


def machine() -> str:
    """The processor in plain words."""
    model: str = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        named = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = named[0] if named else model
    return f"One thread on one core of an {model} ({os.cpu_count()} virtual cores, shared with other work)"


def replace_section(path: Path, text: str) -> None:
    """Write the section in the place of its earlier self, or at the end."""
    before, found, after = path.read_text().partition(f"{TITLE}\n")
    rest = after.partition("\n## ")
    tail = f"\n## {rest[2]}" if found and rest[1] else ""
    path.write_text(f"{before.rstrip()}\n\n{text}\n{tail}")


if __name__ == "__main__":
    main()
