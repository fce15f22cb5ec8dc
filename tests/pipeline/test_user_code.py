"""--set, and a user's own estimator, net, metric and splitter beside the config, under --trust-code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Project = Any
MINE = '''
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import KFold


class Prior(ClassifierMixin, BaseEstimator):
    """Predicts the class shares."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares_ = (counts / counts.sum()) ** self.power
        return self

    def predict_proba(self, X):
        return np.tile(self.shares_ / self.shares_.sum(), (len(X), 1))


class Closure(Prior):
    """Cannot be saved: it holds a function."""

    def fit(self, X, y):
        self.function_ = lambda x: x
        return super().fit(X, y)


def share_right(y_true, y_pred):
    assert set(y_true) <= {"low", "mid", "high"}
    return float(np.mean(y_true == y_pred))


share_right.greater_is_better = True
share_right.needs = "label"


class Split(KFold):
    def __init__(self, n_splits):
        super().__init__(n_splits, shuffle=True, random_state=3)
'''
NET = """
from torch import nn

class Tiny(nn.Module):
    def __init__(self, n_features, n_outputs, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, width), nn.Tanh())
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(self.body(x))
"""


@pytest.fixture
def mine(plain: Project) -> Project:
    (plain.folder / "mine.py").write_text(MINE)
    (plain.folder / "mynets.py").write_text(NET)
    return plain


def changed(project: Project, what: str) -> Project:
    """Put a user's thing into the config."""
    config = project.config()
    if what == "estimator":
        config["levels"]["base"]["prior"] = {"estimator": "mine:Prior", "params": {"power": 0.5}}
    elif what == "net":
        config["levels"]["base"]["tiny"] = {
            "net": "mynets:Tiny",
            "params": {"width": 3},
            "train": {"epochs": 2},
            "emit": ["proba", {"tap": "body.1", "encode": "geometry"}],
        }
    elif what == "metric":
        config["metric"] = "mine:share_right"
    elif what == "splitter":
        config["folds"]["kind"] = "mine:Split"
    return project.write(config)


@pytest.mark.parametrize("what", ["estimator", "net", "metric", "splitter"])
def test_user_code_needs_the_flag_and_then_works(
    what: str, mine: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = changed(mine, what).run()
    assert said.code == 2 and "--trust-code" in said.err and "Traceback" not in said.err
    said = mine.run("--trust-code")
    assert said.code == 0, said.err
    scores = mine.scores()
    assert scores["failed"] == []
    assert mine.cli("check", mine.folder / "c.yaml", "--trust-code").code == 0
    if what == "metric":
        assert scores["metric"] == "mine:share_right" and scores["greater_is_better"]


@pytest.mark.parametrize(("what", "member"), [("estimator", "prior"), ("net", "tiny")])
def test_predicting_with_user_code_needs_the_flag_again(
    what: str, member: str, mine: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert changed(mine, what).run("--trust-code", "--set", f"submit={member}").code == 0
    for name in ("mine", "mynets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    out = mine.folder / "out.csv"
    command = ("predict", mine.run_folder, mine.folder / "test.csv", "-o", out)
    said = mine.cli(*command)
    assert said.code == 2 and "--trust-code" in said.err and not out.exists()
    said = mine.cli(*command, "--trust-code")
    assert said.code == 0, said.err
    assert out.read_bytes() == (mine.run_folder / "submission.csv").read_bytes()
    path = mine.folder / ("mine.py" if what == "estimator" else "mynets.py")
    path.write_text(path.read_text() + "\nMORE = 1\n")
    said = mine.cli(*command, "--trust-code")
    assert said.code == 2 and "must be as it was in the run" in said.err and "Traceback" not in said.err


MOVED = {
    "inside": ("x.argsort(0)[:, 0]", "hidden[order.argsort()]"),
    "rare rows": ("((x > 1.2).any(1) * 1).argsort(stable=True)", "hidden[order.argsort()]"),
    "the output": ("x.argsort(0)[:, 0].flip(0)", "hidden"),
}


@pytest.mark.parametrize("where", MOVED)
def test_a_net_that_moves_its_rows_is_no_member(where: str, mine: Project) -> None:
    order, back = MOVED[where]
    forward = f"order = {order}; hidden = self.body(x[order]); return self.head({back})"
    (mine.folder / "mynets.py").write_text(NET.replace("return self.head(self.body(x))", forward))
    said = changed(mine, "net").run("--trust-code")
    assert said.code == 4, said.err
    assert mine.scores()["failed"] == ["base/tiny"]
    assert "the net reorders its rows" in said.err or "the net moves rows of a certain kind" in said.err
    assert "Traceback" not in said.err


@pytest.mark.slow
def test_user_code_is_found_in_workers_and_by_a_new_process(mine: Project, tmp_path: Path) -> None:
    changed(changed(changed(mine, "estimator"), "net"), "metric")
    said = mine.run("--trust-code", "--set", "executor={kind: loky, jobs: 2}", "--set", "submit=tiny")
    assert said.code == 0, said.err
    away = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    out = tmp_path / "out.csv"
    command = [
        sys.executable,
        "-m",
        "stackfeat",
        "predict",
        mine.run_folder,
        mine.folder / "test.csv",
        "-o",
        out,
    ]
    done = subprocess.run([*map(str, command), "--trust-code"], cwd=tmp_path, env=away, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (mine.run_folder / "submission.csv").read_bytes()
    for name, codes, options in (("explain", {0}, []), ("distil", {0, 1}, ["--student", "lightgbm"])):
        command = [sys.executable, "-m", "stackfeat", name, mine.run_folder, *options, "--trust-code"]
        done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=away, capture_output=True)
        assert done.returncode in codes and b"error" not in done.stderr, done.stderr


def test_an_edit_of_user_code_refits_it_alone(mine: Project, fits: list[str]) -> None:
    assert changed(mine, "estimator").run("--trust-code").code == 0
    fits.clear()
    text = MINE.replace("Predicts the class shares.", "Predicts shares of classes.")
    (mine.folder / "mine.py").write_text(text)
    assert mine.run("--trust-code").code == 0
    assert fits.count("mine:Prior") == 3 and "sklearn.tree.DecisionTreeClassifier" not in fits


def test_a_member_that_cannot_be_saved_is_named_every_time(mine: Project) -> None:
    config = mine.config()
    config["levels"]["base"]["closure"] = {"estimator": "mine:Closure"}
    said = mine.write(config).run("--trust-code", "--set", "submit=final/soft")
    assert said.code == 0, said.err
    first = mine.outputs()
    assert any("base/closure" in text and "later data" in text for text in mine.scores()["warnings"])
    said = mine.run("--trust-code", "--set", "submit=final/soft")
    assert said.code == 0 and mine.outputs() == first
    said = mine.cli(
        "predict", mine.run_folder, mine.folder / "test.csv", "-o", mine.folder / "o.csv", "--trust-code"
    )
    assert said.code == 1 and "cannot score later data" in said.err and "base/closure" in said.err
    assert "the others predict --without base/closure" in said.err
    said = mine.cli(
        *("predict", mine.run_folder, mine.folder / "test.csv", "-o", mine.folder / "o.csv"),
        *("--trust-code", "--without", "base/closure"),
    )
    assert said.code == 0 and (mine.folder / "o.csv").is_file(), said.err


def test_a_file_that_shadows_a_trusted_package_is_refused(quick: Project) -> None:
    (quick.folder / "lightgbm.py").write_text("raise SystemExit('imported')\n")
    said = quick.run("--set", "store=new")
    assert said.code == 2 and "lightgbm" in said.err and "Rename" in said.err


def test_overrides_reach_every_depth_and_are_kept_in_the_run_folder(quick: Project, fits: list[str]) -> None:
    said = quick.run(
        *("--set", "levels.base.gbm.params.n_estimators=4"),
        *("--set", "name=less"),
        *("--set", "folds={n: 4}"),
    )
    assert said.code == 0, said.err
    text = (quick.folder / "runs" / "less" / "config.yaml").read_text()
    assert "n_estimators: 4" in text
    assert fits.count("lightgbm.LGBMClassifier") == 4
