"""Make what `test_releases.py` reads of the installed release: a predictor and a store, and what they predict.

    python tests/releases/make.py      writes tests/releases/VERSION/, once for each release, with pinned libraries

Seeds are fixed. A folder that is there is never written again: it is what that release wrote.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

import stackfeat as sf
from stackfeat.output.packed_predictor import pack_predictor

HERE = Path(__file__).parent
N_TRAIN, N_NEW = 90, 12
CONFIG = {
    "task": "multiclass",
    "metric": "log_loss",
    "seed": 7,
    "data": {"train": "train.csv", "id": "row", "target": "label"},
    "folds": {"n": 3},
    "levels": {
        "base": {
            "gbm": {
                "estimator": "lightgbm.LGBMClassifier",
                "params": {"n_estimators": 6, "num_leaves": 4, "min_child_samples": 5},
            },
            "linear": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "forest": {
                "estimator": "sklearn.ensemble.RandomForestClassifier",
                "params": {"n_estimators": 4, "max_depth": 3},
            },
            "mlp": {
                "net": "mlp",
                "params": {"hidden": [6]},
                "train": {"epochs": 3, "batch_size": 32},
                "emit": ["proba", "penultimate"],
            },
        },
        "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
        "final": {
            "soft": {"vote": "soft", "inputs": ["meta/*", "base/*/proba"]},
            "greedy": {"vote": "greedy", "inputs": ["*/*/proba"], "picks": 8},
        },
    },
    "submit": "soft",
    "executor": {"kind": "inline"},
}


def rows(n_rows: int, first: int, seed: int) -> list[dict[str, object]]:
    """Return rows with numbers, some of them missing, a category, a date and a label."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n_rows):
        x = rng.normal(size=3)
        colour = "abc"[rng.integers(3)]
        label = ("low", "mid", "high")[int(np.digitize(x[0] + (colour == "b"), [-0.3, 0.8]))]
        numbers = {
            name: "" if rng.random() < 0.05 else f"{value:.4f}" for name, value in zip("xyz", x, strict=True)
        }
        day = {"day": f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 28):02d}"}
        found.append({"row": first + number, **numbers, "colour": colour, **day, "label": label})
    return found


def write(path: Path, given: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(given[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(given)


def main() -> None:
    place = HERE / sf.__version__
    if place.exists():
        sys.exit(f"{place} is what that release wrote, and stays")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write(folder / "train.csv", rows(N_TRAIN, 0, 0))
        write(folder / "new.csv", rows(N_NEW, 500, 1))
        (folder / "config.yaml").write_text(json.dumps(CONFIG, indent=1) + "\n")
        result = sf.run(folder / "config.yaml")
        place.mkdir(parents=True)
        for name in ("train.csv", "new.csv", "config.yaml"):
            (place / name).write_bytes((folder / name).read_bytes())
        pack_predictor(result.folder, place / "model.zip")
        said = sf.load(result.folder).predict_proba(folder / "new.csv")
        np.savetxt(place / "expected.csv", said, delimiter=",", fmt="%.12g")
        np.savetxt(place / "oof.csv", result.block("final/soft/proba").oof, delimiter=",", fmt="%.12g")
        store = folder / ".stackfeat"
        with zipfile.ZipFile(place / "store.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(store.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(store).as_posix())


if __name__ == "__main__":
    main()
