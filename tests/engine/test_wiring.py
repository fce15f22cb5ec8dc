"""The wiring of a stack comes back from JSON as it was, and what is not made so is refused by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from stackfeat.engine.jobs import Averaging
from stackfeat.engine.wiring import Wiring, folds_used, needed_fits
from stackfeat.errors import StructureError
from tests.engine.by_hand import BAYES, BINARY, PRIOR, Engine, engine, folds_of_rows

NET = {"net": "mlp", "emit": ["proba", {"tap": "penultimate", "encode": ["aligned"]}]}
LEVELS = {
    "base": {"bayes": BAYES, "prior": PRIOR, "net": NET},
    "meta": {"m": {"estimator": "gated_linear", "inputs": ["base/bayes/proba", "base/net/*"]}},
    "final": {"soft": {"vote": "soft", "inputs": ["meta/*", "base/bayes/proba"]}},
}
ALL = Averaging("mean", "all", False)
FOLD = Averaging("mean", "fold", False)


def wired(averaging: Averaging = ALL, **options: Any) -> tuple[Engine, Wiring]:
    made = engine(LEVELS, averaging=averaging.averaging, **options)
    return made, Wiring.of(made.plan, "final/soft", averaging, BINARY)


@pytest.mark.parametrize(
    "averaging",
    [ALL, FOLD, Averaging("logit", "all", False, "early"), Averaging("mean", "all", False, "refit")],
)
def test_json_brings_it_back_with_the_keys_of_all_that_it_goes_through(averaging: Averaging) -> None:
    made, wiring = wired(averaging, folds=folds_of_rows(24, n_repeats=2))
    again = Wiring.from_json(json.loads(json.dumps(wiring.to_json())) | {"more": 1}, "w")
    assert again == wiring and len(set(again.keys)) == len(again.keys) == len(wiring.fits) + len(
        wiring.aligns
    )
    assert [(*align[:2],) for align in wiring.aligns] == list(made.plan.test_maps)
    plan = again.plan()
    assert plan.fits.items() <= made.plan.fits.items()
    assert plan.test_maps == made.plan.test_maps
    for block in ("base/net/penultimate@aligned", "meta/m/proba"):
        node = made.plan.graph.blocks()[block][0]
        assert plan.test_views(plan.graph.blocks()[block][0]) == made.plan.test_views(node)


def test_members_that_the_submitted_one_does_not_read_are_left_out() -> None:
    made, wiring = wired()
    assert [f"{node.level}/{node.name}" for node in wiring.nodes] == [
        "base/bayes",
        "base/net",
        "meta/m",
        "final/soft",
    ]
    alone = Wiring.of(made.plan, "base/prior", ALL, BINARY)
    assert [fit[:3] for fit in alone.fits] == [
        ("base/prior", 0, fold) for fold in range(3)
    ] and not alone.aligns


def test_an_alignment_is_needed_only_where_its_block_is_read() -> None:
    made, _ = wired()
    assert needed_fits(made.plan, "base/net", ALL)[1] == []
    assert needed_fits(made.plan, "meta/m", ALL)[1] == [("base/net/penultimate@aligned", 0)]


@pytest.mark.parametrize(
    ("averaging", "base", "meta"),
    [
        (ALL, [0, 1, 2], ["all"]),
        (FOLD, [0, 1, 2], [0, 1, 2]),
        (Averaging("mean", "all", False, "refit"), ["all"], ["all"]),
    ],
)
def test_test_rows_go_through_fits_of_folds_or_of_all_rows(
    averaging: Averaging, base: Any, meta: Any
) -> None:
    plan = wired(averaging)[0].plan
    assert folds_used(plan, plan.graph.node("base/bayes"), averaging) == base
    assert folds_used(plan, plan.graph.node("meta/m"), averaging) == meta


def test_time_folds_go_through_the_folds_that_a_level_covers() -> None:
    made, wiring = wired(FOLD, folds=folds_of_rows(24, kind="time"))
    assert folds_used(made.plan, made.plan.graph.node("meta/m"), FOLD) == [1, 2]
    assert Wiring.from_json(wiring.to_json(), "w").is_time


def drop_fit(values: dict[str, Any]) -> None:
    values["fits"] = values["fits"][1:]


def add_fit(values: dict[str, Any]) -> None:
    values["fits"] = [*values["fits"], ["base/bayes", 0, 17, "k"]]


def turn_nodes(values: dict[str, Any]) -> None:
    values["nodes"] = values["nodes"][::-1]


def repeat_node(values: dict[str, Any]) -> None:
    values["nodes"] = [values["nodes"][0], *values["nodes"]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop_fit, r"w\.fits must be the 8 needed; got 7"),
        (add_fit, r"w\.fits must be the 8 needed; got 9"),
        (lambda values: values.update(aligns=[]), r"w\.aligns must be the 1 needed; got 0"),
        (turn_nodes, r"w\.nodes must read blocks of earlier nodes; got .*meta/m/proba"),
        (repeat_node, r"w\.nodes must differ in their names"),
        (
            lambda values: values.update(member="base/prior"),
            r"w\.member must be one of its nodes; got 'base/prior'",
        ),
        (lambda values: values.update(block="meta/m/proba"), r"w\.block must be of its member"),
        (lambda values: values.update(n_repeats=101), r"w\.n_repeats must be from 1 to 100; got 101"),
        (lambda values: values.update(n_folds=0), r"w\.n_folds must be from 1 to 10000; got 0"),
        (lambda values: values.update(threads=10**9), r"w\.threads must be from 1 to 4096"),
        (lambda values: values.pop("task"), "w must have the field 'task'"),
    ],
)
def test_what_is_not_wired_so_is_refused_by_name(spoil: Callable[[Any], None], message: str) -> None:
    values = copy.deepcopy(json.loads(json.dumps(wired()[1].to_json())))
    spoil(values)
    with pytest.raises(StructureError, match=message):
        Wiring.from_json(values, "w")
