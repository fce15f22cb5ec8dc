"""What a net refuses names the layer, what it was given, and what to do; errors that are not its own stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor, nn

from stackfeat.errors import MemberError, TapError, UsageError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.hooks import tapped
from stackfeat.sklearn.nets import NetClassifier

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(10, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.words(x).mean(1))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
        return self.fc(x) + self.fc(y) * scale


class Fixed(nn.Module):
    """It takes four rows and no others."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.state = nn.Linear(6, 2), nn.Parameter(torch.zeros(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + self.state


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.norm = nn.GRU(6, 4, batch_first=True), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.rnn(x)[0][:, -1])


IDS = torch.tensor([[1, 2, 3]] * 17 + [[1, 2, 99]] * 3)
REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "columns": (
        plain,
        X[:, :5],
        r"layer '0' \(Linear\), which was given float32 \(\d+, 5\); it takes 6 columns, not 5",
    ),
    "rank": (plain, torch.randn(20, 3, 6, 1), "layer '0' .* it takes 6 columns, not 1"),
    "channels": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
        torch.randn(9, 1, 8, 8),
        "it takes 3 channels, not 1",
    ),
    "steps": (Recurrent, torch.randn(9, 5, 7), r"layer 'rnn' \(GRU\), .* it takes 6 columns, not 7"),
    "whole numbers": (plain, torch.ones(20, 6).long(), "its weights are float32: give float32, not int64"),
    "mixed kinds": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2).double()),
        X,
        r"layer '1' \(Linear\), which was given float32 \(\d+, 8\); its weights are float64",
    ),
    "ids": (Words, IDS, r"layer 'words' \(Embedding\), .* ids from 0 to 9, and was given 1 to 99"),
    "negative ids": (Words, IDS.clamp(max=5) - 2, "ids from 0 to 9, and was given -1 to [13]"),
    "float ids": (Words, torch.ones(20, 3), r"it takes ids, whole numbers from 0 to 9: give int64"),
    "second input": (Two, X, r"forward takes \(x, y, scale\): give y too"),
    "too many inputs": (plain, (X, X), r"forward takes \(input\): give no more"),
}


def arguments(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


@pytest.mark.parametrize("name", REFUSED)
def test_every_reader_names_the_layer_and_what_it_was_given(name: str) -> None:
    make, inputs, message = REFUSED[name]
    tap = next(name for name, _ in make().named_modules() if name)
    for read in (
        lambda: extract(make(), inputs, [tap]),
        lambda: extract(make(), inputs, "penultimate"),
        lambda: list_layers(make(), *arguments(inputs)),
        lambda: find_penultimate(make(), *arguments(inputs)),
    ):
        with pytest.raises(TapError, match=f"the net must run on .*{message}") as caught:
            read()
        assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", REFUSED)
def test_a_pass_of_the_users_own_raises_what_it_would_with_a_note(name: str) -> None:
    make, inputs, message = REFUSED[name]
    net = make()
    with pytest.raises((RuntimeError, IndexError, TypeError)) as own:
        net.eval()(*arguments(inputs))
    with (
        pytest.raises(type(own.value)) as caught,
        tapped(net, [next(iter(dict(net.named_children())))]),
    ):
        net(*arguments(inputs))
    assert str(caught.value) == str(own.value)
    assert len(caught.value.__notes__) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(caught.value.__notes__[0])


def test_an_error_beside_the_net_has_no_note() -> None:
    with pytest.raises(KeyError) as caught, tapped(plain(), ["0"]):
        raise KeyError("mine")
    assert not hasattr(caught.value, "__notes__")


def test_a_net_of_a_fixed_number_of_rows_is_called_so() -> None:
    message = r"any number of rows; got one that runs on 4, and not on \d: .*in Fixed itself"
    for taps in (["fc"], "penultimate"):
        with pytest.raises(TapError, match=message):
            extract(Fixed(), X, taps)
    table = list_layers(Fixed(), X[:4])
    assert table.names == ("fc",)
    assert "any number of rows" in table.warning
    program = torch.export.export(plain(), (X,))
    with pytest.raises(TapError, match="runs on 20, and not on"):
        extract(torch.export.unflatten(program), X, ["0"])


def test_weights_without_values_are_refused() -> None:
    with torch.device("meta"):
        empty = plain()
    half = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2, device="meta"))
    buffer = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 2))
    buffer[0].running_mean = torch.zeros(6, device="meta")
    for net, named in ((empty, "0.weight"), (half, "1.weight"), (buffer, "0.running_mean")):
        for read in (
            lambda n: extract(n, X, ["0"]),
            lambda n: list_layers(n, X),
            lambda n: find_penultimate(n, X),
        ):
            with pytest.raises(TapError, match=rf"meta device \({named}.*model.to_empty"):
                read(net)
    assert list_layers(empty).names == ("0", "1", "2")
    y = np.arange(20) % 2
    with pytest.raises(UsageError, match=r"meta device \(0.weight"):
        NetClassifier(empty, epochs=1).fit(X.numpy(), y)
    with torch.device("meta"), pytest.raises(MemberError, match=r"meta device \(0.weight"):
        NetClassifier(plain, epochs=1).fit(X.numpy(), y)


def test_an_exported_net_is_refused_and_an_unflattened_one_is_read() -> None:
    net = plain()
    rows = torch.export.Dim("rows", min=2, max=1024)
    program = torch.export.export(net, (X,), dynamic_shapes=({0: rows},))
    exported = program.module()
    for read in (
        lambda: extract(exported, X, ["0"]),
        lambda: list_layers(exported, X),
        lambda: find_penultimate(exported, X),
        lambda: tapped(exported, ["0"]).__enter__(),
    ):
        with pytest.raises(TapError, match=r"exported: .*torch.export.unflatten"):
            read()
    found = extract(torch.export.unflatten(program), X, ["0"])["0"]
    np.testing.assert_allclose(found, net[0](X).detach().numpy(), rtol=1e-5, atol=1e-6)


class Around(nn.Module):
    """A net with a part that hooks cannot enter."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.before, self.part, self.after = nn.Linear(6, 6), part, nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.part(self.before(x)))


def exported_part() -> nn.Module:
    rows = torch.export.Dim("rows", min=2, max=1024)
    module: nn.Module = torch.export.export(plain(), (X,), dynamic_shapes=({0: rows},)).module()
    return module


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: torch.jit.script(plain()), "scripted"),
        (lambda: torch.jit.trace(plain(), X), "scripted"),
        (exported_part, "exported graph|never called"),
    ],
)
def test_a_net_with_a_part_that_is_no_module_any_more_is_read_around_it(make: Any, why: str) -> None:
    net = Around(make())
    found = extract(net, X, ["before", "after:input", "after"])
    np.testing.assert_allclose(found["before"], net.before(X).detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["after"], net(X).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert net.training
    table = list_layers(net, X)
    assert {"before", "after"} <= set(table.names)
    assert str(find_penultimate(net, X)) == "after:input"
    with pytest.raises(TapError, match=why):
        extract(net, X, ["part.0"] if "exported" in why else ["part"])


def test_sparse_inputs_are_refused_with_the_remedy() -> None:
    for sparse, remedy in (
        (X.relu().to_sparse(), "to_dense"),
        (X.relu().to_sparse_csr(), "to_dense"),
        (scipy.sparse.csr_matrix(X.numpy()), "toarray"),
        (scipy.sparse.coo_array(X.numpy()), "toarray"),
    ):
        with pytest.raises(UsageError, match=rf"must be dense.*with \.{remedy}\(\)"):
            extract(plain(), sparse, ["0"])
    assert list_layers(plain(), X.relu().to_sparse()).names == ("0", "1", "2")


def test_errors_of_memory_and_files_are_not_the_nets() -> None:
    class Full(nn.Module):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.fc, self.error = nn.Linear(6, 2), error

        def forward(self, x: Tensor) -> Tensor:
            self.fc(x)
            raise self.error

    for error in (OSError(28, "No space left on device"), MemoryError(), TapError("ours")):
        with pytest.raises(type(error)) as caught:
            list_layers(Full(error), X)
        assert caught.value is error
    with pytest.raises(TapError, match="ValueError: theirs, in Full itself"):
        list_layers(Full(ValueError("theirs\nsecond line")), X)


def test_a_member_is_told_which_layer_refused_its_rows() -> None:
    class Net(nn.Module):
        def __init__(self, n_outputs: int) -> None:
            super().__init__()
            self.words, self.fc = nn.Embedding(4, 3), nn.Linear(3, n_outputs)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.words(x).mean(1))

    rows, y = np.array([[0, 1], [2, 7]] * 20), np.array([0, 1] * 20)
    with pytest.raises(
        MemberError, match=r"layer 'words' \(Embedding\).*ids from 0 to 3, and was given 0 to 7"
    ):
        NetClassifier(Net, scaling="none", epochs=1).fit(rows, y)
    with pytest.raises(MemberError, match="whole numbers from 0 to 3: give int64"):
        NetClassifier(Net, epochs=1).fit(rows, y)

    class Broken(nn.Module):
        def __init__(self, n_outputs: int) -> None:
            raise KeyError("width")

    with pytest.raises(MemberError, match=r"Broken must be made of n_outputs=2; got KeyError: 'width'"):
        NetClassifier(Broken, epochs=1).fit(rows, y)
