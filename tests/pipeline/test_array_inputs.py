"""Whole runs on arrays: images, padded sequences and tokens beside a table, groups, later rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stackfeat as sf

Project = Any
CODE = """
from torch import cat, nn

class Both(nn.Module):
    def __init__(self, shapes, vocabulary, n_outputs, width=8):
        super().__init__()
        assert shapes["image"] == (1, 8, 8) and vocabulary == {"text": 8}, (shapes, vocabulary)
        self.table = nn.Embedding(200, width)
        self.fc = nn.Linear(64 + width, n_outputs)

    def forward(self, %s):
        %s
        return self.fc(cat([image.flatten(1), self.table(text).mean(1)], dim=1))
"""
BY_NAME = CODE % ("text, image", "pass")
ANY = CODE % ("**inputs", "image, text = inputs['image'], inputs['text']")
BY_PLACE = CODE % ("x, y", "image, text = x, y")


def rows(n: int, seed: int) -> dict[str, np.ndarray]:
    """Brighter images, greater tokens and a greater number go with the greater class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    lengths = rng.integers(2, 6, n)
    return {
        "X": (rng.integers(0, 120, (n, 8, 8)) + 40 * y[:, None, None]).astype(np.uint8),
        "notes": rng.integers(0, 4, (n, 5)) + 2 * y[:, None],
        "n_notes": lengths,
        "age": rng.normal(size=n) + y,
        "owner": np.arange(n) // 4,
        "key": np.arange(n) + 1000 * seed,
        "label": y,
    }


def config() -> dict[str, Any]:
    train = {"epochs": 4, "batch_size": 16, "lr": 0.01}
    base = {
        "cnn": {"net": "cnn", "inputs": ["image"], "params": {"width": 4, "stages": 1}, "train": train},
        "gru": {"net": "gru", "inputs": ["text"], "params": {"width": 4, "depth": 1}, "train": train},
        "all": {
            "net": "fusion",
            "params": {"width": 4, "hidden": 8, "encoders": {"image": "vector"}},
            "train": train,
        },
        "tree": {"estimator": "lightgbm.LGBMClassifier", "params": {"n_estimators": 5}, "inputs": ["table"]},
    }
    return {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {
            "train": "train.npz",
            "test": "test.npz",
            "id": "key",
            "target": "label",
            "group": "owner",
            "inputs": {
                "image": {"array": "X"},
                "text": {"array": "notes", "lengths": "n_notes"},
                "table": {"columns": ["age"]},
            },
        },
        "folds": {"n": 2},
        "levels": {
            "base": base,
            "meta": {"gated": {"estimator": "gated_linear", "inputs": ["base/*/*"]}},
        },
        "executor": {"kind": "inline"},
    }  # fmt: skip


def said_of(project: Project, said: Any) -> str:
    """Return what a run printed and wrote into its report."""
    return f"{said.out}{said.err}{(project.run_folder / 'report.html').read_text()}"


@pytest.fixture
def arrays(build: Callable[..., Project]) -> Callable[..., Project]:
    def new(given: dict[str, Any]) -> Project:
        project = build(config=given)
        np.savez(project.folder / "train.npz", **rows(60, 0))
        test = rows(20, 1)
        np.savez(
            project.folder / "test.npz", **{k: v for k, v in test.items() if k not in ("label", "owner")}
        )
        return project

    return new


def test_a_run_on_three_kinds_of_input_predicts_its_submission(arrays: Any) -> None:
    project = arrays(config())
    checked = project.cli("check", project.folder / "c.yaml")
    assert checked.code == 0 and "reads image, text, table" in checked.out
    said = project.run()
    assert said.code == 0, said.err
    log = said_of(project, said)
    assert "input image: image 1 x 8 x 8, uint8" in log
    assert "input text: tokens 5, int64, padded, 8 tokens" in log
    submission = (project.run_folder / "submission.csv").read_bytes()
    found = sf.explain(project.run_folder, repeats=2)
    assert {one.name: one.kind for one in found.columns} == {
        "age": "numeric",
        "image": "image",
        "text": "tokens",
    }
    assert all(one.importance > 0 for one in found.columns)
    shutil.rmtree(project.folder / ".stackfeat")
    out = project.folder / "out.csv"
    said = project.cli("predict", project.run_folder, project.folder / "test.npz", "-o", out)
    assert said.code == 0, said.err
    assert out.read_bytes() == submission
    model, few = sf.load(project.run_folder), {name: values[:3] for name, values in rows(20, 1).items()}
    told = model.explain(few, n_permutations=4)
    assert set(told["column"]) == {"age", "image", "text"}
    sums = told.groupby("row")[["contribution", "base", "prediction"]]
    moved = sums.first()["prediction"] - sums.first()["base"]
    np.testing.assert_allclose(sums.sum()["contribution"], moved, atol=1e-9)


@pytest.mark.slow
def test_rows_left_on_disk_give_the_same_bytes(arrays: Any) -> None:
    outputs = []
    for stream in (True, False):
        given = config()
        given["data"]["inputs"]["image"]["stream"] = stream
        given["data"]["inputs"]["text"]["stream"] = stream
        project = arrays(given)
        said = project.run()
        assert said.code == 0, said.err
        outputs.append((project.run_folder / "submission.csv").read_bytes())
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("code", [BY_NAME, ANY, BY_PLACE], ids=["by name", "any", "by place"])
def test_a_net_of_the_user_gets_every_input_in_its_argument(code: str, arrays: Any) -> None:
    own = {"net": "mine:Both", "inputs": ["image", "text"], "train": {"epochs": 2}, "emit": ["proba"]}
    given = config()
    given["levels"] = {"base": {"own": own}}
    project = arrays(given)
    (project.folder / "mine.py").write_text(code)
    said = project.run("--trust-code")
    assert said.code == 0, said.err
    assert project.submission()[0] == ["key", "0", "1", "2"]


def test_an_estimator_that_reads_an_image_says_what_to_do(arrays: Any) -> None:
    given = config()
    bad = {"estimator": "lightgbm.LGBMClassifier", "inputs": ["image"]}
    given["levels"] = {"base": {"tree": given["levels"]["base"]["tree"], "bad": bad}}
    said = arrays(given).run()
    assert said.code == 4
    assert (
        "estimators read tables; got the input 'image', an array of rows of shape (1, 8, 8)"
        in said.out + said.err
    )


def test_layers_of_a_net_are_listed_on_the_inputs_of_the_config(arrays: Any) -> None:
    project = arrays(config())
    said = project.cli("layers", "--config", project.folder / "c.yaml", "--member", "base/all")
    if said.code == 2 and "No such option" in said.err:
        said = project.cli("layers", project.folder / "c.yaml", "base/all")
    assert said.code == 0, said.err
    assert "encoders.text.reader" in said.out


def test_images_by_a_column_of_paths_run_and_predict(build: Callable[..., Project]) -> None:
    image = pytest.importorskip("PIL.Image")
    given = config()
    given["data"] = {
        "train": "train.csv",
        "test": "test.csv",
        "id": "row_id",
        "target": "label",
        "inputs": {
            "photo": {"column": "file", "root": "photos", "size": 8},
            "table": {"columns": ["a", "b"]},
        },
    }
    cnn = {"net": "cnn", "inputs": ["photo"], "params": {"width": 4, "stages": 1}, "train": {"epochs": 1}}
    given["levels"] = {
        "base": {"cnn": cnn, "both": {"net": "fusion", "params": {"width": 4}, "train": {"epochs": 1}}}
    }
    project = build(config=given, n_rows=40)
    (project.folder / "photos").mkdir()
    for name in ("train", "test"):
        path = Path(project.folder / f"{name}.csv")
        lines = path.read_text().splitlines()
        for i, _ in enumerate(lines[1:]):
            image.new("RGB", (10, 9), (i, 99, 5 * i % 255)).save(project.folder / f"photos/{name}{i}.png")
        named = [f"{line},{'file' if i == 0 else f'{name}{i - 1}.png'}" for i, line in enumerate(lines)]
        path.write_text("\n".join(named) + "\n")
    (project.folder / "photos/train3.png").write_bytes(b"nothing")
    said = project.run()
    assert said.code == 0, said.err
    broken = "1 of 40 images cannot be read: not an image of a known format: train3.png"
    assert broken in said_of(project, said)
    submission = (project.run_folder / "submission.csv").read_bytes()
    out = project.folder / "out.csv"
    assert project.cli("predict", project.run_folder, project.folder / "test.csv", "-o", out).code == 0
    assert out.read_bytes() == submission
    assert "0 jobs to compute" in project.cli("check", project.folder / "c.yaml").out
    image.new("RGB", (10, 9)).save(project.folder / "photos/train5.png")
    assert "0 jobs to compute" not in project.cli("check", project.folder / "c.yaml").out
