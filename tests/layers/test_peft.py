"""Adapters of peft on a head: the last features are what the head is given, with and without them.

peft is optional (``pip install --no-deps peft accelerate``); without it the tests are skipped.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stackfeat as sf
from tests.layers.hand_written import read_by_hand
from tests.torchvision_operators import declare_missing_operators

pytestmark = pytest.mark.slow

ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {}),
    "lora that starts at random": ("LoraConfig", {"init_lora_weights": False}),
    "lora of a larger rank": ("LoraConfig", {"r": 16, "use_rslora": True}),
    "dora": ("LoraConfig", {"use_dora": True}),
    "loha": ("LoHaConfig", {}),
    "vera": ("VeraConfig", {}),
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU())
        self.classifier = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x)).softmax(1)


@pytest.fixture(scope="module")
def peft() -> Any:
    declare_missing_operators()
    pytest.importorskip("accelerate", reason="accelerate, which peft imports, is not installed")
    return pytest.importorskip("peft", reason="peft is not installed")


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_last_features_are_what_the_adapted_head_is_given(peft: Any, name: str) -> None:
    torch.manual_seed(0)
    kind, options = ADAPTERS[name]
    net = peft.get_peft_model(Net(), getattr(peft, kind)(target_modules=["classifier"], **options)).eval()
    x = torch.randn(6, 8)
    tap = sf.find_penultimate(net, x)
    given = read_by_hand(net, {"x": x}, side="input")
    with torch.no_grad(), sf.tapped(net, [tap]) as caught:
        net(x)
    assert torch.equal(caught[tap], given["base_model.model.classifier"])
    assert str(sf.find_penultimate(net.merge_and_unload(), x)) == "classifier:input"


def test_a_head_that_is_trained_beside_an_adapter_is_found(peft: Any) -> None:
    config = peft.LoraConfig(target_modules=["0"], modules_to_save=["classifier"])
    net, x = peft.get_peft_model(Net(), config).eval(), torch.randn(6, 8)
    tap = sf.find_penultimate(net, x)
    assert str(tap) == "base_model.model.classifier.modules_to_save.default:input"
    assert sf.extract(net, x, {"head": tap})["head"].shape == (6, 16)
