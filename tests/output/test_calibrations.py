"""What calibrations were kept, in words."""

from __future__ import annotations

from typing import Any

from stackfeat.meta.widening import Widening
from stackfeat.output.calibrations import calibration_verdicts


def noted(family: str, gain: float, tried: float = 0.0) -> dict[str, Any]:
    trials = [{"family": "temperature", "gain": tried or gain, "se": 0.01, "kept": family != "none"}]
    found = {"family": family, "parameters": {}, "gain": gain, "se": 0.01 if gain else 0.0, "trials": trials}
    return {"weights": {}, "calibration": found}


def test_what_was_kept_is_said_by_family_with_its_gain() -> None:
    reports = {
        "final/soft": [noted("temperature", 0.2), noted("class_scaling", 0.4), noted("temperature", 0.3)],
        "final/plain": [{"weights": {}}],
    }
    (found,) = calibration_verdicts(reports, {"final/soft": Widening((1.084, 1.084), (0.0, 0.0))})
    assert found.families == {"temperature": 2, "class_scaling": 1} and found.n_fits == 3
    assert found.text == (
        "final/soft by temperature in 2 of 3 fits, class_scaling in 1 of 3 fits, the loss falls by 0.300 ± 0.010; "
        "averages over pipelines are widened by 1.08"
    )


def test_what_was_not_kept_is_said_too() -> None:
    (found,) = calibration_verdicts({"a/b": [noted("none", 0.0, 0.004), noted("none", 0.0, -0.002)]}, {})
    assert found.text == "a/b stays as it is in all 2 fits: at best the loss falls by 0.001 ± 0.010"


def test_a_loss_that_rises_is_called_so() -> None:
    (found,) = calibration_verdicts({"a/b": [noted("none", 0.0, -0.004)]}, {})
    assert (
        found.text
        == "a/b stays as it is in all 1 fits: even the best calibration raises the loss by 0.004 ± 0.010"
    )
