"""Same seed, same bytes: whatever the executor, the number of jobs, the folder, or the order of members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.every_task import MARKED

Project = Any


def fresh(project: Project, to: Path) -> Project:
    """Return a copy without store and results."""
    import shutil

    copy = project.copy(to)
    shutil.rmtree(copy.folder / ".stackfeat")
    shutil.rmtree(copy.folder / "runs")
    return copy


@pytest.mark.parametrize("jobs", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))])
def test_any_number_of_worker_processes_gives_the_bytes_of_one_process(
    jobs: int, net_run: Project, tmp_path: Path
) -> None:
    other = fresh(net_run, tmp_path / "jobs")
    said = other.run("--set", f"executor={{kind: loky, jobs: {jobs}, threads_per_job: 1}}")
    assert said.code == 0, said.err
    assert other.outputs() == net_run.outputs()


@pytest.mark.parametrize("task", MARKED)
@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_worker_processes_give_the_bytes_of_one_process_in_every_task(
    jobs: int, task: str, run_of_task: Callable[[str], Project], tmp_path: Path
) -> None:
    other = fresh(run_of_task(task), tmp_path / "jobs")
    said = other.run("--set", f"executor={{kind: loky, jobs: {jobs}, threads_per_job: 1}}")
    assert said.code == 0, said.err
    assert other.outputs() == run_of_task(task).outputs()


def test_a_run_again_in_one_process_gives_the_same_bytes(net_run: Project, tmp_path: Path) -> None:
    other = fresh(net_run, tmp_path / "again")
    assert other.run().code == 0
    assert other.outputs() == net_run.outputs()


def test_another_seed_gives_other_bytes(quick: Project) -> None:
    before = quick.outputs()
    assert quick.run("--set", "seed=7").code == 0
    after = quick.outputs()
    # Folds have a seed of their own, so scores of two seeds are comparable.
    assert after["folds.csv"] == before["folds.csv"]
    assert after["oof/base.gbm.csv"] == before["oof/base.gbm.csv"], "this LightGBM draws nothing"
    assert quick.run("--set", "folds.seed=7").code == 0
    assert quick.outputs()["submission.csv"] != before["submission.csv"]


def test_the_run_folder_holds_what_it_promises(net_run: Project) -> None:
    names = {path.name for path in net_run.run_folder.iterdir()}
    assert names == {
        ".run.lock",
        "run.json",
        "config.yaml",
        "folds.csv",
        "leaderboard.csv",
        "provenance.json",
        "scores.json",
        "oof",
        "test",
        "submission.csv",
        "report.html",
        "report.json",
        "pictures",
        "predictor",
        "run.log",
        "events.jsonl",
    }
    lines = (net_run.run_folder / "folds.csv").read_text().splitlines()
    assert lines[0] == "id,repeat,fold" and len(lines) == 161
    header = (net_run.run_folder / "oof" / "final.soft.csv").read_text().splitlines()[0]
    assert header == "id,high,low,mid"
    assert net_run.submission()[0] == ["row_id", "high", "low", "mid"]
    assert [row[0] for row in net_run.submission()[1:]] == [f"{600 + i}" for i in range(40)]


def test_the_written_config_gives_the_same_run(quick: Project, fits: list[str]) -> None:
    before = quick.outputs()
    (quick.folder / "c.yaml").write_bytes((quick.run_folder / "config.yaml").read_bytes())
    assert quick.cli("run", quick.folder / "c.yaml").code == 0
    assert fits == []
    assert quick.outputs() == before


def test_repeats_are_whole_stacks_averaged_at_the_end(quick: Project, fits: list[str]) -> None:
    said = quick.run("--set", "folds.repeats=2")
    assert said.code == 0, said.err
    assert fits.count("lightgbm.LGBMClassifier") in (3, 6)
    lines = (quick.run_folder / "folds.csv").read_text().splitlines()
    assert {line.split(",")[1] for line in lines[1:]} == {"0", "1"}
    once = quick.outputs()
    assert quick.run("--set", "folds.repeats=2").code == 0
    assert quick.outputs() == once


def test_running_into_a_folder_of_another_run_leaves_nothing_stale(quick: Project) -> None:
    config = quick.config()
    config["levels"]["base"]["renamed"] = config["levels"]["base"].pop("linear")
    assert quick.write(config).run().code == 0
    names = {path.name for path in (quick.run_folder / "oof").iterdir()}
    assert "base.renamed.csv" in names and "base.linear.csv" not in names


def test_a_rerun_leaves_whole_files_alone_and_mends_edited_ones(quick: Project) -> None:
    before = quick.outputs()
    oof = quick.run_folder / "oof" / "base.gbm.csv"
    models = quick.run_folder / "predictor" / "predictor.json"
    times = oof.stat().st_mtime_ns, models.stat().st_mtime_ns
    assert quick.run().code == 0
    assert (oof.stat().st_mtime_ns, models.stat().st_mtime_ns) == times
    oof.write_text(oof.read_text().replace("0", "1", 1))
    models.write_text("{}")
    assert quick.run().code == 0
    assert quick.outputs() == before
    assert "nodes" in models.read_text()
