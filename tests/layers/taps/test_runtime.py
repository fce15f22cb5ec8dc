"""What a net computes in is fixed for as long as it computes, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stackfeat.layers.taps.runtime import fixed_arithmetic


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
