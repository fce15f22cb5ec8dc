"""What a column that new rows lack is worth is said with the error that names it."""

from __future__ import annotations

import re
import shutil
from typing import Any

import pytest

from stackfeat.pipeline.missing_columns import cost_without

Project = Any


def numbers(text: str) -> tuple[float, float]:
    """Return the score without columns, and with them."""
    found = re.search(r"log_loss is ([\d.]+) in place of ([\d.]+) out of fold \(80 rows\)", text)
    assert found is not None, text
    return float(found[1]), float(found[2])


def test_a_column_of_signal_costs_much_and_one_of_noise_little(plain: Project) -> None:
    score = plain.scores()["members"]["final/soft"]["score"]
    assert plain.run("--set", "submit=final/soft").code == 0
    signal, whole = numbers(cost_without(plain.run_folder, ["a"]))
    noise, same = numbers(cost_without(plain.run_folder, ["d"]))
    # Of rows out of fold: those that the leaderboard counts.
    assert whole == same == pytest.approx(score, abs=1e-3)
    assert signal > noise + 0.3 and signal > whole + 0.5
    both, _ = numbers(cost_without(plain.run_folder, ["a", "colour"]))
    assert both > whole + 0.1


def test_the_command_says_it_with_the_missing_column(plain: Project) -> None:
    data = plain.rewritten(lambda row: {name: cell for name, cell in row.items() if name not in ("a", "b")})
    said = plain.cli("predict", plain.run_folder, data, "-o", plain.folder / "out.csv")
    assert said.code == 3 and "missing here: a, b" in said.err
    assert "without a, b, log_loss is" in " ".join(said.err.split())


def test_where_the_rows_are_gone_the_column_alone_is_named(plain: Project) -> None:
    shutil.rmtree(plain.folder / ".stackfeat")
    assert cost_without(plain.run_folder, ["a"]) == ""
    data = plain.rewritten(lambda row: {name: cell for name, cell in row.items() if name != "a"})
    said = plain.cli("predict", plain.run_folder, data, "-o", plain.folder / "out.csv")
    assert said.code == 3 and "missing here: a" in said.err and "in place of" not in said.err
