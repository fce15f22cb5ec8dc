"""A net together with its taps: called at once, or in a block around calls of the net's own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import LayerNotFoundError, UsageError
from stackfeat.layers.taps.extractor import Extractor


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))


def test_the_extractor_returns_output_and_values_and_leaves_no_hook() -> None:
    model, x = make_net(), torch.randn(5, 4)
    output, caught = Extractor(model, ["0", "1", "2:input"])(x)
    assert torch.equal(output, model(x))
    assert torch.equal(caught["0"], model[0](x))
    assert torch.equal(caught["1"], caught["2:input"])
    assert n_hooks(model) == 0
    with pytest.raises(LayerNotFoundError):
        Extractor(model, ["nothing"])


def test_the_extractor_is_a_module_around_the_net() -> None:
    extractor = Extractor(nn.Sequential(nn.Linear(2, 2)), ["0"])
    assert not extractor.eval().model.training
    assert list(extractor.state_dict()) == ["model.0.weight", "model.0.bias"]


def test_values_stay_in_the_graph_if_they_are_to() -> None:
    model, x = make_net(), torch.randn(5, 4)
    assert not Extractor(model, ["0"])(x)[1]["0"].requires_grad
    _, caught = Extractor(model, ["0"], detach=False)(x)
    caught["0"].sum().backward()
    assert torch.allclose(model[0].weight.grad, x.sum(0).expand(3, 4))
    with Extractor(model, ["0"], detach=False) as extractor:
        model(x)
        assert extractor.collect()["0"].grad_fn is not None


def test_in_a_block_it_collects_what_calls_of_the_net_itself_left() -> None:
    model, x = make_net(), torch.randn(5, 4)
    with Extractor(model, ["0", "1"]) as extractor:
        model(x)
        first = extractor.collect()
        model(x[:2])
        second = extractor.collect()
        output, third = extractor(x[:1])
    assert torch.equal(first["0"], model[0](x))  # later calls leave it alone
    assert [len(caught["0"]) for caught in (first, second, third)] == [5, 2, 1]
    assert torch.equal(output, model(x[:1]))
    assert len(extractor.collect()["0"]) == 1
    assert n_hooks(model) == 0


def test_hooks_of_a_block_are_gone_after_an_exception() -> None:
    model = make_net()
    with pytest.raises(ZeroDivisionError), Extractor(model, ["0"]):
        raise ZeroDivisionError
    assert n_hooks(model) == 0


def test_collecting_before_the_net_ran_says_what_to_do() -> None:
    extractor = Extractor(make_net(), ["0"])
    with pytest.raises(UsageError, match="got no block"):
        extractor.collect()
    with extractor, pytest.raises(UsageError, match="got no call of the net"):
        extractor.collect()
    with extractor, pytest.raises(UsageError, match="once at a time"), extractor:
        pass


def test_it_can_be_copied_and_pickled_also_after_a_block() -> None:
    model, x = make_net(), torch.randn(5, 4)
    with Extractor(model, ["0"]) as extractor:
        model(x)
    for other in (copy.deepcopy(extractor), pickle.loads(pickle.dumps(extractor))):
        assert torch.equal(other(x)[1]["0"], model[0](x))
        with pytest.raises(UsageError):
            other.collect()


def test_a_part_called_alone_is_no_call_of_the_net() -> None:
    model = make_net()
    with Extractor(model, ["0"]) as extractor, pytest.raises(UsageError, match="no call of the net"):
        model[0](torch.randn(1, 4))
        extractor.collect()


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.act(x))


def test_lists_of_calls_are_collected_whole() -> None:
    net = Twice()
    with Extractor(net, ["act#all"]) as extractor:
        net(torch.ones(1))
        assert len(extractor.collect()["act#all"]) == 2


def test_calls_of_layers_alone_leave_nothing_to_collect() -> None:
    model, x = make_net(), torch.randn(5, 4)
    with Extractor(model, ["0", "1", "0.linear()", "2:grad", "0#all"]) as extractor:
        output = model(x)
        model[:2](torch.ones(3, 4))
        model[2](torch.ones(3, 3)).sum().backward()
        output.sum().backward()
        caught = extractor.collect()
        assert [len(caught[key]) for key in ("0", "1", "0.linear()", "2:grad")] == [5] * 4
        assert len(caught["0#all"]) == 1
        model[0](x)
        nn.Sequential(nn.Identity(), model)(x[:2])  # a call of the net itself, by a net around it
        assert len(extractor.collect()["0"]) == 2
    with Extractor(model, ["0"]) as extractor:
        model[0](x)
        with pytest.raises(UsageError, match="no call of the net"):
            extractor.collect()
