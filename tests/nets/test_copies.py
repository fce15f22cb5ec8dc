"""Nets that are given as modules: copied and pickled in every form that torch can, and never changed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from stackfeat.errors import UsageError
from stackfeat.nets.copies import ModuleCopies, copied

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Keeps(nn.Module):
    """Keeps what it computed, as many published nets do to show it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.last: Any = None
        self.all: dict[str, list[Tensor]] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.fc(x)
        self.all["fc"] = [self.last]
        return torch.relu(self.last)


class CountsCalls(nn.Module):
    """Has a hook that is a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.n_calls = 0
        self.fc.register_forward_hook(self.count)

    def count(self, _module: nn.Module, _args: Any, _output: Tensor) -> None:
        self.n_calls += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.lock = threading.Lock()


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(4, 4))


def with_a_local_hook() -> nn.Module:
    net = nn.Linear(4, 4)
    net.register_forward_hook(lambda _module, _args, output: output * 2)
    return net


def recurrent() -> nn.Module:
    net = nn.LSTM(4, 4)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(net, "weight_hh_l0")
    return FirstItem(net)


class FirstItem(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.net(x)[0]
        return first


def twice_parametrized() -> nn.Module:
    return parametrizations.spectral_norm(parametrizations.weight_norm(nn.Linear(4, 4)))


def scripted() -> nn.Module:
    with pytest.warns(DeprecationWarning):
        net: nn.Module = torch.jit.script(nn.Linear(4, 4))
    return net


FORMS: dict[str, Callable[[], nn.Module]] = {
    "old weight_norm": old_weight_norm,
    "old weight_norm in an LSTM": recurrent,
    "old spectral_norm": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(4, 4)),
    "two parametrizations": twice_parametrized,
    "pruned": lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5),
    "keeps activations": Keeps,
    "hook of its own": CountsCalls,
    "local hook": with_a_local_hook,
    "tied": Tied,
    "scripted": scripted,
}


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
@pytest.mark.parametrize("form", FORMS)
def test_copies_and_pickles_compute_the_same_and_are_trained_apart(form: str, inside: bool) -> None:
    net = nn.Sequential(FORMS[form](), nn.Linear(4, 2)) if inside else FORMS[form]()
    net.train()(X)
    net.eval()
    expected = net(X).detach().clone()
    weights = {name: (values.data_ptr(), values.clone()) for name, values in net.named_parameters()}
    factory = ModuleCopies(net)
    for made in (factory(), pickle.loads(pickle.dumps(factory))(), copied(copied(net))):
        assert type(made).__name__ == type(net).__name__
        assert torch.equal(made.eval()(X), expected)
        assert [name for name, _ in made.named_parameters()] == list(weights)
        optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
        made.train()(X).square().sum().backward()
        optimizer.step()
        assert not torch.equal(made.eval()(X), expected)
    assert torch.equal(net.eval()(X), expected)
    assert torch.equal(factory()(X), expected)
    for name, values in net.named_parameters():
        assert values.data_ptr() == weights[name][0] and torch.equal(values, weights[name][1])


def test_weights_that_are_tied_stay_tied() -> None:
    for net in (copied(Tied()), pickle.loads(pickle.dumps(ModuleCopies(Tied())))()):
        assert net.encoder.weight is net.decoder.weight


def test_a_hook_that_is_a_method_belongs_to_the_copy() -> None:
    net = CountsCalls()
    for twin in (copied(net), pickle.loads(pickle.dumps(ModuleCopies(net)))()):
        twin(X)
        assert (twin.n_calls, net.n_calls) == (1, 0)


def test_what_is_kept_of_earlier_passes_is_copied_as_numbers() -> None:
    net = Keeps()
    net(X)
    twin: Any = copied(net)
    assert net.last.grad_fn is not None and twin.last.grad_fn is None
    assert torch.equal(twin.last, net.last) and twin.last.data_ptr() != net.last.data_ptr()
    assert twin.all["fc"][0] is twin.last, "one tensor stays one"


def test_a_lazy_layer_stays_lazy_until_it_meets_rows() -> None:
    net = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    for twin in (copied(net, to_cpu=True), pickle.loads(pickle.dumps(ModuleCopies(net)))()):
        assert twin(X).shape == (6, 3)
    assert isinstance(net[0].weight, nn.UninitializedParameter)


@pytest.mark.parametrize("inside", [False, True])
def test_what_cannot_be_copied_is_named_with_the_remedy(inside: bool) -> None:
    net = nn.Sequential(Locked()) if inside else Locked()
    with pytest.raises(
        UsageError, match=r"can be copied; got .*lock.* object\); give its class, or a function"
    ):
        ModuleCopies(net)


def test_what_can_be_copied_but_not_pickled_is_named_with_the_remedy(tmp_path: Path) -> None:
    class Kept(nn.Linear):
        """Shares a file between its copies, which a pickle cannot."""

        def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
            twin = Kept(4, 4)
            twin.load_state_dict(self.state_dict())
            twin.file = self.file
            return twin

    net = Kept(4, 4)
    with (
        (tmp_path / "log").open("w") as net.file,
        pytest.raises(UsageError, match=r"can be pickled; got Kept \(.*files.*give its class, or a function"),
    ):
        pickle.dumps(ModuleCopies(net))


def test_a_pickle_can_be_read_where_the_class_cannot_be_imported(tmp_path: Path) -> None:
    class Local(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    net = parametrizations.weight_norm(Local(4, 4))
    (tmp_path / "net.pickle").write_bytes(pickle.dumps((ModuleCopies(net), X, net(X).detach())))
    read = "import pickle, sys; net, x, out = pickle.load(open(sys.argv[1], 'rb')); assert (net()(x) == out).all()"
    subprocess.run([sys.executable, "-c", read, str(tmp_path / "net.pickle")], check=True)


def test_deepcopy_of_a_factory_is_another_net() -> None:
    factory = ModuleCopies(old_weight_norm())
    assert torch.equal(copy.deepcopy(factory)()(X), factory()(X))
