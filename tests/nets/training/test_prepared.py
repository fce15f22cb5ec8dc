"""What a class learns of its training rows before it is built: given, stored, and never forced on anyone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from stackfeat.errors import MemberError
from stackfeat.nets.build import NetSpec
from stackfeat.nets.fitted import FittedNet
from stackfeat.nets.options import TrainOptions
from stackfeat.nets.training.fit import TrainingSet, fit_net, untrained_net
from stackfeat.nets.training.loop import Training
from stackfeat.tasks.task import Task

PAGE = Path(__file__).resolve().parents[3] / "docs" / "nets.md"
TASK = Task("binary", ("no", "yes"))


def rows(n_rows: int = 40) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(3, 1, size=(n_rows, 2)).astype(np.float32)
    return x, (x[:, 0] > 3).astype(np.int64)


def fit(cls: Any, **params: Any) -> FittedNet:
    x, y = rows()
    return fit_net(
        NetSpec(cls, params, 2, 2),
        TrainingSet((x,), y, 0),
        Training(TrainOptions(epochs=2), TASK, "cross_entropy"),
    )


def test_the_net_of_the_documents_learns_the_medians_of_its_rows_and_keeps_them() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    x, _ = rows()
    net = fit(names["Centred"], width=4)
    np.testing.assert_allclose(net.module.medians, np.median(x, axis=0), rtol=1e-6)  # type: ignore[arg-type]
    again = FittedNet.from_state(net.state_bytes(), names["Centred"], threads=1)
    assert np.array_equal(again.predict((x[:3],)), net.predict((x[:3],)))
    untrained = untrained_net(NetSpec(names["Centred"], {}, 2, 2), (x[:9],), task=TASK, seed=0)
    np.testing.assert_allclose(untrained.module.medians, np.median(x[:9], axis=0), rtol=1e-6)  # type: ignore[arg-type]


class Other(nn.Module):
    """Has a method of that name, of no concern here."""

    def __init__(self, n_features: int, n_outputs: int, prepared: Any = None) -> None:
        super().__init__()
        self.given = prepared
        self.linear = nn.Linear(n_features, n_outputs)

    def prepare(self) -> None:
        raise AssertionError("not for this")

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Unasked(Other):
    def __init__(self, n_features: int, n_outputs: int) -> None:
        super().__init__(n_features, n_outputs)

    @classmethod
    def prepare(cls, arrays: Any, params: Any) -> None:  # type: ignore[override]
        raise AssertionError("the constructor names nothing to take it")


@pytest.mark.parametrize("cls", [Other, Unasked])
def test_a_method_of_the_same_name_is_left_alone(cls: Any) -> None:
    net = fit(cls)
    assert net.spec.prepared is None and net.module.given is None


class Unstorable(Other):
    @classmethod
    def prepare(cls, arrays: Any, params: Any) -> Any:  # type: ignore[override]
        return {"medians": np.median(arrays[0], axis=0)}


def test_what_cannot_be_stored_is_an_error_that_says_so() -> None:
    with pytest.raises(MemberError, match="prepare of Unstorable must return plain JSON values; got"):
        fit(Unstorable)
