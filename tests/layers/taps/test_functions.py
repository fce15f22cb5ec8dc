"""Functions of torch that a layer's forward calls, against the same code written out by hand."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from stackfeat.errors import LayerNotFoundError, TapError
from stackfeat.layers.activations.listing import list_layers
from stackfeat.layers.extraction.extract import extract
from stackfeat.layers.taps.functions import LISTENING, function_name
from stackfeat.layers.taps.hooks import tapped
from stackfeat.layers.taps.tap import Tap


def n_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    assert LISTENING.mode is None
    assert not LISTENING.sessions
    assert LISTENING.n_quiet == 0


class Block(nn.Module):
    """A residual block as they are written: functions, operators, an in-place form."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.fc(x)) + x
        y = self.act(y) - 0.1
        return torch.relu_(y)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.relu()).softmax(1)


def by_hand(block: Block, x: Tensor) -> dict[str, Tensor]:
    first = torch.clamp(block.fc(x), min=0)
    added = first + x
    last = torch.clamp(added, min=0) - 0.1
    return {"relu()#0": first, "add()": added, "sub()": last, "relu()#1": torch.clamp(last, min=0)}


def test_a_function_tap_reads_what_the_layer_itself_computes() -> None:
    net, x = Net().eval(), torch.randn(3, 4)
    calls = ["relu()#0", "add()", "sub()", "relu()#1", "relu()#-1", "relu()#-2"]
    taps = [f"blocks.{i}.{call}" for i in range(2) for call in calls]
    with tapped(net, [*taps, "relu()", "softmax()"]) as caught:
        output = net(x)
    for i, given in enumerate((x, net.blocks[0](x))):
        expected = by_hand(net.blocks[i], given)
        expected |= {"relu()#-1": expected["relu()#1"], "relu()#-2": expected["relu()#0"]}
        for call, values in expected.items():
            assert torch.equal(caught[f"blocks.{i}.{call}"], values), call
    assert torch.equal(caught["softmax()"], output)
    assert torch.equal(caught["relu()"], net.blocks[1](net.blocks[0](x)))
    assert not caught["softmax()"].requires_grad
    assert n_hooks(net) == 0


def test_calls_of_layers_inside_are_not_those_of_the_layer() -> None:
    net = Net()
    with tapped(net, ["blocks.0.relu()#all", "relu()#all", "blocks.0.act.relu()"]) as caught:
        net(torch.randn(3, 4))
    assert len(caught["blocks.0.relu()#all"]) == 2  # not the one of blocks.0.act
    assert len(caught["relu()#all"]) == 1
    assert caught["blocks.0.act.relu()"].shape == (3, 4)


def test_patterns_choose_the_layers_that_call_a_function() -> None:
    net, x = Net(), torch.randn(3, 4)
    with tapped(net, ["blocks.*.add()", "**.softmax()", Tap("**.sub()", type=Block)]) as caught:
        net(x)
    assert set(caught) == {
        "blocks.0.add()",
        "blocks.1.add()",
        "softmax()",
        "blocks.0.sub()",
        "blocks.1.sub()",
    }
    last = Tap("blocks.*.add()", last=2, combine="stack")
    with tapped(net, [last, "blocks.*.add()"]) as caught:
        net(x)
    assert torch.equal(caught[last], torch.stack([caught["blocks.0.add()"], caught["blocks.1.add()"]], 1))


def test_what_a_function_is_given_is_read_before_it_overwrites_it() -> None:
    net, x = Net(), torch.randn(3, 4)
    with tapped(net, ["blocks.0.relu():input#1", "blocks.0.add():input[1]", "softmax():input[0]"]) as caught:
        net(x)
    assert torch.equal(caught["blocks.0.relu():input#1"], by_hand(net.blocks[0], x)["sub()"])
    assert torch.equal(caught["blocks.0.add():input[1]"], x)
    assert torch.equal(caught["softmax():input[0]"].softmax(1), net(x))


def test_items_and_gradients_of_functions_are_read() -> None:
    class Parts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, dim=1)
            return (left * torch.max(right, dim=1, keepdim=True)[0]).sum()

    net, x = Parts(), torch.randn(3, 4, requires_grad=True)
    with tapped(net, ["chunk()[1]", "max()[indices]", "mul():grad", "chunk()[*]"]) as caught:
        net(x).backward()
    assert torch.equal(caught["chunk()[1]"], x[:, 2:])
    assert torch.equal(caught["max()[indices]"], x[:, 2:].argmax(1, keepdim=True))
    assert torch.equal(caught["mul():grad"], torch.ones(3, 2))
    assert torch.equal(caught["chunk()[0]"], x[:, :2])


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: 1 + x, "add"),
        (lambda x: operator.iadd(x.clone(), 1), "add"),
        (lambda x: 1 - x, "sub"),
        (lambda x: x * 2, "mul"),
        (lambda x: 1 / x, "div"),
        (lambda x: x // 2, "floor_divide"),
        (lambda x: x % 2, "remainder"),
        (lambda x: 2**x, "pow"),
        (lambda x: x @ x.T, "matmul"),
        (lambda x: -x, "neg"),
        (lambda x: ~(x > 0), "bitwise_not"),
        (lambda x: (x > 0) & (x < 1), "bitwise_and"),
        (lambda x: x == 1, "eq"),
        (lambda x: x[:, 0], "getitem"),
        (lambda x: x.T, "T"),
        (lambda x: F.relu(x.clone(), inplace=True), "relu"),
        (lambda x: x.clone().clamp_(0), "clamp"),
        (lambda x: F.gelu(x), "gelu"),
        (lambda x: F.max_pool1d(x[None], 2), "max_pool1d"),
        (lambda x: F.scaled_dot_product_attention(x, x, x), "scaled_dot_product_attention"),
        (lambda x: torch.cat([x, x]), "cat"),
        (lambda x: torch.einsum("ij,kj->ik", x, x), "einsum"),
        (lambda x: torch.ops.aten.sin.default(x), "sin"),
    ],
)
def test_names_are_those_of_torch_however_a_function_is_written(
    call: Callable[[Tensor], Any], name: str
) -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return call(x)

    x = torch.rand(3, 4) + 0.5
    with tapped(Calls(), [f"{name}()"]) as caught:
        expected = caught.session.model(x)
    assert torch.equal(caught[f"{name}()"], expected)


def test_a_name_is_that_of_the_function_not_of_its_in_place_form() -> None:
    assert function_name(torch.relu_) == function_name(torch.Tensor.relu) == "relu"
    assert function_name(torch.Tensor.__ror__) == "bitwise_or"


def test_a_function_that_is_not_called_names_those_that_are() -> None:
    net, x = Net(), torch.randn(3, 4)
    taps = ["blocks.0.add#0"[:8] + ".ad()", "blocks.0.relu()#2", "head.relu()", "gelu()"]
    with tapped(net, taps) as caught:
        net(x)
    with pytest.raises(TapError, match=r"'blocks.0' must call ad\(\) itself; got calls of relu, add, sub"):
        caught["blocks.0.ad()"]
    with pytest.raises(TapError, match=r"calls relu\(\) 2 times in a forward pass; got call=2; use #0 to #1"):
        caught["blocks.0.relu()#2"]
    with pytest.raises(TapError, match="got calls of linear"):
        caught["head.relu()"]
    with pytest.raises(TapError, match=r"the net's own forward must call gelu\(\)"):
        caught["gelu()"]
    with pytest.raises(TapError, match=r"Did you mean 'add'\? Functions that layers inside"):
        extract(net, x, "blocks.0.ad()")
    with pytest.raises(LayerNotFoundError, match=r"Did you mean 'blocks.0'"):
        extract(net, x, "block.0.add()")
    with pytest.raises(TapError, match="is a container"), tapped(net, ["blocks.relu()"]):
        pass


def test_a_layer_that_hooks_do_not_hear_leaves_its_functions_to_its_caller() -> None:
    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.unused = Block(), Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.block.forward(x)

    net, x = Caller(), torch.randn(3, 4)
    with tapped(net, ["add()", "block.add()", "unused.add()"]) as caught:
        net(x)
    assert torch.equal(caught["add()"], by_hand(net.block, x)["add()"])
    for tap in ("block.add()", "unused.add()"):
        with pytest.raises(TapError, match=r"got no call; .* layers called by .forward\(\)"):
            caught[tap]


def test_a_net_that_did_not_run_itself_says_so() -> None:
    net = Net()
    with tapped(net, ["softmax()"]) as caught:
        net.head(torch.randn(3, 4))
    with pytest.raises(
        TapError, match="a function that is called while the net is called; got no call of Net"
    ):
        caught["softmax()"]


def test_code_outside_the_net_is_not_heard() -> None:
    net, x = Net(), torch.randn(3, 4)
    with tapped(net, ["softmax()#all", "relu()#all"]) as caught:
        torch.relu(x)
        net(x.softmax(1))
        x.softmax(1).relu()
    assert len(caught["softmax()#all"]) == len(caught["relu()#all"]) == 1


def test_hooks_of_others_are_not_the_layers_own_functions() -> None:
    net, x = Net(), torch.randn(3, 4)
    net.blocks[0].fc.register_forward_hook(lambda _m, _i, output: output.relu())
    net.blocks[0].fc.register_forward_pre_hook(lambda _m, args: (args[0].relu(),))
    with tapped(net, ["blocks.0.relu()#all", "blocks.0.fc.relu()"]) as caught, tapped(net, ["blocks.0.fc"]):
        net(x)
    assert len(caught["blocks.0.relu()#all"]) == 2
    with pytest.raises(TapError, match="got calls of linear"):
        caught["blocks.0.fc.relu()"]


def test_what_other_taps_copy_is_not_heard_as_a_function() -> None:
    class Clones(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).clone() + 1

    net = Clones()
    taps = ["clone()#all", "fc", "fc:input"]
    with tapped(net, taps) as outer, tapped(net, taps[::-1]) as inner:
        net(torch.randn(3, 4))
    assert len(outer["clone()#all"]) == len(inner["clone()#all"]) == 1


def test_calls_are_counted_over_all_calls_of_a_layer_in_a_pass() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.block(x))

    net, x = Loop(), torch.randn(3, 4)
    with tapped(net, ["block.add()#0", "block.add()#1", "block.relu()#all"]) as caught:
        net(x)
    assert torch.equal(caught["block.add()#0"], by_hand(net.block, x)["add()"])
    assert torch.equal(caught["block.add()#1"], by_hand(net.block, net.block(x))["add()"])
    assert len(caught["block.relu()#all"]) == 4


def test_a_layer_that_calls_itself_is_heard_at_every_depth() -> None:
    class Tree(nn.Module):
        def forward(self, x: Tensor, depth: int = 2) -> Tensor:
            return self(torch.tanh(x), depth - 1) + 1 if depth else x

    net, x = nn.Sequential(Tree()), torch.randn(3)
    with tapped(net, ["0.tanh()#all", "0.add()#all"]) as caught:
        net(x)
    assert len(caught["0.tanh()#all"]) == len(caught["0.add()#all"]) == 2
    assert torch.equal(caught["0.add()#all"][-1], net(x))


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no")


class Recovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bad = Fails()

    def forward(self, x: Tensor) -> Tensor:
        try:
            x = self.bad(x)
        except ValueError:
            x = x.relu()
        return x.exp()


def test_an_exception_inside_does_not_confuse_whose_function_it_is() -> None:
    net, x = Recovers(), torch.randn(3)
    with tapped(net, ["relu()", "exp()"]) as caught:
        net(x)
    assert torch.equal(caught["exp()"], caught["relu()"].exp())
    with pytest.raises(ValueError, match="no"), tapped(net, ["bad.relu()"]):
        net.bad(x)
    assert n_hooks(net) == 0


def test_functions_are_heard_in_compiled_nets_as_they_were_written() -> None:
    net, x = Net().eval(), torch.randn(3, 4)
    compiled = torch.compile(net, backend="eager")
    compiled(x)
    with tapped(compiled, ["blocks.0.add()", "_orig_mod.softmax()"]) as caught:
        compiled(x)
    assert torch.equal(caught["blocks.0.add()"], by_hand(net.blocks[0], x)["add()"])
    assert torch.equal(caught["_orig_mod.softmax()"], net(x))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_functions_under_checkpoint_are_heard_once(use_reentrant: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.block, x, use_reentrant=use_reentrant)

    net, x = Net(), torch.randn(3, 4, requires_grad=True)
    with tapped(net, ["block.add()#all"]) as caught:
        net(x).sum().backward()
    assert len(caught["block.add()#all"]) == 1


def test_other_threads_are_not_heard() -> None:
    net, x = Net(), torch.randn(3, 4)
    with tapped(net, ["blocks.0.add()"]) as caught:
        expected = by_hand(net.blocks[0], x)["add()"]
        net(x)
        thread = threading.Thread(target=net, args=(torch.zeros(3, 4),))
        thread.start()
        thread.join()
    assert torch.equal(caught["blocks.0.add()"], expected)


def test_a_mode_of_the_user_sees_the_same_functions_as_before() -> None:
    class Log(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function_name(func))
            return func(*args, **(kwargs or {}))

    net, x = Block(), torch.randn(3, 4)
    seen: list[str] = []
    with Log():
        net(x)
    without = [name for name in seen if name in ("relu", "add", "sub", "linear")]
    seen.clear()
    with Log(), tapped(net, ["relu()#0", "add()"]) as caught:
        net(x)
    assert [name for name in seen if name in ("relu", "add", "sub", "linear")] == without
    assert torch.equal(caught["add()"], by_hand(net, x)["add()"])


def test_many_rows_are_read_at_functions() -> None:
    net, x = Net().eval(), torch.randn(50, 4)
    taps = ["blocks.0.relu()#0", "blocks.1.add()", "softmax()", "head.linear()", "blocks.0.fc"]
    with torch.no_grad(), tapped(net, taps) as caught:
        net(x)
    found = extract(net, x, taps, batch_size=16)
    assert list(found) == taps
    for tap in taps:
        torch.testing.assert_close(torch.from_numpy(found[tap]), caught[tap], rtol=1e-5, atol=1e-6)


def test_functions_of_torchs_own_layers_are_read_in_extract_as_in_tapped() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 3)).eval()
    x = torch.randn(20, 1, 8, 8)
    found = extract(net, x, ["0.conv2d()", "1.relu()", "3.linear()"], pool="flatten")
    torch.testing.assert_close(torch.from_numpy(found["3.linear()"]), net(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        torch.from_numpy(found["0.conv2d()"]), net[0](x).flatten(1).detach(), rtol=1e-4, atol=1e-5
    )


def test_the_pass_ends_after_the_last_function_that_is_read() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.rest, self.n = Block(), nn.Linear(4, 4), 0

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(x)
            self.n += 1
            return self.rest(x)

    net = Long().eval()
    extract(net, torch.randn(64, 4), "block.add()#0", batch_size=16)
    n_dry_runs, net.n = net.n, 0
    extract(net, torch.randn(128, 4), "block.add()#0", batch_size=16)
    assert net.n < 8 <= n_dry_runs + 8  # eight passes over the rows ended before


def test_the_table_of_layers_lists_functions() -> None:
    net, x = Net(), torch.randn(3, 4)
    table = list_layers(net, x, functions=True)
    functions = {row.name: row for row in table if row.type == "function"}
    assert list(functions) == [
        *(f"blocks.{i}.{name}()" for i in range(2) for name in ("relu", "add", "sub")),
        *("relu()", "softmax()"),
    ]
    assert functions["blocks.0.relu()"].calls == 2
    assert functions["blocks.0.add()"].inputs == "(3, 4), (3, 4)"
    assert functions["softmax()"].outputs == "(3, 2)"
    with tapped(net, table.names) as caught:  # every name listed can be tapped
        net(x)
    assert set(caught) == set(table.names)
    assert not [row for row in list_layers(net, x) if row.type == "function"]
    assert n_hooks(net) == 0
