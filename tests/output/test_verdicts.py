"""Verdicts in words, on reports and scores that are written down, and on those of a run."""

from __future__ import annotations

from typing import Any

import pytest

from stackfeat.errors import StructureError
from stackfeat.output.gates import verdicts_of, with_error
from stackfeat.output.scores import choose_submission, find_overfit
from stackfeat.output.verdicts import why_chosen
from stackfeat.pipeline.run import run
from tests.output.test_scores import LOSS, Score, member

Project = Any
BLOCK = "base/mlp/penultimate@geometry"


def step(gain: float, se: float, accepted: bool, **more: Any) -> dict[str, Any]:
    return {
        "block": BLOCK,
        "scale": 1.0,
        "gain": gain,
        "standard_error": se,
        "accepted": accepted,
        "enters": "columns",
        "judged_by": "fits",
        **more,
    }


def report(*steps: dict[str, Any], scale: float = 0.0, others: tuple[str, ...] = ()) -> dict[str, Any]:
    scales = {BLOCK: scale, **dict.fromkeys(others, 0.0)}
    return {"threshold_se": 0.5, "scales": scales, "steps": list(steps)}


def test_a_block_that_entered_most_fits_is_told_with_its_gain_there() -> None:
    entered = [report(step(gain, 0.002, True), scale=1.0) for gain in (0.019, 0.02, 0.021, 0.022, 0.023)]
    (found,) = verdicts_of({"meta/gated": [*entered, report(step(0.0001, 0.001, False))]})
    assert (found.block, found.member, found.n_entered, found.n_fits) == (BLOCK, "meta/gated", 5, 6)
    assert (found.gain, found.se) == (pytest.approx(0.021), pytest.approx(0.002))
    assert found.text == f"{BLOCK} entered in 5 of 6 fits of meta/gated, gain 0.0210 ± 0.0020"


def test_gains_by_vote_and_by_columns_add_up() -> None:
    (found,) = verdicts_of(
        {"m": [report(step(0.3, 0.03, True, enters="vote"), step(0.1, 0.04, True), scale=0.3)]}
    )
    assert (found.gain, found.se) == (pytest.approx(0.4), pytest.approx(0.05))


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([step(-0.01, 0.002, False)], "gain -0.0100 ± 0.0020; it does not lower the loss"),
        ([step(0.001, 0.01, False)], "gain 0.001 ± 0.010; its gain must be above 0.5 standard errors"),
        (
            [step(1e-5, 1e-5, False)],
            "gain 0.000010 ± 0.000010; a gain below a thousandth of the loss must be above two standard errors",
        ),
        (
            [step(0.001, 0.01, False, judged_by="proxy")],
            "gain 0.001 ± 0.010; by a first screening its gain must be above 0.5 standard errors",
        ),
        ([], "other blocks promised more, and it was not tried"),
    ],
)
def test_a_refused_block_is_told_with_the_reason(steps: list[dict[str, Any]], words: str) -> None:
    (found,) = verdicts_of({"meta/gbm": [{"gate": {"scales": {}, "trials": report(*steps)}}] * 2})
    assert found.text == f"{BLOCK} was refused in all 2 fits of meta/gbm: {words}"


def test_fits_without_a_gate_have_no_verdict_and_a_changed_report_is_refused() -> None:
    assert verdicts_of({"base/a": [{}, {"params": {"C": 1.0}}]}) == []
    with pytest.raises(StructureError, match="a step of a gate"):
        verdicts_of({"m": [report({"block": BLOCK})]})


def why(scores: list[Score], wanted: str = "auto") -> str:
    overfit = {item.member.name for item in find_overfit(scores, LOSS)}
    return why_chosen(scores, choose_submission(scores, LOSS, wanted, overfit), LOSS, wanted)


def test_why_a_member_is_submitted() -> None:
    near = [member("base/a", 0.4001, None), member("meta/m", 0.4, None)]
    soft, greedy = (
        member("final/s", 0.4001, None, vote="soft"),
        member("final/g", 0.4002, None, vote="greedy"),
    )
    assert why([*near, soft]).startswith(
        "submitted final/s: within one standard error of meta/m, where votes are preferred "
        "(log_loss out of fold is worse by 0.000"
    )
    assert "standard error of meta/m, where lower levels are preferred" in why(near)
    best_soft = member("final/s", 0.39, None, vote="soft", noise=0.1)
    assert "standard error of final/s, where greedy votes come first" in why([best_soft, greedy])
    assert why([member("base/a", 0.5, None), member("meta/m", 0.4, None)]) == (
        "submitted meta/m: the best log_loss out of fold"
    )
    assert why(near, "base/a") == "submitted base/a: submit names it"
    assert why(near[:1]) == "submitted base/a: the only member that can be"
    same = [member("base/a", 0.4, None, noise=0), member("final/s", 0.4, None, noise=0, vote="soft")]
    assert why(same) == "submitted final/s: as good as base/a, where votes are preferred"


def test_members_that_cannot_be_chosen_are_named_where_they_score_better() -> None:
    hard = member("final/h", 0.2, None, vote="hard")
    assert why([member("base/a", 0.5, None), member("base/b", 0.4, None), hard]) == (
        "submitted base/b: the best log_loss out of fold; final/h: better out of fold, but no choice"
    )
    overfit = [member("base/a", 0.40, 0.40), member("base/b", 0.45, 0.43), member("meta/m", 0.35, 0.50)]
    assert why(overfit) == (
        "submitted base/a: the best log_loss on held-out rows; meta/m: better out of fold, but no choice"
    )


def test_numbers_have_the_digits_of_their_error() -> None:
    told = [with_error(*pair) for pair in ((0.0213, 0.00204), (12.34, 3.2), (1234.5, 56.0), (0.5, 0.0))]
    assert told == ["0.0213 ± 0.0020", "12.3 ± 3.2", "1234 ± 56", "0.5"]


def test_a_run_tells_both_and_prints_them(net: Project) -> None:
    result = run(net.folder / "c.yaml")
    assert [(one.member, one.n_fits) for one in result.gates] == [
        (member, 4) for member in ("meta/gated", "meta/trees") for _ in range(2)
    ]
    assert result.why.startswith(f"submitted {result.submitted}: ")
    said = net.run()
    assert result.why in said.out
    for verdict in result.gates:
        assert f"gate: {verdict.text}" in said.out
