"""Losses of lists against their formulas, and batches that keep lists whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from stackfeat.nets.list_losses import LIST_LOSSES, listwise, pairwise
from stackfeat.nets.training.batches import Rows, batches, shuffled, sizes_of_lists, unshuffled
from stackfeat.tasks.task import task_class

LISTS = np.repeat([3, 8, 1, 5], [4, 1, 6, 3])
RNG = np.random.default_rng(0)
RELEVANCE = RNG.integers(0, 4, len(LISTS)).astype(float) * (LISTS != 5)
SCORES = RNG.normal(size=(len(LISTS), 2))


def tensors():
    y = torch.tensor(np.column_stack([RELEVANCE, LISTS]), dtype=torch.float32)
    return torch.tensor(SCORES, dtype=torch.float32, requires_grad=True), y


def in_lists():
    return [np.flatnonzero(number == LISTS) for number in (3, 8, 1, 5)]


def test_the_task_names_the_losses():
    assert tuple(LIST_LOSSES) == task_class("ranking").losses


def test_listwise_is_the_cross_entropy_with_the_shares_of_gains():
    losses = listwise(*tensors()).detach()
    for rows in in_lists():
        gains = 2 ** RELEVANCE[rows] - 1
        shares = gains / gains.sum() if gains.any() else gains
        expected = -np.mean([shares @ log_softmax(SCORES[rows, k]) for k in (0, 1)])
        assert float(losses[rows].sum()) == pytest.approx(expected, abs=1e-6)


def test_pairwise_is_the_mean_logistic_loss_of_pairs():
    losses = pairwise(*tensors()).detach()
    for rows in in_lists():
        pairs = [(i, j) for i in rows for j in rows if RELEVANCE[i] > RELEVANCE[j]]
        terms = [np.log1p(np.exp(SCORES[j, k] - SCORES[i, k])) for i, j in pairs for k in (0, 1)]
        assert float(losses[rows].sum()) == pytest.approx(np.mean(terms) if terms else 0.0, abs=1e-6)


@pytest.mark.parametrize("loss", LIST_LOSSES.values(), ids=LIST_LOSSES)
def test_a_list_changes_nothing_in_the_slope_of_another(loss):
    scores, y = tensors()
    loss(scores, y).sum().backward()
    whole = scores.grad.clone()
    assert torch.isfinite(whole).all() and whole.abs().sum() > 0
    for rows in in_lists():
        alone, part = torch.tensor(SCORES[rows], dtype=torch.float32, requires_grad=True), y[rows]
        loss(alone, part).sum().backward()
        torch.testing.assert_close(alone.grad, whole[rows])


def test_batches_are_whole_lists_in_a_new_order():
    lists = torch.from_numpy(
        np.random.default_rng(0).permutation(np.repeat(np.arange(40), np.arange(40) % 7 + 1))
    )
    n_rows = len(lists)
    rows = Rows((torch.arange(n_rows)[:, None],), lists.float()[:, None], lists=lists)
    generator = torch.Generator().manual_seed(0)
    orders = [shuffled(rows, generator) for _ in range(2)]
    assert not torch.equal(*orders) and all(sorted(order.tolist()) == list(range(n_rows)) for order in orders)
    for order in (*orders, unshuffled(rows)):
        found = list(batches(rows, order, 16))
        assert len(found) == len(sizes_of_lists(lists[order], 16))
        held = [set(batch.lists.tolist()) for batch in found]
        assert sum(map(len, held)) == 40, "no list stands in two batches"
        assert all(len(batch) >= 2 and len(batch.lists) == len(batch) for batch in found)
        for batch in found:
            assert torch.equal(batch.y[:, 0].long(), batch.lists)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        ([3, 2, 3], 4, [3, 5]),
        ([10], 4, [10]),
        ([1, 1, 1, 1, 1], 2, [2, 3]),
        ([1, 9], 2, [10]),
        ([8, 8, 8], 8, [8, 8, 8]),
    ],
)
def test_a_batch_ends_where_the_nearest_list_does(sizes, batch_size, expected):
    lists = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    assert sizes_of_lists(lists, batch_size) == expected
