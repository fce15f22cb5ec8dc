"""Category columns: one-hot, vectors, and zeros for what is unknown."""

from __future__ import annotations

import torch

from stackfeat.nets.zoo.columns import CategoryColumns


def test_few_codes_are_one_hot_two_levels_one_column_and_many_codes_vectors() -> None:
    layer = CategoryColumns((4, 20, 3), embedding=5, max_one_hot=9, std=1.0)
    numbers = torch.tensor([[7.0], [8.0], [9.0]])
    columns = layer(numbers, torch.tensor([[1, 3, 1], [3, 3, 2], [0, 0, 0]])).detach()
    assert columns.shape == (3, 1 + 3 + 1 + 5)
    assert layer.widths == [3, 1, 5] and layer.width == 9
    assert columns[:, :5].tolist() == [[7, 1, 0, 0, -1], [8, 0, 0, 1, 1], [9, 0, 0, 0, 0]]
    assert torch.equal(columns[0, 5:], columns[1, 5:]) and columns[0, 5:].abs().sum() > 0
    assert torch.equal(columns[2, 5:], torch.zeros(5))


def test_vectors_of_different_columns_are_different() -> None:
    layer = CategoryColumns((12, 12), embedding=5, max_one_hot=9, std=1.0)
    columns = layer(torch.zeros(1, 0), torch.tensor([[11, 11]])).detach()
    assert not torch.equal(columns[0, :5], columns[0, 5:])
    assert torch.equal(layer(torch.zeros(1, 0), torch.tensor([[0, 0]])).detach(), torch.zeros(1, 10))


def test_without_categories_numbers_pass() -> None:
    numbers = torch.ones(2, 3)
    assert CategoryColumns((), 8, 9, 1.0)(numbers, torch.zeros(2, 0, dtype=torch.int64)) is numbers
