"""Intervals through a run: what is stored, measured and predicted, for groups, in time and with repeats."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat as sf
from stackfeat.errors import ConfigError, DataError, DataWarning, StackfeatError, UsageError
from stackfeat.tasks.task import Task
from tests.projects import Build, plain_config

Project = Any
N_ROWS = 400


def rows_of(project: Project, name: str = "test.csv") -> pd.DataFrame:
    return pd.read_csv(project.folder / name)


@pytest.fixture(scope="module")
def values(build_values: Build, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run of a regression that asks for intervals."""
    config = {**plain_config("regression", "rmse"), "interval": 0.9}
    project = build_values(tmp_path_factory.mktemp("intervals") / "p", "regression", config, N_ROWS)
    assert project.run().code == 0
    return project


@pytest.fixture(scope="module")
def build_values() -> Build:
    from tests.projects import build_project

    return build_project


@pytest.fixture(scope="module")
def model(values: Project) -> Any:
    return sf.load(values.run_folder)


def measured(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "scores.json").read_text())
    return found


def test_a_run_measures_the_level_that_its_config_names(values: Project) -> None:
    found = measured(values)["interval"]
    assert found["level"] == 0.9 and found["guaranteed"] and found["unit"] == "rows"
    assert abs(found["coverage"] - 0.9) < 0.04 and found["n_rows"] == N_ROWS
    assert found["se"] == pytest.approx(
        np.sqrt(found["coverage"] * (1 - found["coverage"]) / N_ROWS), rel=1e-6
    )
    assert np.mean(found["parts"]) == pytest.approx(found["coverage"]) and found["size"] > 0
    said = values.run()
    assert f"Intervals of 90 % hold {100 * found['coverage']:.1f} ±" in said.out and "computed: 0" in said.out
    result = sf.run(values.folder / "c.yaml")
    assert result.interval is not None and result.interval.coverage == found["coverage"]
    assert result.interval.sentence in result._repr_html_()


def test_bounds_are_around_the_prediction_on_the_scale_of_the_target(values: Project, model: Any) -> None:
    frame = rows_of(values)
    bounds, prediction = model.interval(frame, 0.9), model.predict(frame)
    assert bounds.shape == (len(frame), 2) and bounds.dtype == np.float64
    np.testing.assert_allclose(bounds.mean(axis=1), prediction)
    wider = model.interval(frame, 0.95)
    assert (wider[:, 0] < bounds[:, 0]).all() and (wider[:, 1] > bounds[:, 1]).all()
    np.testing.assert_array_equal(model.interval(frame), bounds)
    np.testing.assert_array_equal(model.interval(frame.iloc[7:9], 0.9), bounds[7:9])
    assert np.isinf(model.interval(frame, 0.9999)).all(), "400 rows say nothing of one in 10,000"
    with pytest.raises(UsageError, match=r"must lie between 0\.5 and 1; got 95"):
        model.interval(frame, 95)


def test_intervals_hold_new_rows_of_the_same_kind(values: Project, model: Any, build_values: Build) -> None:
    from tests.projects import table

    header, *rows = table("regression", 3000, 9000, True, 5)
    fresh = pd.read_csv(io.StringIO("\n".join(",".join(row) for row in (header, *rows))))
    bounds, y = model.interval(fresh, 0.9), fresh["label"].to_numpy()
    assert 0.86 < np.mean((bounds[:, 0] <= y) & (y <= bounds[:, 1])) < 0.95


def test_without_the_key_the_predictor_is_the_same_bytes_and_scores_say_nothing(
    values: Project, model: Any, tmp_path: Path
) -> None:
    other = values.copy(tmp_path / "other")
    config = other.config()
    del config["interval"]
    assert other.write(config).run().code == 0
    assert "interval" not in measured(other)
    assert {**measured(values), "interval": None} == {**measured(other), "interval": None}
    for path in sorted(values.run_folder.glob("predictor/**/*")):
        if path.is_file():
            assert (other.run_folder / path.relative_to(values.run_folder)).read_bytes() == path.read_bytes()
    np.testing.assert_array_equal(
        sf.load(other.run_folder).interval(rows_of(values)), model.interval(rows_of(values))
    )


def test_a_file_of_predictions_has_bounds_and_spread_beside_it(values: Project, model: Any) -> None:
    data, out = values.folder / "test.csv", values.folder / "out.csv"
    said = values.cli(
        "predict", values.run_folder, data, "-o", out, "--interval", "0.8", "--spread", "--members"
    )
    assert said.code == 0, said.err
    written, frame = pd.read_csv(out), rows_of(values)
    assert list(written)[:2] == ["row_id", "label"] and list(written)[-3:] == ["lower", "upper", "spread"]
    np.testing.assert_allclose(written[["lower", "upper"]], model.interval(frame, 0.8), rtol=1e-12)
    np.testing.assert_allclose(written["label"], model.predict(frame), rtol=1e-12)
    np.testing.assert_allclose(written[["spread"]], model.spread(frame), rtol=1e-12)
    said = values.cli("predict", values.run_folder, data, "-o", out, "--interval", "90")
    assert said.code == 2 and "must lie between 0.5 and 1; got 90" in said.err


def test_members_and_bounds_are_predicted_together_as_they_are_alone(
    values: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.engine.passage import Passage
    from stackfeat.pipeline.predict import Wanted, predict_file

    passed, said = list[int](), Passage.said

    def noted(self: Passage, *given: Any) -> Any:
        passed.append(1)
        return said(self, *given)

    monkeypatch.setattr(Passage, "said", noted)

    def written(**wanted: Any) -> pd.DataFrame:
        predict_file(
            values.run_folder, values.folder / "test.csv", tmp_path / "out.csv", wanted=Wanted(**wanted)
        )
        return pd.read_csv(tmp_path / "out.csv")

    together = written(members=True, interval=0.9, spread=True)
    assert len(passed) == 1
    for alone in (written(members=True), written(interval=0.9), written(spread=True)):
        pd.testing.assert_frame_equal(together[alone.columns], alone)


def test_the_spread_is_that_of_the_pipelines(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "fold")
    assert other.run("--set", "stack.meta_fit=fold").code == 0
    model, frame = sf.load(other.run_folder), rows_of(values).set_index("row_id", drop=False)
    samples = model._read(frame)[1]
    each = [model.predictor.predict_pipeline(samples, fold)[:, 0] for fold in range(3)]
    spread = model.spread(frame)
    assert list(spread) == ["spread"] and spread.index.equals(frame.index)
    np.testing.assert_allclose(spread["spread"], np.std(each, axis=0), rtol=1e-9)


def test_classes_get_sets(plain: Project) -> None:
    assert plain.run("--set", "interval=0.8").code == 0
    found = measured(plain)["interval"]
    assert len(found["parts"]) == 3 and 1 <= found["size"] <= 3
    model, frame, out = sf.load(plain.run_folder), rows_of(plain), plain.folder / "o.csv"
    sets = model.interval(frame, 0.8)
    assert sets.dtype == bool and sets.shape == (len(frame), 3)
    proba = model.predict_proba(frame)
    for one in range(3):
        # A class is in a set where its probability is high enough, by one limit for each class.
        assert proba[sets[:, one], one].min() >= proba[~sets[:, one], one].max(initial=0.0)
    assert (
        plain.cli("predict", plain.run_folder, plain.folder / "test.csv", "-o", out, "--interval", ".8").code
        == 0
    )
    names = [f"set:{label}" for label in model.classes_]
    np.testing.assert_array_equal(pd.read_csv(out)[names].to_numpy() == 1, sets)
    spread = model.spread(frame)
    assert list(spread) == [f"spread:{label}" for label in model.classes_]
    # A run of several classes: the deviations of probabilities that sum to 1.
    assert (spread.to_numpy() >= 0).all() and spread.to_numpy().max() < 0.5


def test_groups_are_the_unit(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "groups")
    frame = rows_of(other, "train.csv")
    # One group holds most of the rows, and is off where the others are not.
    frame["owner"] = np.where(np.arange(N_ROWS) < 250, 0, np.arange(N_ROWS))
    frame.loc[:249, "label"] *= 3
    frame.to_csv(other.folder / "train.csv", index=False)
    rows_of(other).assign(owner=-1).to_csv(other.folder / "test.csv", index=False)
    config = other.config()
    config["data"]["group"] = "owner"
    assert other.write(config).run().code == 0
    found = measured(other)["interval"]
    assert found["unit"] == "groups"
    plain_share = measured(values)["interval"]["coverage"]
    assert abs(found["coverage"] - 0.9) < 0.06, plain_share
    assert other.run("--set", "data.group=null", "--set", "data.drop=[owner]").code == 0
    by_row = measured(other)["interval"]
    assert by_row["unit"] == "rows" and found["size"] < by_row["size"]


def test_in_time_intervals_are_measured_forward_and_say_so(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "time")
    frame = rows_of(other, "train.csv").assign(day=np.arange(N_ROWS))
    # Noise grows in time, so that earlier errors promise too much.
    frame["label"] *= 1 + np.arange(N_ROWS) / 100
    frame.to_csv(other.folder / "train.csv", index=False)
    later = rows_of(other).assign(day=1000)
    later.to_csv(other.folder / "test.csv", index=False)
    config = other.config()
    config["data"]["time"], config["folds"] = "day", {"kind": "time", "n": 5}
    said = other.write(config).run()
    assert said.code == 0, said.err
    found = measured(other)["interval"]
    assert not found["guaranteed"] and found["coverage"] < 0.88 and found["n_rows"] < N_ROWS * 4 / 5
    assert "measured forward in time, and not guaranteed" in said.out
    with pytest.warns(
        DataWarning, match=r"not guaranteed where folds follow time; of later .* 90 % held [78]"
    ):
        bounds = sf.load(other.run_folder).interval(later)
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("mode", ["early", "refit", "repeats", "rank", "log1p", "calibrated"])
def test_every_way_of_averaging_has_intervals(mode: str, values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / mode)
    change = {
        "repeats": "folds.repeats=2",
        "rank": "stack.average=rank",
        "log1p": "data.target_transform=log1p",
        "calibrated": "levels.final.soft.calibrate=auto",
    }
    said = other.run("--set", change.get(mode, f"stack.averaging={mode}"))
    assert said.code == 0, said.err
    assert abs(measured(other)["interval"]["coverage"] - 0.9) < 0.04
    bounds = sf.load(other.run_folder).interval(rows_of(other))
    assert (bounds[:, 0] < bounds[:, 1]).all()
    if mode == "log1p":
        assert bounds.min() >= 0


def test_a_level_beyond_the_rows_is_said_to_be_so(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "sure")
    said = other.cli("run", other.folder / "c.yaml", "--set", "interval=0.999", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["interval"]["size"] is None and measured(other)["interval"]["size"] is None
    text = "% out of fold, 100.0 % where it is lowest; too few rows for finite bounds."
    assert text in other.run("--set", "interval=0.999").out


def test_intervals_are_of_all_members(values: Project) -> None:
    model = sf.load(values.run_folder, without=["tree"])
    with pytest.raises(DataError, match=r"must hold intervals; got none: .* members were left out"):
        model.interval(rows_of(values))
    assert len(model.spread(rows_of(values))) == 40


def test_check_says_what_will_be_measured_and_a_level_is_checked(values: Project) -> None:
    said = values.cli("check", values.folder / "c.yaml")
    assert said.code == 0 and "interval: intervals of 90 %, measured out of fold" in said.out
    said = values.cli("check", values.folder / "c.yaml", "--set", "interval=90")
    assert said.code == 2 and "interval" in said.err and "must be below 1; got 90" in said.err


def test_too_few_folds_in_time_leave_the_run_whole(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "short")
    frame = rows_of(other, "train.csv").assign(day=np.arange(N_ROWS))
    frame.to_csv(other.folder / "train.csv", index=False)
    rows_of(other).assign(day=1000).to_csv(other.folder / "test.csv", index=False)
    config = other.config()
    config["data"]["time"], config["folds"] = "day", {"kind": "time", "n": 2}
    ridge = {"estimator": "sklearn.linear_model.Ridge", "inputs": ["base/*/prediction"]}
    config["levels"]["final"]["ridge"] = ridge
    # Of the vote two folds are predicted, of the meta-learner one.
    for member, text in (("soft", "intervals are not measured: "), ("ridge", "there are no intervals: ")):
        said = other.write(config).run("--set", f"submit=final/{member}")
        assert said.code == 0, said.err
        assert any(text in warning for warning in measured(other)["warnings"])
        assert text in said.out and "interval" not in measured(other)
        model = sf.load(other.run_folder)
        if member == "ridge":
            with pytest.raises(DataError, match="must hold intervals; got none"):
                model.interval(rows_of(other))
        else:
            with pytest.warns(DataWarning, match="not guaranteed where folds follow time$"):
                assert np.isfinite(model.interval(rows_of(other))).all()


def test_damaged_intervals_are_found(values: Project, tmp_path: Path) -> None:
    other = values.copy(tmp_path / "damaged")
    (path,) = other.run_folder.glob("predictor/models/**/intervals.json")
    path.write_bytes(path.read_bytes().replace(b"Tree=0", b"Tree=1", 1))
    with pytest.raises(StackfeatError, match=r"got damage: intervals.json"):
        sf.load(other.run_folder).interval(rows_of(other))


def test_the_kind_of_a_task_is_asked_of_the_task() -> None:
    for name, task in (("intervals", Task("regression")), ("class sets", Task("binary", ("a", "b")))):
        assert task.region_words[0] == name


def test_a_level_that_is_none_is_a_problem_of_the_config(values: Project) -> None:
    with pytest.raises(ConfigError, match="interval"):
        sf.load_config(values.folder / "c.yaml", overrides=["interval=0.4"])
