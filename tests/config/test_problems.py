"""Problems: what must hold, what was got and what to do, at the line of the file or by the argument of --set."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from stackfeat.config.problems import Finding, Places, findings_of, show
from stackfeat.config.run_config import RunConfig
from stackfeat.errors import Problem

GOOD: dict[str, Any] = {
    "task": "multiclass",
    "metric": "log_loss",
    "data": {"train": "a.csv"},
    "levels": {"base": {"mlp": {"net": "mlp"}}},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the good config with one value in another place."""
    values = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    here = values
    for key in parents:
        here = here.setdefault(key, {})
    here[last] = value
    return values


def found(values: Any) -> list[Finding]:
    with pytest.raises(ValidationError) as caught:
        RunConfig.model_validate(values)
    return findings_of(caught.value, values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "x", "must be a whole number; got 'x'."),
        ("seed", -1, "must be at least 0; got -1."),
        ("name", "", "must be text that is not empty; got ''."),
        ("name", 7, 'must be text; got 7. Quote it: "7"'),
        (
            "cache",
            "refrehs",
            "must be one of auto, refresh, readonly; got 'refrehs'. Did you mean 'refresh'?",
        ),
        ("data", 3, "must be a mapping (train, test, sample_submission, id, target"),
        ("stack.gate_se", [1], "must be a number; got [1]."),
        ("executor.jobs", "many", "must be a whole number or 'auto'; got 'many'."),
        ("task", "multilabels", "ranking, multilabel; got 'multilabels'. Did you mean 'multilabel'?"),
        (
            "decision",
            {"kind": "threshold", "numbers": [0.3, 0.4]},
            "a threshold is one number; got 2; give one",
        ),
        ("limits.time", "soon", "must look like 8h30m, 10m or 90s; got 'soon'"),
    ],
)
def test_a_wrong_value_says_what_must_hold_and_what_was_got(path: str, value: Any, message: str) -> None:
    (finding,) = found(changed(path, value))
    assert finding.path == path and finding.keys == tuple(path.split("."))
    assert message in finding.message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sede", "'sede' is not an option here; legal are name, task, metric, seed"),
        ("levels.base.mlp.epochs", "It belongs at levels.base.mlp.train.epochs"),
        ("extra", "It belongs at data.extra"),
        ("levels.base.mlp.picks", "It is an option of vote members"),
        ("levels.base.mlp.qqq", "Arguments of the net or estimator itself go under params"),
        ("levels.base.mlp.train.epoch", "Did you mean 'epochs'?"),
    ],
)
def test_a_name_that_is_no_option_is_told_where_it_belongs(path: str, message: str) -> None:
    (finding,) = found(changed(path, 1))
    assert finding.path == path and message in finding.message


def test_what_is_missing_is_named_and_a_near_name_is_the_one_to_change() -> None:
    values = copy.deepcopy(GOOD)
    del values["metric"]
    (finding,) = found(values)
    assert (finding.path, finding.message) == (
        "metric",
        "'metric' is required and not given. Add 'metric: ...'",
    )
    values["metrc"] = "log_loss"
    messages = {finding.path: finding.message for finding in found(values)}
    assert messages["metric"] == "'metric' is required and not given. Rename 'metrc' to it"
    assert "Did you mean 'metric'?" in messages["metrc"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("mlp", "got 'mlp'. Write a mapping such as {net: mlp}"),
        ({}, "got none. Add one of them"),
        ({"params": {}}, "got params. Add one of them"),
        ({"nett": "mlp"}, "got 'nett'. Did you mean 'net'?"),
        ({"net": "mlp", "vote": "soft"}, "got net and vote. Make them members of their own"),
    ],
)
def test_a_member_of_no_kind_or_of_two_is_explained(member: Any, message: str) -> None:
    (finding,) = found(changed("levels.base.mlp", member))
    assert finding.path == "levels.base.mlp" and message in finding.message
    assert finding.message.startswith("a member has exactly one of net, estimator, vote, predictions; ")


def test_alternatives_of_one_place_are_one_finding_and_all_places_are_said() -> None:
    values = changed("executor.jobs", [])
    values["seed"] = None
    values["levels"]["base"]["mlp"]["emit"] = [{"tap": 5}]
    paths = [finding.path for finding in found(values)]
    assert sorted(paths) == ["executor.jobs", "levels.base.mlp.emit.0.tap", "seed"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (0, "0"),
        (1.0, "1.0"),
        ("a", "'a'"),
        ("x" * 200, "'" + "x" * 76 + "..."),
    ],
)
def test_values_are_shown_as_a_config_writes_them_in_one_line(value: object, text: str) -> None:
    assert show(value) == text


def test_a_problem_stands_at_the_line_of_its_path_or_of_the_nearest_above_it() -> None:
    places = Places("c.yaml", {"levels": 4, "levels.base": 5, "levels.base.mlp.train.lr": 9})
    for path, line in (
        ("levels.base.mlp.train.lr", 9),
        ("levels.base.mlp.train.epochs", 5),
        ("levels.bases.mlp", 4),
        ("seed", None),
    ):
        assert places.problem(Finding(path, "wrong")) == Problem(path, "wrong", "c.yaml", line)


def test_what_came_from_an_argument_is_named_by_it_and_not_by_a_line() -> None:
    places = Places(
        "c.yaml", {"stack": 3, "stack.average": 4}, {"stack.average": "stack.average=x" + "y" * 500}
    )
    problem = places.problem(Finding("stack.average", "wrong"))
    assert problem.line is None and problem.file.startswith("--set stack.average=xyyy")
    assert len(problem.file) < 250 and problem.file.endswith("...")
    assert places.problem(Finding("stack", "wrong")) == Problem("stack", "wrong", "c.yaml", 3)
