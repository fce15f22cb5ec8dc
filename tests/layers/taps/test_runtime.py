"""What a net computes in is fixed for as long as it computes, and as it was afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stackfeat.layers.taps.runtime import (
    Shared,
    evaluating,
    fixed_arithmetic,
    matmul_path,
    plain_transformers,
    restoring_generators,
)


@pytest.fixture(autouse=True)
def _debug_mode() -> Iterator[None]:
    before = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_what_a_net_says_of_deterministic_kernels_ends_with_the_block(mode: int, changed: int) -> None:
    torch.set_deterministic_debug_mode(mode)
    with fixed_arithmetic(1):
        torch.set_deterministic_debug_mode(changed)
    assert torch.get_deterministic_debug_mode() == mode


def test_nothing_is_put_back_that_did_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch imports its compiler to set deterministic kernels: a second in every process."""
    called: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, **more: called.append(mode))
    with fixed_arithmetic(1):
        pass
    assert called == []


def n_lasting(blocks: Sequence[AbstractContextManager[Any]], looks: Callable[[], Any]) -> list[Any]:
    """What is there while blocks are entered and left in turn, each in a thread of its own; first in, first out."""
    with ExitStack() as stack:
        pools = [stack.enter_context(ThreadPoolExecutor(1)) for _ in blocks]
        for block, pool in zip(blocks, pools, strict=True):
            pool.submit(block.__enter__).result()
        seen = []
        for block, pool in zip(blocks, pools, strict=True):
            pool.submit(block.__exit__, None, None, None).result()
            seen.append(looks())
    return seen


@pytest.mark.parametrize("enabled", [True, False])
def test_the_fused_path_is_off_until_the_last_block_ends(enabled: bool) -> None:
    look = torch.backends.mha.get_fastpath_enabled
    before = look()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        assert n_lasting([plain_transformers() for _ in range(3)], look) == [False, False, enabled]
        with plain_transformers():
            torch.backends.mha.set_fastpath_enabled(True)  # the user's own
            with plain_transformers():
                assert not look()
            assert look()
        assert look() == enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_matrix_products_keep_their_path_until_the_last_block_ends() -> None:
    before = torch.get_float32_matmul_precision()
    with matmul_path("cpu"):
        inside = torch.get_float32_matmul_precision()
        with matmul_path("cuda"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == inside
    seen = n_lasting([matmul_path("cpu") for _ in range(3)], torch.get_float32_matmul_precision)
    assert seen == [inside, inside, before]


def test_generators_are_as_before_the_first_block_after_the_last() -> None:
    draws = (random.random, lambda: float(torch.rand(1)), lambda: float(np.random.rand()))  # noqa: NPY002
    with restoring_generators():
        expected = [draw() for draw in draws]

    @contextmanager
    def drawing() -> Iterator[None]:
        with restoring_generators():
            for draw in draws:
                draw()
            yield

    during, after = n_lasting([drawing(), drawing()], lambda: [draw() for draw in draws])
    assert during != expected == after


def enter(block: AbstractContextManager[Any]) -> None:
    with block:
        pass


def test_another_value_of_a_shared_setting_has_to_wait() -> None:
    setting, seen = Shared(), list[str]()

    def change(value: str) -> Callable[[], None]:
        seen.append(value)
        return lambda: seen.append(f"no {value}")

    with ThreadPoolExecutor(1) as pool:
        with setting.use(lambda: change("a"), "a"):
            waiting = pool.submit(lambda: enter(setting.use(lambda: change("b"), "b")))
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
            assert seen == ["a"]
        waiting.result(10)
    assert seen == ["a", "no a", "b", "no b"]


def test_a_net_that_shares_a_part_waits_and_the_same_thread_does_not() -> None:
    part = nn.Linear(2, 2)
    net, other, apart = nn.Sequential(part), nn.Sequential(nn.ReLU(), part), nn.Linear(2, 2)
    with ThreadPoolExecutor(1) as pool:
        with evaluating(net), evaluating(other):
            pool.submit(enter, evaluating(apart)).result(10)
            waiting = pool.submit(enter, evaluating(other))
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
        waiting.result(10)
