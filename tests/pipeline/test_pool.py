"""A pool from one line of a config to the run folder: verdicts, files left out, twins, a second run."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold

from stackfeat.config import config_from_dict, dump_config
from stackfeat.engine.external import pool
from stackfeat.errors import DataError
from stackfeat.output.run_result import RunResult
from stackfeat.pipeline.check import describe_plan
from stackfeat.pipeline.import_checks import check_imports
from stackfeat.pipeline.run import run
from tests.pages import Page
from tests.projects import Project

N, N_TEST, N_SOUND = 1200, 600, 16
FAULTS = ("copied", "doubled", "flat", "moved", "saw", "sharp", "swapped")


def write_csv(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_member(folder: Path, name: str, values: np.ndarray) -> None:
    """Write log-odds as the files of a member, the test rows in another order than those of the run."""
    proba = 1 / (1 + np.exp(-values))
    ids = np.arange(N + N_TEST)
    write_csv(folder / f"oof/{name}.csv", {"id": ids[:N], "prediction": proba[:N]})
    write_csv(folder / f"test/{name}.csv", {"id": ids[: N - 1 : -1], "prediction": proba[: N - 1 : -1]})


def sound_members(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = 1.2 * rng.normal(size=N + N_TEST)
    family = rng.normal(size=(3, N + N_TEST))
    y = (rng.random(N + N_TEST) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    noise = rng.normal(size=(N_SOUND, N + N_TEST)) * rng.uniform(0.2, 0.5, size=(N_SOUND, 1))
    noise[:, N:] *= 0.5
    return y, np.stack([0.8 * truth + 0.4 * family[j % 3] for j in range(N_SOUND)]) + noise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen sound files, two near-copies of the first, and seven faults."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    y, values = sound_members(rng)
    ids = np.arange(N + N_TEST)
    names = np.array(["no", "yes"])
    write_csv(folder / "train.csv", {"id": ids[:N], "x": rng.normal(size=N), "y": names[y[:N]]})
    write_csv(folder / "test.csv", {"id": ids[N:], "x": rng.normal(size=N_TEST)})
    write_csv(folder / "test_labels.csv", {"id": ids[N:], "y": names[y[N:]]})
    for member, rows in enumerate(values):
        write_member(folder, f"m{member:02}", rows)
    for copy in (1, 2):
        write_member(folder, f"twin{copy}", values[0] + 0.01 * rng.normal(size=N + N_TEST))
    swapped = -values[1]
    swapped[N:] = values[1, N:]
    saw = values[2].copy()
    saw[:N] += 1.5 * (2 * y[:N] - 1)
    moved = values[3] + 0.2 * rng.normal(size=N + N_TEST)
    moved[:N] = np.roll(moved[:N], 1)
    copied = values[4] + 0.3 * rng.normal(size=N + N_TEST)
    copied[N:] = rng.permutation(values[5, N:])
    sharp = values[7] + 0.3 * rng.normal(size=N + N_TEST)
    sharp[N:] *= 6
    faults = {"swapped": swapped, "saw": saw, "moved": moved, "copied": copied, "sharp": sharp}
    for name, rows in (faults | {"flat": np.zeros(N + N_TEST)}).items():
        write_member(folder, name, rows)
    write_member(folder, "doubled", values[6])
    path = folder / "oof/doubled.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[1]]))
    return folder


@pytest.fixture(scope="module")
def finished(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A folder of these files, and a run in it."""
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("finished") / "project"))
    return folder, run_in(folder, config())


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


def config(*inputs: str, **files: Any) -> dict[str, Any]:
    return {
        "task": "binary",
        "metric": "log_loss",
        "data": {"train": "train.csv", "test": "test.csv", "id": "id", "target": "y"},
        "folds": {"n": 3},
        "executor": {"kind": "inline"},
        "levels": {
            "base": {"mates": {"predictions": {"files": "oof/*.csv", "test": "test/*.csv", **files}}},
            "final": {
                "greedy": {"vote": "greedy", "inputs": [*inputs, "base/mates:*"], "picks": 5, "bags": 1}
            },
        },
    }


def run_in(folder: Path, values: dict[str, Any]) -> RunResult:
    return run(config_from_dict(values, folder))


def verdicts(result: RunResult) -> dict[str, dict[str, str]]:
    with (result.folder / "pool.csv").open(newline="") as file:
        return {row["member"].removeprefix("base/mates:"): row for row in csv.DictReader(file)}


def test_planted_faults_are_found_and_sound_files_are_used(finished: tuple[Path, RunResult]) -> None:
    _, result = finished
    found = verdicts(result)
    assert {name: row["verdict"] for name, row in found.items() if row["verdict"] != "ok"} == {
        "copied": "look",
        "doubled": "refuse",
        "flat": "look",
        "moved": "look",
        "saw": "look",
        "sharp": "look",
        "swapped": "refuse",
    }
    assert "test rows do not follow" in found["copied"]["reasons"]
    assert "must be unique" in found["doubled"]["reasons"]
    assert re.search(r"moved by \+?-?1 ", found["moved"]["reasons"])
    assert "knows labels of its own out-of-fold rows" in found["saw"]["reasons"]
    assert found["flat"]["reasons"] == "all rows are the same"
    assert found["sharp"]["reasons"].startswith("two-sample AUC 0.9")
    assert "better in another order of classes" in found["swapped"]["reasons"]
    assert {name for name, row in found.items() if row["used"] == "no"} == set(FAULTS)
    # Twins share one place: that of the first.
    assert {name: row["twin_of"] for name, row in found.items() if row["twin_of"]} == {
        "twin1": "base/mates:m00",
        "twin2": "base/mates:m00",
    }
    members = {name for name in result.leaderboard["member"] if str(name).startswith("mates:")}
    assert members == {f"mates:m{member:02}" for member in range(N_SOUND)}
    report = Page.of(result.folder / "report.html").text
    table = report[report.index("Files of base/mates") :]
    assert table.index("mates:doubled") < table.index("mates:copied") < table.index("mates:m00")
    assert "mates:twin1" not in table and "knows labels of its own out-of-fold rows" in table
    assert re.search(r"Greedy selection, cross-fitted .* without the 5 files to look at", table)
    said = "\n".join([*result.warnings, *result.notes])
    assert "25 files: 18 ok, 5 to look at (0 used" in said and "2 refused" in said
    assert re.search(
        r"greedy selection, cross-fitted .* without the 5 files to look at, \d.* with them", said
    )


def test_twins_are_the_mean_of_their_files(finished: tuple[Path, RunResult]) -> None:
    project, result = finished
    for part in ("oof", "test"):
        with (result.folder / part / "base.mates%3Am00.csv").open(newline="") as file:
            written = {row["id"]: float(row["yes"]) for row in csv.DictReader(file)}
        files = []
        for name in ("m00", "twin1", "twin2"):
            with (project / part / f"{name}.csv").open(newline="") as file:
                files.append({row["id"]: float(row["prediction"]) for row in csv.DictReader(file)})
        for row in list(written)[:50]:
            assert written[row] == pytest.approx(np.mean([one[row] for one in files]), abs=1e-12)


def test_a_file_to_look_at_takes_part_where_it_is_named(project: Path) -> None:
    found = verdicts(run_in(project, config("base/mates:moved", "base/mates:twin1")))
    assert found["moved"]["used"] == "yes" and found["moved"]["verdict"] == "look"
    assert found["twin1"]["twin_of"] == "" and found["twin2"]["twin_of"] == "base/mates:m00"
    with pytest.raises(DataError, match=r"base/mates:swapped: refuse: .*The config names it"):
        run_in(project, config("base/mates:swapped"))


def test_a_second_run_judges_and_reads_nothing(
    finished: tuple[Path, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, first = finished
    files = {path.name: path.read_bytes() for path in first.folder.glob("*.csv")}

    def refuse(*_: object) -> None:
        raise AssertionError("a file was read again")

    monkeypatch.setattr(pool, "read_candidate", refuse)
    monkeypatch.setattr(pool, "_judge", refuse)
    second = run_in(project, config())
    assert second.n_computed == 0
    # Times and what was computed now are no results.
    assert {name: path for name, path in files.items() if name != "leaderboard.csv"} == {
        path.name: path.read_bytes() for path in second.folder.glob("*.csv") if path.name != "leaderboard.csv"
    }
    assert "mates: 16 files, stored" in str(describe_plan(config_from_dict(config(), project)))


def test_check_names_the_first_files(project: Path) -> None:
    said = str(describe_plan(config_from_dict(config(), project)))
    assert "mates: 25 files, 75 of 75 jobs to compute" in said
    assert "mates:copied, mates:doubled, mates:flat, mates:m00" in said and "and 20 more" in said


def test_a_pool_without_a_usable_file_is_an_error(project: Path) -> None:
    values = config(files="oof/swap*.csv", test="test/swap*.csv")
    with pytest.raises(
        DataError, match=r"at least one file of a pool must be usable; none of 1 is. .*refuse"
    ):
        run_in(project, values)


def test_import_says_the_verdicts_and_stores_nothing(project: Path) -> None:
    path = project / "config.yaml"
    path.write_text(dump_config(config_from_dict(config(), project).config))
    found = check_imports(path)["base/mates"]
    states = {check.name.removeprefix("base/mates:"): check.state for check in found.checks}
    assert len(states) == 25 and states["m00"] == "ok"
    assert states["moved"] == "warning" and states["doubled"] == "failed"
    assert found.verdict == "a run would use 18 of 25 files (2 refused, 5 to look at) and go on"
    assert not found.is_refused, "the run of this config goes on"
    said = Project(project).cli("import", path)
    assert said.code == 0 and found.verdict in said.out and "FAILED" in said.out
    path.write_text(dump_config(config_from_dict(config("base/mates:swapped"), project).config))
    assert Project(project).cli("import", path).code == 3, "and the run of this one does not"
    assert not (project / ".stackfeat").exists()


@pytest.mark.slow
def test_a_pool_of_copies_and_early_stopped_models_is_scored_as_fresh_rows_are(tmp_path: Path) -> None:
    """Of 500 files 40 are real models of five fold assignments, 60 stopped on the fold that they predict, and 400 are
    near-copies of the 40."""
    rng = np.random.default_rng(1)
    n, n_test = 4000, 4000
    truth = 1.2 * rng.normal(size=n + n_test)
    y = (rng.random(n + n_test) < 1 / (1 + np.exp(-truth))).astype(np.int64)
    family = rng.normal(size=(3, n + n_test))
    splitters = [KFold(5, shuffle=True, random_state=seed) for seed in (0, 42, 2024)]
    splitters += [StratifiedKFold(n_folds, shuffle=True, random_state=1) for n_folds in (5, 10)]
    folds = []
    for splitter in splitters:
        folds.append(np.empty(n, dtype=np.int64))
        for fold, (_, held) in enumerate(splitter.split(y[:n], y[:n])):
            folds[-1][held] = fold

    def model(number: int) -> np.ndarray:
        clean = 0.8 * truth + 0.4 * family[number % 3] + 0.4 * rng.normal(size=n + n_test)
        off = 0.15 * rng.normal(size=10)
        clean[:n] += off[folds[number % 5]]
        return np.asarray(clean)

    def loss(values: np.ndarray, rows: np.ndarray) -> float:
        return float(np.log1p(np.exp(-(2 * y[rows] - 1) * values[rows])).mean())

    def stopped(number: int) -> np.ndarray:
        """Return a model that takes in each fold the best of 30 states by that fold's own labels."""
        fold_of = folds[number % 5]
        n_folds = int(fold_of.max()) + 1
        states = model(number) + 0.5 * rng.normal(size=(30, n + n_test))
        chosen, test = np.empty(n + n_test), np.zeros(n_test)
        for fold in range(n_folds):
            rows = np.flatnonzero(fold_of == fold)
            best = states[min(range(30), key=lambda state: loss(states[state], rows))]
            chosen[rows] = best[rows]
            test += best[n:] / n_folds
        chosen[n:] = test
        return chosen

    def write(name: str, values: np.ndarray) -> None:
        for part, rows in (("oof", slice(None, n)), ("test", slice(n, None))):
            shares = 1 / (1 + np.exp(-values[rows]))
            write_csv(
                tmp_path / part / f"{name}.csv", {"id": np.arange(n + n_test)[rows], "prediction": shares}
            )

    write_csv(tmp_path / "train.csv", {"id": np.arange(n), "x": np.arange(n) % 7, "y": y[:n]})
    write_csv(tmp_path / "test.csv", {"id": np.arange(n, n + n_test), "x": np.arange(n_test) % 7})
    for number in range(40):
        values = model(number)
        write(f"real{number:02}", values)
        for copy in range(10):
            write(f"copy{number:02}of{copy}", values + 0.01 * rng.normal(size=n + n_test))
    alone = run_in(
        tmp_path,
        config(files="oof/real*.csv", test="test/real*.csv") | {"outputs": {"dir": "alone"}},
    )
    for number in range(60):
        write(f"stopped{number:02}", stopped(number))
    whole = run_in(tmp_path, config())

    def fresh(result: RunResult) -> np.ndarray:
        with (result.folder / "test/final.greedy.csv").open(newline="") as file:
            yes = np.array([float(row["1"]) for row in csv.DictReader(file)])
        return np.asarray(-np.log(np.where(y[n:] == 1, yes, 1 - yes)))

    score = float(whole.leaderboard.set_index("member").loc["greedy", "score"])
    losses = fresh(whole)
    error = losses.std() / np.sqrt(n_test) * np.sqrt(2)
    gap = losses - fresh(alone)
    print(f"greedy {score:.4f}, fresh rows {losses.mean():.4f} ({error:.4f}), behind {gap.mean():.5f}")
    assert abs(score - losses.mean()) < 3 * error
    assert gap.mean() < 3 * gap.std() / np.sqrt(n_test)
    found = verdicts(whole)
    assert sum(row["twin_of"] != "" for row in found.values()) == 400
    assert {row["verdict"] for name, row in found.items() if name.startswith(("real", "copy"))} == {"ok"}
    # Whoever shows folds was made with them; their number is the likeliest of those that one seed gives.
    shown = {name: row["folds"] for name, row in found.items() if row["folds"]}
    assert len(shown) > 100
    right = 0
    for name, split in shown.items():
        splitter = splitters[int(re.sub(r"[a-z]*(\d\d).*", r"\1", name)) % 5]
        assert split.startswith(type(splitter).__name__)
        assert split.endswith(f"random_state={splitter.random_state})") or split == "the run's folds"
        right += re.findall(r"\d+", split)[:1] == [str(splitter.get_n_splits())]
    assert right > 0.9 * len(shown)
