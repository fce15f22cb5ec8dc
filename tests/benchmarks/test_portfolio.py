"""What the portfolio of members is learnt from: predictions out of fold, and the CPU of every fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import portfolio
from benchmarks.cpu_by_stage import COLUMNS, spent_on
from benchmarks.portfolio import Measured, learn, measure, rows_of

MEMBERS = ("linear", "gbm")


def test_what_was_measured_can_be_learnt_from(tmp_path, monkeypatch, capsys):
    sets = {
        "sklearn:breast_cancer": ("target", 120, ()),
        "sklearn:diabetes": ("target", 120, ()),
    }
    monkeypatch.setattr(portfolio, "SETS", sets)
    for name in sets:
        measure(name, None, tmp_path, MEMBERS)
    lines = (tmp_path / "sklearn_diabetes" / "spent.jsonl").read_text().splitlines()
    spent = [json.loads(line) for line in lines]
    assert sorted(one["member"] for one in spent) == sorted(portfolio.N_FOLDS * MEMBERS)
    assert all(0 < one["seconds"] < 120 for one in spent)
    one = Measured.read(tmp_path / "sklearn_diabetes")
    assert one is not None and set(one.seconds) == set(one.predictions) == set(MEMBERS)
    rows = rows_of("sklearn:diabetes", None)
    np.testing.assert_allclose(np.sort(one.y), np.sort(rows["target"]))
    # Out of fold they know something of the target.
    assert np.corrcoef(one.predictions["linear"][:, 0], one.y)[0, 1] > 0.4
    learn(tmp_path, write=False)
    said = capsys.readouterr().out
    assert said.count("[[bands]]") == len(portfolio.BANDS)
    assert "| breast_cancer | 120 |" in said and "linear: [" in said and "forest: None" in said


@pytest.mark.slow
def test_the_cpu_of_a_default_run_is_told_by_stage(tmp_path):
    rows = rows_of("sklearn:breast_cancer", None).iloc[:200].rename(columns={"target": "y"})
    spent = spent_on(rows, "y", tmp_path, "quick")
    assert set(spent) <= {*COLUMNS} and spent["trees"] > 0 and spent["rest"] > 0
    assert spent["all"] == pytest.approx(sum(spent[one] for one in COLUMNS[:-1] if one in spent))
