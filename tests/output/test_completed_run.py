"""The result of a run: blocks as arrays are what the files of predictions hold."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackfeat.engine import plan_warnings
from stackfeat.errors import UsageError
from stackfeat.pipeline.run import run

Project = Any


def test_a_block_holds_what_the_files_of_its_member_show(quick: Project) -> None:
    result = run(quick.folder / "c.yaml")
    block = result.block("base/gbm/proba")
    oof, test = (
        pd.read_csv(result.folder / kind / "base.gbm.csv", float_precision="round_trip").iloc[:, 1:]
        for kind in ("oof", "test")
    )
    np.testing.assert_array_equal(block.oof, oof.to_numpy())
    np.testing.assert_allclose(np.mean(block.views, axis=0), test.to_numpy())
    assert block.covered.all() and len(block.views) == 3
    with pytest.raises(UsageError, match=r"block must be one of base/gbm/proba, .*; got 'base/gbm/probs'"):
        result.block("base/gbm/probs")


def test_a_result_can_be_pickled_whatever_the_metric_and_still_gives_blocks(quick: Project) -> None:
    own = "def share_right(y, p):\n    return float((y == p).mean())\nshare_right.needs = 'label'\n"
    (quick.folder / "own.py").write_text(own)
    result = run(quick.folder / "c.yaml", overrides=["metric=own:share_right"], trust_code=True)
    again = pickle.loads(pickle.dumps(result))
    assert (again.submitted, again.score, again.folder) == (result.submitted, result.score, result.folder)
    np.testing.assert_array_equal(again.block("base/gbm/proba").oof, result.block("base/gbm/proba").oof)


def test_what_is_to_be_said_of_a_plan_is_worked_out_once(
    quick: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def careful(*given: Any) -> list[str]:
        asked.append(given)
        return ["careful"]

    monkeypatch.setattr(plan_warnings, "warn_of_inputs", careful)
    assert run(quick.folder / "c.yaml").warnings.count("careful") == len(asked) == 1
