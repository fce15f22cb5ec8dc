"""Pictures and numbers of docs/explanation/alignment.md, all from scikit-learn's digits.

    python benchmarks/alignment_pictures.py [--seeds 5] [--noise-seeds 20] [--draw]

In:  nothing; ``--draw`` draws anew and takes the numbers that are there. About 90 s of CPU, one thread.
Out: in docs/explanation/pictures: png files, and numbers.json, from which `tables` writes the page's tables
     (tests/test_alignment_page.py compares them).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from alignment_draw import (  # noqa: E402
    draw_comparable,
    draw_gate,
    draw_geometry,
    draw_late,
    draw_leak,
    draw_spaces,
)
from alignment_leak import leaks  # noqa: E402
from alignment_spaces import (  # noqa: E402
    ENCODINGS,
    Encoded,
    FoldSpaces,
    centred_log_proba,
    comparability,
    digits_spaces,
    encoded,
    stacks,
)

FOLDER = Path(__file__).resolve().parent.parent / "docs/explanation/pictures"
NUMBERS = FOLDER / "numbers.json"

Spread = dict[str, dict[str, list[float]]]
"""By block and measure: a value for each seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise-seeds", type=int, default=20)
    parser.add_argument("--draw", action="store_true", help="only draw; keep numbers.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not given.draw:
        found = measure(range(given.seeds), range(given.noise_seeds))
        NUMBERS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    numbers = json.loads(NUMBERS.read_text("utf-8"))
    spaces = digits_spaces(0)
    draw_spaces(spaces, encoded(spaces, "aligned"), FOLDER / "spaces.png")
    draw_geometry(spaces, FOLDER / "geometry.png")
    draw_late(spaces, encoded(spaces, "aligned"), numbers["comparability"], FOLDER / "late.png")
    draw_comparable(numbers["comparability"], FOLDER / "comparable.png")
    draw_leak(numbers["leaks"], FOLDER / "leak.png")
    draw_gate(numbers["stacks"], FOLDER / "gate.png")
    for name, text in tables(numbers).items():
        print(f"{name}\n\n{text}\n")


def measure(seeds: Sequence[int], noise_seeds: Sequence[int]) -> dict[str, Spread]:
    """Measure everything, a value for each seed."""
    compared: Spread = {}
    stacked: Spread = {}
    leaked: Spread = {}
    for seed in seeds:
        spaces = digits_spaces(seed)
        blocks = {name: encoded(spaces, name) for name in ENCODINGS}
        predicted = Encoded(
            centred_log_proba(spaces.out_of_fold(spaces.proba)),
            [centred_log_proba(rows) for rows in spaces.proba_test],
        )
        for name, block in {"predictions": predicted, **blocks}.items():
            _add(compared, name, comparability(spaces, block, seed))
        for name, found in stacks(spaces, {"noise": _noise(spaces, seed), **blocks}, seed).items():
            _add(stacked, name, found)
    for seed in noise_seeds:
        for name, found in leaks(seed).items():
            _add(leaked, name, found)
    return {"comparability": compared, "stacks": stacked, "leaks": leaked}


def _add(spread: Spread, name: str, found: dict[str, float]) -> None:
    for measure_name, value in found.items():
        spread.setdefault(name, {}).setdefault(measure_name, []).append(round(value, 6))


def _noise(spaces: FoldSpaces, seed: int) -> Encoded:
    """A block as wide as the layer that knows nothing of any row."""
    rng = np.random.default_rng(seed)
    width = spaces.train[0].shape[1]
    return Encoded(
        rng.normal(size=(len(spaces.y), width)),
        [rng.normal(size=(len(spaces.y_test), width)) for _ in spaces.test],
    )


def tables(numbers: dict[str, Spread]) -> dict[str, str]:
    """Return the page's tables, as Markdown, by name."""
    return {
        "comparability": _comparability_table(numbers["comparability"]),
        "leaks": _leak_table(numbers["leaks"]),
        "stacks": _stack_table(numbers["stacks"]),
    }


def _comparability_table(compared: Spread) -> str:
    lines = [
        "| block | fold guessed: linear | fold guessed: neighbours | loss grouped | loss random "
        "| AUC late | AUC early |",
        "|---|---|---|---|---|---|---|",
    ]
    measures = ("fold_linear", "fold_near", "grouped", "random", "late", "early")
    for name, found in compared.items():
        cells = [
            f"{np.mean(found[measure]):.{3 if measure in ('grouped', 'random') else 2}f}"
            for measure in measures
        ]
        lines.append(f"| {_written(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _leak_table(leaked: Spread) -> str:
    lines = ["| map | out of fold | on test rows |", "|---|---|---|"]
    for name, found in leaked.items():
        if name != "nets":
            lines.append(f"| {_written(name)} | {_signed(found['oof'])} | {_signed(found['test'])} |")
    return "\n".join(lines)


def _stack_table(stacked: Spread) -> str:
    base = np.asarray(stacked["proba"]["loss"])
    lines = [
        "| block beside predictions | gain out of fold, in standard errors | let in | test: ungated | test: gated |",
        "|---|---|---|---|---|",
    ]
    for name, found in stacked.items():
        if name == "proba":
            continue
        ratios = np.asarray(found["gain"]) / np.asarray(found["se"])
        let_in = int(np.sum(np.asarray(found["scale"]) > 0))
        changes = [_signed(list(np.asarray(found[how]) - base), 4) for how in ("ungated", "gated")]
        lines.append(
            f"| {_written(name)} | {ratios.min():+.1f} to {ratios.max():+.1f} | {let_in} of {len(ratios)} "
            f"| {' | '.join(changes)} |"
        )
    nets, alone = (float(np.mean(stacked["proba"][which])) for which in ("nets", "loss"))
    lines += [
        "",
        f"Log-loss of test rows: mean of the five nets {nets:.3f}, stack of predictions alone {alone:.3f}.",
    ]
    return "\n".join(lines)


def _written(name: str) -> str:
    return f"`{name}`" if name in ENCODINGS else name


def _signed(values: Sequence[float], decimals: int = 1) -> str:
    """Mean and standard error over seeds."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{np.mean(values):+.{decimals}f} ± {error:.{decimals}f}"


if __name__ == "__main__":
    main()
