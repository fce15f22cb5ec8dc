"""Every kind of member owns its facts; a new kind needs a row in `EXAMPLES`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import stackfeat
from stackfeat.data.options import DataOptions, FoldOptions
from stackfeat.engine.recipes import key_of
from stackfeat.members import MEMBERS, make_member
from stackfeat.members.options import MemberOptions
from stackfeat.members.run_facts import RunFacts
from stackfeat.members.settings import RunSettings, Settings
from stackfeat.structure import checked, plain

FILES = {"oof": "mate.csv"}
EXAMPLES: dict[str, list[tuple[dict[str, Any], int]]] = {
    "net": [
        ({"net": "mlp"}, 4),
        ({"net": "mlp", "train": {"epochs": 30}}, 2),
        ({"net": "mlp", "train": {"epochs": 30, "patience": 5}}, 4),
        ({"net": "mlp", "weights": "m{fold}.pt"}, 3),
    ],
    "estimator": [
        ({"estimator": "sklearn.linear_model.Ridge"}, 1),
        ({"estimator": "lightgbm.LGBMClassifier"}, 2),
        ({"estimator": "gated_linear", "inputs": ["base/*/*"]}, 2),
        ({"estimator": "mine:Slow"}, 3),
    ],
    "vote": [
        ({"vote": vote, "inputs": ["base/*"]}, 0) for vote in ("soft", "hard", "weighted", "rank", "greedy")
    ],
    "predictions": [({"predictions": FILES}, 0)],
}
"""By kind: options, and what a fit is likely to cost."""
CASES = [(kind, values, cost) for kind, rows in EXAMPLES.items() for values, cost in rows]
RUN = RunSettings(threads=1, seed_copies=2, device="cpu", loss="mse", gate_se=0.5, metric="rmse")


def made(kind: str, values: dict[str, Any]) -> MemberOptions:
    return MEMBERS[kind].model_validate(values)


def test_every_kind_has_examples() -> None:
    assert set(EXAMPLES) == set(MEMBERS)


@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_what_members_are_likely_to_cost(kind: str, values: dict[str, Any], cost: int) -> None:
    assert made(kind, values).cost == cost


@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_the_recipe_of_a_member_makes_it_again(kind: str, values: dict[str, Any], cost: int) -> None:
    options = made(kind, values)
    again = make_member({**options.recipe(), "sources": {"role": "key"}})
    assert type(again) is type(options.member())
    rebuilt = getattr(again, "options", None)
    assert rebuilt is None or rebuilt.recipe() == options.recipe()


@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_what_enters_keys_is_plain_data(kind: str, values: dict[str, Any], cost: int) -> None:
    options = made(kind, values)
    settings = options.settings(RUN, has_blocks=True, has_features=True)
    key_of({"member": options.recipe(), "settings": plain(settings), "libraries": options.libraries()})
    assert settings.threads == 1 and options.libraries()


@pytest.mark.parametrize(("has_blocks", "has_features"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_settings_come_back_from_json_as_they_were(
    kind: str, values: dict[str, Any], cost: int, has_blocks: bool, has_features: bool
) -> None:
    settings = made(kind, values).settings(RUN, has_blocks=has_blocks, has_features=has_features)
    assert checked(Settings, json.loads(json.dumps(plain(settings))), "settings") == settings


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_every_member_says_its_blocks(kind: str, values: dict[str, Any], cost: int, task: str) -> None:
    problems: list[tuple[str, str]] = []
    outputs = made(kind, values).outputs(task, lambda path, message: problems.append((path, message)))
    names = [output.name for output in outputs]
    assert not problems and len(set(names)) == len(names)
    assert names[0] == ("prediction" if task == "regression" else "proba")
    assert all((output.kind == "feature") == (output.tap is not None) for output in outputs)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_what_is_wrong_with_a_member_is_said_of_its_own_options(
    kind: str, values: dict[str, Any], cost: int, task: str, tmp_path: Path
) -> None:
    options = made(kind, values)
    data = DataOptions(train="train.csv", test="test.csv")
    run = RunFacts(task, data, FoldOptions(), "refit", is_first=True, file_problem=lambda path: "gone")
    found = [*options.problems(run), *options.code_problems(task, tmp_path, trust_code=False)]
    assert {place.split(".")[0] for place, *_ in found} <= set(options.names())
    assert all(message for _, message, *_ in found)


@pytest.mark.parametrize(("kind", "values", "cost"), CASES)
def test_a_reduced_member_is_one_of_its_kind_and_no_dearer(
    kind: str, values: dict[str, Any], cost: int
) -> None:
    options = made(kind, values)
    reduced = options.reduced()
    assert type(reduced) is type(options) and reduced.cost <= cost and reduced.reduced() == reduced
    assert reduced.outputs("binary", lambda *problem: None) == options.outputs(
        "binary", lambda *problem: None
    )


def test_budgets_are_cut_where_they_stand() -> None:
    net: Any = made("net", {"net": "mlp", "train": {"epochs": 60}, "seeds": 3}).reduced()
    assert (net.train.epochs, net.train.batch_size, net.seeds) == (20, 64, 1)
    for estimator, given, expected in [
        ("lightgbm.LGBMClassifier", {}, {"n_estimators": 50}),
        ("catboost.CatBoostClassifier", {"iterations": 9}, {"iterations": 9}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {}, {"max_iter": 50}),
        ("sklearn.ensemble.VotingClassifier", {"estimators": []}, {"estimators": []}),
        ("mine:Forest", {"n_estimators": 500}, {"n_estimators": 50}),
        ("sklearn.svm.SVC", {"C": 2.0}, {"C": 2.0}),
    ]:
        small: Any = made("estimator", {"estimator": estimator, "params": given}).reduced()
        assert small.params == expected, estimator


def test_nobody_else_asks_of_what_class_options_are() -> None:
    package = Path(stackfeat.__file__).parent
    found = [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if path.relative_to(package).parts[0] != "members"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"isinstance\([^)]*[oO]ptions", line)
    ]
    assert len(found) <= 1, "\n".join(found)
