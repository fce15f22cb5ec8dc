"""find_penultimate on nets whose last features are known."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stackfeat.errors import TapError
from stackfeat.layers.activations.penultimate import find_penultimate
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.marks import mark
from stackfeat.layers.taps.tap import Tap
from stackfeat.nets.zoo.mlp import MLP


class Auxiliary(nn.Module):
    """The head is defined first and called before an auxiliary layer that leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)
        self.side = nn.Linear(4, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x).relu_()
        output = self.head(features)
        self.side(features)
        return output, features


class Returning(nn.Module):
    """Returns what it is told to make of its logits, features and a second head."""

    def __init__(self, make: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        self.classify = nn.ModuleDict({"fc": nn.Linear(4, 2)})
        self.other = nn.Linear(4, 1)
        self.make = make

    def forward(self, x: Tensor) -> Any:
        features = self.body(x)
        return self.make(self.classify["fc"](features), features, self.other(features))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 1)
        self.right = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


def test_the_mlp_and_a_sequential_net() -> None:
    assert find_penultimate(MLP(3, 2, hidden=(5, 4)), torch.randn(4, 3)) == Tap("head", side="input")
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.Softmax(1))
    assert str(find_penultimate(net, torch.randn(4, 3))) == "3:input"


def test_auxiliary_layers_and_the_order_of_definition_do_not_mislead() -> None:
    assert str(find_penultimate(Auxiliary(), torch.randn(4, 3))) == "head:input"


def test_a_convolutional_head_and_a_frozen_net() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    for weight in net.parameters():
        weight.requires_grad_(False)
    assert str(find_penultimate(net, torch.randn(2, 1, 8, 8))) == "2:input"
    assert not any(weight.requires_grad for weight in net.parameters())


def test_a_layer_called_twice_is_tapped_at_its_last_call() -> None:
    shared = nn.Linear(3, 3)
    assert str(find_penultimate(nn.Sequential(shared, nn.ReLU(), shared), torch.randn(2, 3))) == "0:input#1"


def test_several_heads_are_an_error_that_names_them() -> None:
    with pytest.raises(TapError, match="left, right"):
        find_penultimate(TwoHeads(), torch.randn(4, 3))


def test_no_weighted_layer_is_an_error() -> None:
    with pytest.raises(TapError, match="got none"):
        find_penultimate(nn.Sequential(nn.BatchNorm1d(3)), torch.randn(4, 3))


def test_mode_gradients_hooks_buffers_and_generator_are_as_before() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[1].eval()
    net[0].weight.requires_grad_(False)
    modes = [part.training for part in net.modules()]
    state = {name: values.clone() for name, values in net.state_dict().items()}
    generator = torch.get_rng_state()
    find_penultimate(net, torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    assert [part.training for part in net.modules()] == modes
    assert [weight.requires_grad for weight in net.parameters()] == [False, True, True, True, True, True]
    assert all(weight.grad is None for weight in net.parameters())
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(not part._forward_hooks for part in net.modules())


@pytest.mark.parametrize(
    "make",
    [
        lambda logits, features, other: (logits, features),
        lambda logits, features, other: (features, logits),
        lambda logits, features, other: {"probabilities": logits.softmax(1), "hidden": [features]},
        lambda logits, features, other: torch.cat([logits, features], dim=1),
        lambda logits, features, other: features[:, :2] + logits,
    ],
)
def test_features_beside_the_output_do_not_hide_the_head(make: Any) -> None:
    assert str(find_penultimate(Returning(make), torch.randn(4, 3))) == "classify.fc:input"


@pytest.mark.parametrize(
    "make",
    [
        lambda logits, features, other: (logits, other),
        lambda logits, features, other: {"a": logits, "b": other},
        lambda logits, features, other: logits * other,
        lambda logits, features, other: (logits + other) / 2,
        lambda logits, features, other: {"policy": logits.tanh(), "value": other, "hidden": features},
    ],
)
def test_heads_side_by_side_on_one_value_have_that_value(make: Any) -> None:
    net, x = Returning(make).eval(), torch.randn(4, 3)
    tap = find_penultimate(net, x)
    assert str(tap) == "classify.fc:input"
    with tapped(net, [tap]) as caught:
        net(x)
    torch.testing.assert_close(caught[tap], net.body(x))


def test_weights_used_by_functional_code_after_the_last_layer_are_named() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 3)
            self.fc = nn.Linear(3, 3)

        def forward(self, codes: Tensor) -> Tensor:
            hidden = mark("features", self.fc(self.embedding(codes)).mean(1))
            return hidden @ self.embedding.weight.T

    with pytest.raises(TapError, match=r"embedding.weight used by functional code.*mark\('features'"):
        find_penultimate(Tied(), torch.zeros(2, 4, dtype=torch.int64))


def test_an_output_that_does_not_depend_on_the_tap_is_noticed() -> None:
    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * 0

    with pytest.raises(TapError, match="must depend on"):
        find_penultimate(Blind(), torch.randn(2, 3))


def test_keyword_inputs_wrappers_and_nets_without_gradients() -> None:
    class Quiet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        @torch.no_grad()
        def forward(self, *, values: Tensor) -> Tensor:
            return self.last(self.first(values)).argmax(1)

    torch.manual_seed(0)  # of some random nets the largest output is the same for all rows
    net, mlp = Quiet(), MLP(3, 2, hidden=(5, 4))
    assert str(find_penultimate(nn.DataParallel(net), values=torch.randn(64, 3))) == "last:input"
    with torch.inference_mode():
        x = torch.randn(64, 3)
        assert str(find_penultimate(net, values=x)) == "last:input"
        assert str(find_penultimate(mlp, x)) == "head:input"


def test_what_it_finds_feeds_the_head_and_nothing_else() -> None:
    torch.manual_seed(0)
    net, x = (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2), nn.Softmax(1)).eval(),
        torch.randn(5, 3),
    )
    tap = find_penultimate(net, x)
    with tapped(net, [tap]) as caught:
        output = net(x)
    torch.testing.assert_close(net[2](caught[tap]).softmax(1), output)


class Block(nn.Module):
    """A residual block of a transformer's kind: norm, a wide layer, an activation, back to the width."""

    def __init__(self, width: int, norm_last: bool = False) -> None:
        super().__init__()
        self.norm, self.norm_last = nn.LayerNorm(width), norm_last
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm_last:
            return self.norm(x + self.narrow(self.wide(x).relu()))
        return x + self.narrow(self.wide(self.norm(x)).relu())


def body(*last: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 6), Block(6), Block(6), *last)


class Pooling(nn.Module):
    """Returns tokens, and a dense layer of the first of them, as encoders do."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks, self.dense, self.activation = body(nn.LayerNorm(6)), nn.Linear(6, 6), activation

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.blocks(x)
        return tokens, self.activation(self.dense(tokens[:, 0]))


@dataclass
class Output:
    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] = ()
    attentions: tuple[Tensor, ...] = ()


class Residual(nn.Module):
    """One weighted layer, and what it reads joined to what it makes."""

    def __init__(self, join: Callable[[Tensor, nn.Module], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.join = layer or nn.Linear(6, 6), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.layer)


def residual(join: Callable[[Tensor, nn.Module], Tensor], layer: nn.Module | None = None) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6), Residual(lambda x, inner: x + inner(x).relu()), Residual(join, layer)
    )


def hidden(n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, n_out))


HEADLESS: dict[str, Callable[[], nn.Module]] = {
    "a residual sum": lambda: body(),
    "a norm": lambda: body(nn.LayerNorm(6)),
    "a norm after the sum": lambda: nn.Sequential(nn.Linear(3, 6), Block(6, norm_last=True)),
    "an activation after the sum": lambda: body(nn.ReLU()),
    "an emptied head": lambda: nn.Sequential(
        OrderedDict(layers=nn.Sequential(nn.Linear(3, 6), nn.ReLU()), fc=nn.Identity())
    ),
    "a batch norm": lambda: nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU()),
    "a group norm": lambda: nn.Sequential(nn.Linear(3, 6), nn.GroupNorm(2, 6)),
    "a root mean square norm": lambda: nn.Sequential(nn.Linear(3, 6), nn.RMSNorm(6)),
    "a hidden layer": lambda: nn.Sequential(nn.Linear(3, 6), nn.GELU()),
    "a gate": lambda: nn.Sequential(nn.Linear(3, 6), Gate(6)),
    "a sum around one activated layer": lambda: residual(lambda x, layer: x + layer(x).relu()),
    "a sum around one layer": lambda: residual(lambda x, layer: x + layer(x)),
    "a sum around the second layer": lambda: nn.Sequential(
        nn.Linear(3, 6), Residual(lambda x, layer: x + layer(x).relu())
    ),
    "a sum in place": lambda: residual(lambda x, layer: layer(x).add_(x)),
    "an activated sum around one layer": lambda: residual(lambda x, layer: (layer(x) + x.relu()).relu()),
    "a gate of one layer": lambda: residual(lambda x, layer: x * layer(x).sigmoid()),
    "a sum around attention": lambda: residual(
        lambda x, layer: x + layer(*3 * (x[:, None],))[0][:, 0],
        nn.MultiheadAttention(6, 2, batch_first=True),
    ),
    "branches of hidden layers": lambda: nn.Sequential(nn.Linear(3, 6), Branches()),
    "a sum with the input": lambda: Residual(lambda x, layer: x + layer(x), hidden(3)),
    "the input less a sum": lambda: Residual(lambda x, layer: x - layer((x - 1) / 2), hidden(3)),
    "a sum with the input of one layer": lambda: Residual(lambda x, layer: x + layer(x), nn.Linear(3, 3)),
    "the input beside what is made of it": lambda: Residual(
        lambda x, layer: torch.cat([x, layer(x)], dim=1), hidden(2)
    ),
    "the input beside a layer": lambda: Residual(
        lambda x, layer: torch.cat([layer(x), x], dim=1), nn.Linear(3, 2)
    ),
}


@pytest.mark.parametrize(
    "join",
    [
        lambda x, layer: layer(x) + x[:, :1],
        lambda x, layer: layer(x) * (x > 0),
        lambda x, layer: layer(x) * x.sign().abs() + (1 - x.sign().abs()) * -1e4,
        lambda x, layer: torch.cat([layer(x), x[:, :1]], dim=1),
    ],
)
def test_columns_and_masks_of_the_input_beside_logits_do_not_hide_the_head(join: Any) -> None:
    assert str(find_penultimate(Residual(join, hidden(3)), torch.randn(4, 3))) == "layer.2:input"


def test_an_offset_of_its_own_beside_logits_does_not_hide_the_head() -> None:
    class WithOffset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = hidden(3)

        def forward(self, x: Tensor, offset: Tensor) -> Tensor:
            return self.net(x) + offset

    assert str(find_penultimate(WithOffset(), torch.randn(4, 3), torch.randn(4, 3))) == "net.2:input"


def test_a_hidden_layer_that_is_pooled_is_no_head_but_classes_that_are_averaged_are() -> None:
    def convolutions(pool: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ReLU(), pool, nn.Flatten())

    x = torch.randn(2, 1, 8, 8)
    with pytest.raises(TapError, match="no head"):
        find_penultimate(convolutions(nn.MaxPool2d(2)), x)
    assert str(find_penultimate(convolutions(nn.AdaptiveAvgPool2d(1)), x)) == "2:input"


@pytest.mark.parametrize("key", ["aux", "aux_logits", "Auxiliary"])
def test_an_auxiliary_head_of_several_layers_is_known_by_its_name(key: str) -> None:
    class Segmenting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.early, self.late = nn.Linear(3, 6), nn.Linear(6, 6)
            self.head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
            self.other = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            early = self.early(x).relu()
            return {"out": self.head(self.late(early).relu()), key: self.other(early)}

    net, x = Segmenting(), torch.randn(4, 3)
    assert str(find_penultimate(net, x)) == "head.2:input"
    assert str(find_penultimate(net, x, output_item=key)) == "other.2:input"


class Gate(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(width, 2), nn.Linear(2, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excite(self.squeeze(x).relu()).sigmoid()


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(nn.Linear(6, 2), nn.ReLU()) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=1)


@pytest.mark.parametrize("name", HEADLESS)
def test_a_net_without_a_head_is_told_so_and_offered_its_output(name: str) -> None:
    net, x = HEADLESS[name](), torch.randn(4, 3)
    with pytest.raises(TapError, match=r"this net has no head.*tap ':output'"):
        find_penultimate(net, x)
    with pytest.raises(TapError, match="this net has no head"):
        extract(net, x)
    caught = torch.from_numpy(extract(net, x, ":output")[":output"])
    torch.testing.assert_close(caught, net.eval()(x))


def test_a_head_behind_each_of_these_bodies_is_found() -> None:
    x = torch.randn(4, 3)
    for make in HEADLESS.values():
        body = make()
        net = nn.Sequential(OrderedDict(body=body, head=nn.Linear(body(x).shape[1], 2)))
        assert str(find_penultimate(net, x)) == "head:input"


def test_tokens_and_a_pooler_are_no_head_but_tokens_and_logits_of_one_are() -> None:
    x = torch.randn(4, 5, 3)
    with pytest.raises(TapError, match=r"no head.*':output\[0\]', or name another output by output_item="):
        find_penultimate(Pooling(torch.tanh), x)
    assert str(find_penultimate(Pooling(torch.tanh), x, output_item=1)) == "dense:input"
    assert str(find_penultimate(Pooling(lambda scores: scores.softmax(1)), x)) == "dense:input"


def test_output_item_says_which_output_is_followed() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.early = nn.Linear(3, 4), nn.Linear(4, 2)
            self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Any]:
            hidden = self.first(x).relu()
            return {"early": [self.early(hidden)], "late": self.last(self.second(hidden)), "loss": 0.0}

    net, x = Nested(), torch.randn(4, 3)
    assert str(find_penultimate(net, x)) == "last:input"
    assert str(find_penultimate(net, x, output_item="late")) == "last:input"
    assert str(find_penultimate(net, x, output_item=("early", 0))) == "early:input"
    with pytest.raises(
        TapError, match=r"output_item must be in the output; got output_item='lat'.*'early', 'late'"
    ):
        find_penultimate(net, x, output_item="lat")
    with pytest.raises(TapError, match="must return a tensor"):
        find_penultimate(net, x, output_item="loss")


def test_hidden_states_auxiliary_heads_and_attentions_are_no_heads() -> None:
    class Deep(nn.Module):
        """Logits at three depths, all states, and what a layer of attention looked at."""

        def __init__(self, make: Callable[..., Any]) -> None:
            super().__init__()
            self.stem, self.blocks = nn.Linear(3, 6), nn.ModuleList(Block(6) for _ in range(3))
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.heads, self.make = nn.ModuleList(nn.Linear(6, 2) for _ in range(3)), make

        def forward(self, x: Tensor) -> Any:
            x = self.stem(x)
            states, logits = [x], []
            mixed, weights = self.attention(x, x, x)
            x = x + mixed
            for block, head in zip(self.blocks, self.heads, strict=True):
                x = block(x)
                states.append(x)
                logits.append(head(x.mean(1)))
            return self.make(logits, states, weights)

    x = torch.randn(4, 5, 3)
    for make in (
        lambda logits, states, weights: logits,
        lambda logits, states, weights: (logits[2], logits[1], logits[0]),
        lambda logits, states, weights: {"out": logits[2], "aux": logits[1]},
        lambda logits, states, weights: (logits[2], states, weights),
        lambda logits, states, weights: (states[-1].clone(), weights, logits[2]),
        lambda logits, states, weights: Output(
            loss=logits[2].mean(), logits=logits[2], hidden_states=tuple(states), attentions=(weights,)
        ),
    ):
        assert str(find_penultimate(Deep(make), x)) == "heads.2:input"
    with pytest.raises(TapError, match=r"got heads.1, heads.2 of .*no value that all of them read"):
        find_penultimate(Deep(lambda logits, states, weights: logits[2] + 0.4 * logits[1]), x)


def test_heads_on_different_parts_of_one_tensor_are_several() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head, self.head_dist = body(nn.LayerNorm(6)), nn.Linear(6, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.blocks(x)
            return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2

    with pytest.raises(TapError, match=r"got head, head_dist of the weighted layers"):
        find_penultimate(Tokens(), torch.randn(4, 5, 3))


class Adapted(nn.Module):
    """A linear layer, and a product of two thin ones beside it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = (
            nn.Linear(base.in_features, 1, bias=False),
            nn.Linear(1, base.out_features, bias=False),
        )
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x)) * 2.0


class Mixture(nn.Module):
    """Experts, of which a router chooses for each row."""

    def __init__(self, n_rows_each: bool) -> None:
        super().__init__()
        self.router, self.n_rows_each = nn.Linear(6, 3), n_rows_each
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        share = self.router(x).softmax(1)
        if not self.n_rows_each:
            return sum(share[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))  # type: ignore
        output = x.new_zeros(len(x), 2)
        for i, expert in enumerate(self.experts):
            rows = (share.argmax(1) == i).nonzero()[:, 0]
            output.index_add_(0, rows, share[rows, i : i + 1] * expert(x[rows]))
        return output


class Cosine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(
            nn.functional.normalize(x), nn.functional.normalize(self.weight)
        )


class Prototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(2, 6))

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None] - self.centres).square().sum(-1)


class Twin(nn.Module):
    """Heads of several layers each, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
        self.right = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Linear(6, 2))


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer: nn.Module = nn.utils.weight_norm(nn.Linear(6, 2))
    return layer


HEADS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "linear": (lambda: nn.Linear(6, 2), "head:input"),
    "without a bias": (lambda: nn.Linear(6, 2, bias=False), "head:input"),
    "one column": (lambda: nn.Linear(6, 1), "head:input"),
    "zeros": (lambda: zeros(nn.Linear(6, 2)), "head:input"),
    "an adapter": (lambda: Adapted(nn.Linear(6, 2)), "head:input"),
    "an adapter on zeros": (lambda: Adapted(zeros(nn.Linear(6, 2))), "head:input"),
    "a mixture": (lambda: Mixture(False), "head:input"),
    "a mixture that sorts rows": (lambda: Mixture(True), "head:input"),
    "two factors": (lambda: nn.Sequential(nn.Linear(6, 2, bias=False), nn.Linear(2, 4)), "head:input"),
    "three factors": (
        lambda: nn.Sequential(
            nn.Linear(6, 2), nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 3)), nn.Linear(3, 4)
        ),
        "head:input",
    ),
    "a wider layer and another": (lambda: nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 2)), "head.1:input"),
    "two layers": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), "head.2:input"),
    "batch norm and a layer": (Normed, "head:input"),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 2)), "head:input"),
    "weight norm of old": (old_weight_norm, "head:input"),
    "spectral norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 2)), "head:input"),
    "cosines": (Cosine, "head:input"),
    "distances to prototypes": (Prototypes, "head:input"),
    "heads of several layers": (Twin, "head:input"),
    "an activation": (lambda: nn.Sequential(nn.Linear(6, 2), nn.Softplus()), "head.0:input"),
    "a recurrent layer": (lambda: nn.LSTM(6, 4, batch_first=True), "head:input"),
    "attention": (lambda: SelfAttention(), "head.attention:input"),
}


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None]
        mixed: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return mixed[:, 0]


class Beside(nn.Module):
    """Heads that the net's own forward sums, without a module that holds them."""

    def __init__(self, make: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.fc, self.other = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(4, 3)
        self.down, self.up = nn.Linear(6, 2, bias=False), nn.Linear(2, 3, bias=False)
        self.wide, self.back = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return self.make(self, self.body(x).relu(), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda net, h, x: net.fc(h) + net.up(net.down(h)),
        lambda net, h, x: net.up(net.down(h)) * 0.5 + net.fc(h),
        lambda net, h, x: net.fc(h) + net.back(net.wide(h)),
        lambda net, h, x: (net.fc(h) + net.up(net.down(h)) + net.back(net.wide(h))).softmax(1),
    ],
)
def test_an_adapter_that_the_net_adds_itself_reads_what_the_layer_beside_it_reads(make: Any) -> None:
    assert str(find_penultimate(Beside(make), torch.randn(5, 4))) == "fc:input"


@pytest.mark.parametrize(
    "make",
    [
        lambda net, h, x: net.fc(h) + net.other(x),
        lambda net, h, x: net.fc(h) + net.back(net.wide(h).relu()),
        lambda net, h, x: net.fc(h.tanh()) + net.up(net.down(h)),
    ],
)
def test_heads_that_read_other_values_are_no_adapters(make: Any) -> None:
    with pytest.raises(TapError, match=r"got .* and no value that all of them read"):
        find_penultimate(Beside(make), torch.randn(5, 4))


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (nn.Linear(6, 2), (4, 6)),
        (nn.Linear(6, 2, bias=False), (4, 3, 6)),
        (nn.Conv1d(6, 2, 3), (4, 6, 5)),
        (Cosine(), (4, 6)),
    ],
)
def test_a_net_that_is_one_layer_is_read_at_its_input(net: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    tap = find_penultimate(net, x)
    assert str(tap) == ":input"
    with tapped(net, [tap]) as caught:
        net(x)
    assert torch.equal(caught[tap], x)


def zeros(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("blocks", [lambda: body(), lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU())])
def test_each_kind_of_head_reads_the_features_that_the_body_gives(kind: str, blocks: Any) -> None:
    torch.manual_seed(0)
    make, where = HEADS[kind]
    net, x = nn.Sequential(OrderedDict(body=blocks(), head=make())).eval(), torch.randn(8, 3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
    tap = find_penultimate(net, x)
    assert str(tap) == where
    if where == "head:input":
        with tapped(net, [tap]) as caught:
            net(x)
        torch.testing.assert_close(caught[tap], net.body(x))


def test_functional_code_with_the_weights_of_a_layer_is_read_at_the_layer_before() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.act, self.fc = body(), nn.Tanh(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(self.act(self.blocks(x)), self.fc.weight, self.fc.bias)

    net, x = Functional(), torch.randn(4, 3)
    assert str(find_penultimate(net, x)) == "act"
    caught = torch.from_numpy(extract(net, x, "penultimate")["act"])
    torch.testing.assert_close(caught, net.act(net.blocks(x)))


class Returned(nn.Module):
    """Returns what it is told to make of another net's output."""

    def __init__(self, net: nn.Module, make: Callable[[Any], Any]) -> None:
        super().__init__()
        self.net, self.make = net, make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.net(x))


def test_a_row_of_weights_for_each_class_is_a_head_though_no_layer_is_called() -> None:
    class Labelled(nn.Module):
        """Each class looks at the steps by itself and has weights for what it sees."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.look, self.final = body(nn.LayerNorm(6)), nn.Linear(6, 4), nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.blocks(x)
            seen = mark("seen", self.look(x).transpose(1, 2).softmax(2) @ x)
            return (self.final.weight * seen).sum(2) + self.final.bias

    with pytest.raises(
        TapError, match=r"got the weights final.weight used by functional code.*mark\('features'"
    ):
        find_penultimate(Labelled(), torch.randn(4, 5, 3))


def test_embeddings_are_no_heads_tied_or_not() -> None:
    class Words(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(9, 6), nn.Embedding(5, 6)
            self.blocks = nn.Sequential(Block(6), Block(6), nn.LayerNorm(6))
            self.lm_head, self.bias = nn.Linear(6, 9, bias=False), nn.Embedding(9, 9)
            if tied:
                self.lm_head.weight = self.words.weight

        def forward(self, codes: Tensor, headed: bool = True) -> Tensor:
            self.seen = self.words(codes) + self.places.weight
            x = self.blocks(self.seen)
            # What is chosen by row after the head is no way round it.
            return self.lm_head(x) + self.bias(codes) if headed else x

    for tied in (True, False):
        net, codes = Words(tied), torch.randint(0, 9, (4, 5))
        assert str(find_penultimate(net, codes)) == "lm_head:input"
        with pytest.raises(TapError, match="no head"):
            find_penultimate(net, codes, headed=False)
        with_embedding = Returned(net, lambda logits, net=net: (logits, net.seen))  # type: ignore[misc]
        assert str(find_penultimate(with_embedding, codes)) == "net.lm_head:input"


def test_a_layer_with_two_learned_inputs_is_not_answered_by_the_first_of_them() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.last = nn.Linear(3, 4), nn.Linear(3, 5), nn.Bilinear(4, 5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.left(x).relu(), self.right(x).relu())

    with pytest.raises(TapError, match="got last of the weighted layers left, right, last"):
        find_penultimate(Pair(), torch.randn(4, 3))


def test_features_that_are_one_argument_of_several_are_tapped_there() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, scale: Tensor, *, features: Tensor) -> Tensor:
            return self.fc(features.flatten(1)) * scale

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = body(), Adapted(nn.Linear(6, 2))
            self.last = Scaled()
            self.last.fc = self.head  # type: ignore[assignment]

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x[:, :1], features=self.blocks(x))

    assert str(find_penultimate(Net(), torch.randn(4, 3))) == "head:input"


def test_no_gradient_is_needed_where_values_tell() -> None:
    class Rounded(nn.Module):
        """Values without gradients: whole numbers, a pass without them, a part in inference mode."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.head = body(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.inference_mode():
                x = self.blocks(x)
            with torch.no_grad():
                x = (x * 100).to(torch.int64).to(x.dtype)
                return self.head(x).softmax(1)

    assert str(find_penultimate(Rounded(), torch.randn(4, 3))) == "head:input"
    with torch.inference_mode():
        assert str(find_penultimate(Rounded(), torch.randn(4, 3))) == "head:input"


@pytest.mark.slow  # torch imports its compiler
def test_flex_attention_is_followed() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    class Flexible(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.mix, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, dim=2))
            return self.head((x + self.mix(flex_attention(q, k, v)[:, 0])).mean(1))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert str(find_penultimate(Flexible(), torch.randn(2, 16, 16))) == "head:input"


def test_values_written_in_place_and_parts_of_them_are_told_apart() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks, self.left, self.right = body(), nn.Linear(6, 1), nn.Linear(6, 1)
            self.second = nn.Linear(6, 6)

        def forward(self, x: Tensor, same: bool) -> Tensor:
            output = x.new_zeros(len(x), 2)
            features = self.blocks(x)
            output[:, :1] = self.left(features)
            features.relu_() if same else features.copy_(self.second(features))
            output[:, 1:] = self.right(self.blocks(x)) if same else self.right(features)
            return output

    with pytest.raises(TapError, match="got left, right of"):
        find_penultimate(Written(), torch.randn(4, 3), True)
    with pytest.raises(TapError, match="got left, right of"):
        find_penultimate(Written(), torch.randn(4, 3), False)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(3, 6, num_layers=2, batch_first=True),
        nn.GRU(3, 3, bidirectional=True, batch_first=True),
        nn.RNN(3, 6, batch_first=True),
    ],
)
def test_states_that_are_returned_beside_the_logits_are_no_output_of_a_head(layer: nn.Module) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.head = layer, nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            outputs, states = self.recurrent(x)
            return self.head(outputs[:, -1]), states

    assert str(find_penultimate(Recurrent(), torch.randn(4, 5, 3))) == "head:input"


def test_values_that_come_back_from_numpy_are_followed() -> None:
    class Numbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.from_numpy(np.maximum(self.first(x).detach().numpy(), 0)))

    assert str(find_penultimate(Numbers(), torch.randn(4, 3))) == "head:input"


@pytest.mark.parametrize("make", [lambda y: y * 2, lambda y: np.exp(y), lambda y: np.array(y.tolist())])
def test_an_output_that_numpy_made_is_no_net_without_a_head(make: Any) -> None:
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    left = Returned(net, lambda y: torch.from_numpy(make(y.detach().numpy())))
    with pytest.raises(TapError, match=r"came back from elsewhere, such as NumPy, after net\.2: .*broke off"):
        find_penultimate(left, torch.randn(4, 3))


@pytest.mark.parametrize("make", [lambda y: y, torch.abs, torch.view_as_real, lambda y: y.angle().softmax(1)])
def test_heads_of_complex_numbers_are_found(make: Any) -> None:
    net = nn.Sequential(nn.Linear(4, 5, dtype=torch.cfloat), nn.Linear(5, 2, dtype=torch.cfloat))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            str(find_penultimate(Returned(net, make), torch.randn(3, 4, dtype=torch.cfloat))) == "net.1:input"
        )


def test_quantised_and_scripted_heads_are_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
        quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
        assert str(find_penultimate(quantised, torch.randn(4, 3))) == "2:input"
        scripted = nn.Sequential(
            OrderedDict(body=nn.Sequential(nn.Linear(3, 6), nn.ReLU()), head=nn.Linear(6, 2))
        )
        scripted.head = torch.jit.script(scripted.head)
        assert str(find_penultimate(scripted, torch.randn(4, 3))) == "body.1"
