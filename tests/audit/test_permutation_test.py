"""audit, the reruns on permuted labels: clean stacks are at chance, a leaking member is not."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold

from stackfeat.audit import permutation_test
from stackfeat.audit.audit import audit
from stackfeat.config import load_config, planner
from stackfeat.data.schema.load import load
from stackfeat.registry.user_code import importing
from tests.every_task import MARKED, OPTIONS, TARGETS, config, project_of

Project = Any
Build = Callable[..., Any]
LEAKY = '''
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.linear_model import LogisticRegression

SEEN = {}


class Memory(ClassifierMixin, BaseEstimator):
    """Keeps every label that any fit in this process was ever given."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        for row, label in zip(X.itertuples(index=False), y):
            SEEN[str(tuple(row))] = label
        return self

    def predict_proba(self, X):
        share = np.full(len(self.classes_), 1 / len(self.classes_))
        known = [SEEN.get(str(tuple(row))) for row in X.itertuples(index=False)]
        return np.array([share if label is None else 0.8 * (self.classes_ == label) + 0.2 * share for label in known])


class Values(RegressorMixin, Memory):
    """The same of values, as many times over as there are quantiles."""

    def __init__(self, width=1):
        self.width = width

    def predict(self, X):
        known = [SEEN.get(str(tuple(row)), 0.0) for row in X.itertuples(index=False)]
        return np.tile(np.array(known, dtype=float)[:, None], (1, self.width)).squeeze()


class Honest(LogisticRegression):
    pass
'''


def result(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.run_folder / "audit.json").read_text())
    return found


def audited(project: Project, *arguments: object) -> Any:
    return project.cli("audit", project.run_folder, *arguments)


def test_reruns_average_as_the_run_does_on_rows_that_were_kept(
    quick: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    made = planner.make_plan

    def noted(graph: Any, sources: Any) -> Any:
        seen.add(sources.averaging)
        return made(graph, sources)

    monkeypatch.setattr(planner, "make_plan", noted)
    assert quick.run("--set", "stack.averaging=refit", "--set", "stack.holdout=0.2").code == 0
    said = audited(quick, "--permutations", 2, "--rows", 200)
    assert said.code == 0, said.out + said.err
    null = result(quick)["null"]
    assert null["n_train"] + null["n_held_out"] == 128, "the other 32 rows stay out of it"
    assert seen == {"refit"} and result(quick)["null"]["failed"] == {}


def test_a_clean_stack_is_at_chance_on_permuted_labels(quick: Project) -> None:
    before = sorted(str(path) for path in (quick.folder / ".stackfeat").rglob("*"))
    said = audited(quick, "--permutations", 2, "--rows", 90)
    assert said.code == 0, said.out + said.err
    null = result(quick)["null"]
    assert (null["n_reruns"], null["n_train"], null["failed"], null["above_chance"]) == (2, 90, {}, [])
    judged = {(verdict["member"], verdict["measure"]) for verdict in null["verdicts"]}
    names = {"base/gbm", "base/linear", "meta/gated", "final/soft", "final/greedy"}
    assert judged == {(name, measure) for name in names for measure in ("ranking", "log_loss")}
    assert sorted(str(path) for path in (quick.folder / ".stackfeat").rglob("*")) == before
    first = json.loads((quick.run_folder / "audit.json").read_text())
    assert audited(quick, "--permutations", 2, "--rows", 90).code == 0
    assert result(quick) == first
    assert audited(quick, "--permutations", 2, "--rows", 90, "--seed", 1).code == 0
    assert result(quick) != first


def test_reruns_split_with_the_runs_own_splitter_and_its_params(quick: Project) -> None:
    lines = (
        "from sklearn.model_selection import KFold",
        "class Turned(KFold):",
        "    def __init__(self, n_splits, turn):",
        "        super().__init__(n_splits, shuffle=True, random_state=turn)",
    )
    (quick.folder / "turned.py").write_text("\n".join(lines) + "\n")
    config = quick.config()
    config["folds"] = {**config["folds"], "kind": "turned:Turned", "params": {"turn": 3}}
    loaded = load_config(quick.write(config).folder / "c.yaml", trust_code=True)
    options = loaded.config
    train = load(options.data, loaded.folder, options.task, options.metric).train
    with importing(loaded.code):
        folds = permutation_test._make_folds(loaded, train, share=1.0, seed=0)
    own = KFold(options.folds.n, shuffle=True, random_state=3).split(train.ids)
    for (_, ours), (_, theirs) in zip(folds.splits[0], own, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def leaky(quick: Project) -> Project:
    (quick.folder / "leaky.py").write_text(LEAKY)
    config = quick.config()
    config["levels"] = {
        "base": {
            "memory": {"estimator": "leaky:Memory", "prepare": "none"},
            "honest": {"estimator": "leaky:Honest"},
            "gbm": config["levels"]["base"]["gbm"],
        },
        "final": {"soft": {"vote": "soft", "inputs": ["base/*/proba"]}},
    }
    project: Project = quick.write(config)
    assert project.run("--trust-code").code == 0
    return project


def test_a_member_that_remembers_labels_is_above_chance(leaky: Project) -> None:
    said = audited(leaky)
    assert said.code == 2 and "--trust-code" in said.err
    assert audited(leaky, "--no-null").code == 0, "its provenance is clean: the leak is in the code"
    said = audited(leaky, "--trust-code", "--permutations", 2, "--rows", 90)
    assert said.code == 1, said.out
    assert result(leaky)["null"]["above_chance"] == ["base/memory", "final/soft"]
    assert "fail: better than chance on permuted labels: base/memory, final/soft" in said.out


def test_a_member_that_fails_on_few_rows_is_not_judged(
    quick: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stackfeat.engine import worker as work

    made = work.make_member

    def fails(values: Any, trust_code: bool = False) -> Any:
        if values.get("estimator", "").startswith("lightgbm"):
            raise RuntimeError("too few rows")
        return made(values, trust_code)

    monkeypatch.setattr(work, "make_member", fails)
    said = audited(quick, "--permutations", 2, "--rows", 90)
    assert said.code == 0 and "not judged: base/gbm: " in said.out
    assert {verdict["member"] for verdict in result(quick)["null"]["verdicts"]} >= {
        "base/linear",
        "final/soft",
    }


def test_an_interrupted_audit_leaves_nothing(
    quick: Project, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temporary = tmp_path_factory.mktemp("temporary")
    places = []

    def interrupted(*given: Any, **options: Any) -> Any:
        places.extend(temporary.iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(permutation_test, "run_levels", interrupted)
    assert audited(quick).code == 130
    assert places and not list(temporary.iterdir()) and not (quick.run_folder / "audit.json").exists()


def test_regression_and_label_metrics_are_judged(build: Build, make_config: Any) -> None:
    for task, metric, measures in (
        ("regression", "rmse", {"ranking", "rmse"}),
        ("binary", "f1", {"ranking"}),
    ):
        project = build(task, make_config(task, metric))
        assert project.run().code == 0
        found = audit(project.run_folder, permutations=2, rows=90)
        assert found.passed and found.null is not None
        assert {verdict.measure for verdict in found.null.verdicts} == measures


@pytest.mark.parametrize("task", MARKED)
def test_a_clean_stack_of_every_task_is_at_chance(
    task: str, run_of_task: Callable[[str], Project], tmp_path: Path
) -> None:
    project = run_of_task(task).copy(tmp_path / "audited")
    said = audited(project, "--permutations", 2)
    assert said.code == 0 and "pass:" in said.out, said.out + said.err
    null = result(project)["null"]
    members = {f"{level}/{name}" for level, given in project.config()["levels"].items() for name in given}
    measures = {"ranking", OPTIONS[task]["metric"]}
    assert null["failed"] == {} and null["above_chance"] == []
    judged = {(verdict["member"], verdict["measure"]) for verdict in null["verdicts"]}
    assert judged == {(member, measure) for member in members for measure in measures}


@pytest.mark.parametrize("task", ["several targets", "multilabel", "quantile", "ranking", "texts"])
def test_a_member_of_every_task_that_remembers_labels_is_above_chance(task: str, tmp_path: Path) -> None:
    given = config(task)
    is_class = given["task"] in ("binary", "multilabel")
    kind, output = ("Memory", "proba") if is_class else ("Values", "prediction")
    params = {"width": 3} if task == "quantile" else {}
    leaky = {"estimator": f"leaky:{kind}", "prepare": "none", "params": params}
    levels = {
        "base": {"memory": leaky, "gbm": given["levels"]["base"]["gbm"]},
        "final": {"soft": {"vote": "soft", "inputs": [f"base/*/{output}"]}},
    }
    project = project_of(task, tmp_path / "leaky", levels=levels)
    (project.folder / "leaky.py").write_text(LEAKY)
    said = project.run("--trust-code")
    assert said.code == 0, said.err
    said = audited(project, "--trust-code", "--permutations", 2)
    assert said.code == 1, said.out
    # Of several targets it remembers the last that was learnt alone, which a vote with another member dilutes.
    above = result(project)["null"]["above_chance"]
    assert "base/memory" in above if task in TARGETS else above == ["base/memory", "final/soft"]


@pytest.mark.slow
def test_processes_do_not_change_an_audit(net: Project) -> None:
    one = audit(net.run_folder, permutations=2, rows=90, jobs=1)
    two = audit(net.run_folder, permutations=2, rows=90, jobs=2)
    assert one.to_json() == two.to_json() and one.null is not None and not one.null.failed
