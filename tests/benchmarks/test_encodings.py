"""The benchmark of encodings: rows, paired errors, the three ways to see test rows, verdicts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from benchmarks.encodings import __main__ as command
from benchmarks.encodings.by_hand import by_hand, seen
from benchmarks.encodings.compare import clustered_error, difference, row_losses, score
from benchmarks.encodings.rows import draw
from benchmarks.encodings.stack import config_of, run_stack
from benchmarks.encodings.stored import Block, read_stored, turn_to
from benchmarks.encodings.tables import ROWS, Results, key_table, verdicts
from stackfeat.pipeline.run import run


def write_table(folder: Path, n_train: int = 300, n_test: int = 60) -> Path:
    """A data set of two classes in the layout of the shared ones."""
    rng = np.random.default_rng(0)
    n_rows = n_train + n_test
    values = rng.normal(size=(n_rows, 5))
    target = (values[:, 0] * values[:, 1] + 0.5 * rng.normal(size=n_rows) > 0).astype(int)
    is_test = np.arange(n_rows) >= n_train
    frame = pd.DataFrame(values, columns=[f"f{j}" for j in range(5)])
    frame.insert(0, "id", np.arange(n_rows) + 1000)
    frame["split"] = np.where(is_test, "test", "train")
    frame["target"] = pd.Series(target, dtype="Int64").mask(is_test)
    (folder / "higgs_small").mkdir()
    frame.to_parquet(folder / "higgs_small/data.parquet")
    truth = pd.DataFrame({"id": frame["id"], "target": target})[is_test]
    truth.sample(frac=1, random_state=0).to_parquet(folder / "higgs_small/test_labels.parquet")
    return folder


def test_seeds_share_test_rows_which_are_never_trained_on(tmp_path):
    source = write_table(tmp_path)
    one, other = (draw("higgs_small", source, seed, 150) for seed in (0, 1))
    assert list(one.test["id"]) == list(other.test["id"])
    assert set(one.train["id"]) != set(other.train["id"])
    for drawn in (one, other):
        assert len(drawn.train) == 150
        assert not set(drawn.train["id"]) & set(drawn.test["id"])
    # 60 rows are too few for a test: those of the training split that no seed draws join them.
    assert len(one.test) == 60 + 90


def test_test_targets_stand_beside_their_rows_and_not_in_the_frame(tmp_path):
    drawn = draw("higgs_small", write_table(tmp_path), 0, 150)
    assert "target" not in drawn.test
    everything = pd.read_parquet(tmp_path / "higgs_small/data.parquet").set_index("id")["target"]
    truth = pd.read_parquet(tmp_path / "higgs_small/test_labels.parquet").set_index("id")["target"]
    expected = everything.astype(float).fillna(truth.astype(float)).loc[drawn.test["id"]]
    np.testing.assert_array_equal(drawn.y_test.astype(float), expected)


def test_an_absent_data_set_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"letter must be a folder.*--source"):
        draw("letter", tmp_path, 0, 10)


def test_losses_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    proba, labels = rng.dirichlet(np.ones(3), size=50), np.array(["a", "b", "c"])[rng.permutation(50) % 3]
    assert score(row_losses(proba, labels), False) == pytest.approx(log_loss(labels, proba))
    values, found = rng.normal(size=50) * 7, rng.normal(size=(50, 1))
    expected = np.sqrt(mean_squared_error(values, found[:, 0])) / values.std()
    assert score(row_losses(found, values), True) == pytest.approx(expected)


def test_a_class_without_a_test_row_is_an_error():
    with pytest.raises(ValueError, match="as many classes"):
        row_losses(np.full((4, 3), 1 / 3), np.array([0, 1, 0, 1]))


@pytest.mark.parametrize("is_value", [False, True])
def test_the_mean_difference_is_that_of_the_scores(is_value):
    rng = np.random.default_rng(1)
    first, second = rng.random((3, 40)), rng.random((3, 40))
    found = difference(first, second, np.arange(40), is_value)
    by_seed = [score(a, is_value) - score(b, is_value) for a, b in zip(first, second, strict=True)]
    assert found.mean == pytest.approx(np.mean(by_seed))
    assert found.over_seeds == pytest.approx(np.std(by_seed, ddof=1) / np.sqrt(3))


def test_errors_over_rows_are_the_usual_ones_and_clusters_do_not_add_rows():
    values = np.random.default_rng(2).normal(size=30)
    usual = values.std(ddof=1) / np.sqrt(30)
    assert clustered_error(values, np.arange(30)) == pytest.approx(usual)
    assert clustered_error(np.repeat(values, 4), np.repeat(np.arange(30), 4)) == pytest.approx(usual)


def test_late_averages_predictions_and_early_averages_rows():
    views = [np.array([[1.0]]), np.array([[3.0]])]
    block = Block(np.zeros((5, 1)), views, np.array([[10.0]]))
    found = seen(lambda parts: parts[0] ** 2, [block])
    assert found["late"] == pytest.approx((1 + 9) / 2)
    assert found["early"] == pytest.approx(2.0**2)
    assert found["refit"] == pytest.approx(10.0**2)


def test_the_refitted_net_is_turned_back_to_the_consensus():
    rng = np.random.default_rng(3)
    consensus = rng.normal(size=(80, 3))
    consensus -= consensus.mean(axis=0)
    consensus /= np.sqrt(np.mean(np.sum(consensus**2, axis=1)))
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    values = 4 * np.hstack([consensus, np.zeros((80, 2))]) @ turn + 7
    np.testing.assert_allclose(turn_to(values, consensus), consensus, atol=1e-5)


def make_results(name: str, gated: float, early: float = 0.1) -> Results:
    """Two seeds of 500 rows; `gated` and `early` are what these stacks add to the loss."""
    rng = np.random.default_rng(len(name))
    losses = []
    for _ in range(2):
        base = rng.random(500)
        found = dict.fromkeys([key for key, _ in ROWS] + ["linear"], base)
        found["gated"] = base + gated + 0.01 * rng.normal(size=500)
        found |= {key: base + early for key in found if key.endswith("_early")}
        losses.append(found)
    return Results(name, False, np.arange(500), losses, [{}, {}])


def test_the_claim_holds_only_without_a_loss():
    better = [make_results(name, -0.1) for name in ("one", "three", "seven")]
    even = make_results("evens", 0.0)
    assert 'on at least three": **holds**' in verdicts([*better, even])[0]
    worse = verdicts([*better, make_results("worse", 0.1)])
    assert "worse by more than one on 1 (worse)" in worse[0]
    assert "**does not hold**" in worse[0]
    assert "**does not hold**" in verdicts([*better[:2], even])[0]


def test_late_must_win_on_all_but_one():
    fine = [make_results(name, -0.1) for name in ("a", "bb", "ccc")]
    losing = [make_results(name, -0.1, early=-0.1) for name in ("dddd", "eeeee")]
    assert "**holds**" in verdicts([*fine, losing[0]])[-1]
    assert "**does not hold**" in verdicts([*fine, *losing])[-1]


def test_every_stack_has_a_row_in_the_table():
    lines = key_table([make_results("one", -0.1)])
    assert len(lines) == 2 + 1 + len(ROWS)
    assert "| -100 ± 0 |" in next(line for line in lines if "+ gated geometry and aligned**" in line)


def test_the_section_of_the_docs_is_replaced_and_others_stay(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n## Before\n\ntext\n\n## After\n\nmore\n")
    command.replace_section(page, f"{command.TITLE}\n\nfirst")
    command.replace_section(page, f"{command.TITLE}\n\nsecond")
    text = page.read_text()
    assert text.count(command.TITLE) == 1
    assert "first" not in text
    assert text.endswith("second\n")
    page.write_text(text.replace("## After", "## Last") + "\n## Behind\n\nend\n")
    command.replace_section(page, f"{command.TITLE}\n\nthird")
    assert "## Last" in page.read_text()
    assert page.read_text().endswith("third\n\n## Behind\n\nend\n")


@pytest.mark.slow
def test_by_hand_the_one_fit_is_the_fit_on_all_rows_of_the_run(tmp_path):
    drawn = draw("higgs_small", write_table(tmp_path), 0, 200)
    folder = tmp_path / "run"
    folder.mkdir()
    stacked = run_stack(drawn, 0, folder, 1)
    assert set(config_of(drawn, 0, 1)["levels"]["meta"]) <= set(stacked.predictions)
    found = by_hand(read_stored(stacked.config), 0)
    again = run(stacked.config, overrides=["stack.meta_fit=all"])
    assert again.n_computed < 30  # scores and nothing that trains
    expected = pd.read_csv(again.folder / "test/meta.gated.csv").set_index("id").loc[drawn.test["id"]]
    np.testing.assert_allclose(found["one_gated_late"], expected.to_numpy(), atol=1e-5)


@pytest.mark.slow
def test_the_command_computes_prints_and_resumes(tmp_path, monkeypatch, capsys):
    source = write_table(tmp_path)
    words = ["prog", "--data", "higgs_small", "--seeds", "0", "--rows", "150"]
    words += ["--source", str(source), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    command.main()
    first = capsys.readouterr().out
    command.main()
    again = capsys.readouterr().out
    assert "there already" in again
    assert again.splitlines()[1:] == first.splitlines()[1:]
    scores = pd.read_csv(tmp_path / "out/scores.csv")
    assert {key for key, _ in ROWS} | {"linear"} <= set(scores["stack"])
    assert scores["score"].between(0.2, 3).all()
