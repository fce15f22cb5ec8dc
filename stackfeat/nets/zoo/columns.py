"""Embeddings of numbers (piecewise-linear or periodic) and of categories (one-hot or learned vectors).

In:  float columns (n_rows, n_features); for piecewise-linear ones, bins of the training rows.
Out: (n_rows, n_features, width), or the numbers themselves, width 1.

Source: Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
learning", NeurIPS 2022, arXiv:2203.05556; package rtdl_num_embeddings.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.sizes import check_at_least, check_one_of, import_extra

KINDS = ("none", "piecewise_linear", "periodic")

MOST_ROWS = 100_000


class NumberColumns(nn.Module):
    """Embed each number.

    Parameters
    ----------
    n_features : int
    kind : {"none", "piecewise_linear", "periodic"}
    width : int
        Columns each number becomes.
    frequency_scale : float
        ``periodic``: standard deviation of the initial frequencies, its most important setting.
    prepared : mapping, optional
        ``piecewise_linear``: what `find_bins` returned.
    net : str
        For messages.

    **Shape**

    (n_rows, n_features) gives (n_rows, n_features * self.width).
    """

    def __init__(
        self,
        n_features: int,
        kind: str,
        width: int,
        frequency_scale: float,
        prepared: Mapping[str, Any] | None,
        net: str,
    ) -> None:
        super().__init__()
        check_one_of("num_embeddings", kind, KINDS)
        check_at_least(1, num_embedding_width=width)
        self.embed: nn.Module | None = None
        self.width = 1
        if kind == "none" or n_features == 0:
            return
        package = import_extra("rtdl_num_embeddings", net, "tabular")
        self.width = width
        if kind == "periodic":
            self.embed = package.PeriodicEmbeddings(
                n_features, width, frequency_init_scale=frequency_scale, lite=False
            )
            return
        bins = (prepared or {}).get("bins")
        if bins is None or len(bins) != n_features:
            raise UsageError(
                f"piecewise-linear embeddings must have bins for {n_features} columns; got "
                f"{'none' if bins is None else len(bins)}; train the net with fit_net or a run, which find them"
            )
        with warnings.catch_warnings():
            # An indicator has two values, thus one bin: the package warns of each.
            warnings.filterwarnings("ignore", message=".*just two bin edges.*")
            edges = [torch.tensor(edge, dtype=torch.float32) for edge in bins]
            self.embed = package.PiecewiseLinearEmbeddings(edges, width, activation=False, version="B")

    def forward(self, numeric: Tensor) -> Tensor:
        if self.embed is None:
            return numeric
        columns: Tensor = self.embed(numeric)
        return columns.flatten(1)


def find_bins(arrays: Sequence[np.ndarray], params: Mapping[str, Any], net: str) -> dict[str, Any]:
    """Return ``{"bins": edges per column}`` where the params ask for piecewise-linear embeddings, else {}.

    Parameters
    ----------
    arrays : (numeric, codes)
        Rows that the net will be trained on; edges are their quantiles, labels have no say.
    params : mapping
        ``num_embeddings`` and ``n_bins`` of the net.
    """
    numeric = arrays[0]
    if params.get("num_embeddings", "none") != "piecewise_linear" or not numeric.shape[1]:
        return {}
    package = import_extra("rtdl_num_embeddings", net, "tabular")
    n_bins = params.get("n_bins", 48)
    check_at_least(2, n_bins=n_bins)
    rows = np.linspace(0, len(numeric) - 1, min(len(numeric), MOST_ROWS)).astype(np.int64)
    few = min(n_bins, len(rows) - 1)
    bins = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*just two bin edges.*")
        for column in torch.from_numpy(np.ascontiguousarray(numeric[rows].T, dtype=np.float32)):
            if few < 2 or bool((column == column[0]).all()):
                middle = float(column[0])
                bins.append([min(middle, float(column.min())) - 0.5, max(middle, float(column.max())) + 0.5])
            else:
                bins.append(package.compute_bins(column[:, None], n_bins=few)[0].tolist())
    return {"bins": bins}


class CategoryColumns(nn.Module):
    """Put columns for categories behind those for numbers.

    Parameters
    ----------
    cardinalities : sequence of int
        Codes per column, the code 0 included.
    embedding : int
        Columns of a category with more than `max_one_hot` codes.
    max_one_hot : int
        Codes, 0 included, up to which a category is one-hot; two known levels make one column of
        -1 and 1.
    std : float
        Standard deviation of the initial vectors.

    **Shape**

    ``numbers`` (n_rows, d) and ``codes`` (n_rows, len(cardinalities)) give (n_rows, d + `width`);
    `widths` are the columns of each category, those of one-hot ones first.
    """

    offsets: Tensor

    def __init__(self, cardinalities: Sequence[int], embedding: int, max_one_hot: int, std: float) -> None:
        super().__init__()
        self.few = [j for j, n_codes in enumerate(cardinalities) if n_codes <= max_one_hot]
        self.many = [j for j, n_codes in enumerate(cardinalities) if n_codes > max_one_hot]
        tables = [OneHot(cardinalities[j]) for j in self.few]
        self.widths = [table.rows.shape[1] for table in tables] + [embedding] * len(self.many)
        self.width = sum(self.widths)
        self.n_categorical = len(cardinalities)
        self.tables = nn.ModuleList(tables)
        sizes = [cardinalities[j] for j in self.many]
        self.register_buffer("offsets", first_codes(sizes), persistent=False)
        self.embedding = category_table(sizes, embedding, std) if sizes else None

    def forward(self, numbers: Tensor, codes: Tensor | None) -> Tensor:
        if not self.n_categorical:
            return numbers
        codes = require_codes(codes)
        parts = [numbers]
        parts += [table(codes[:, j]) for table, j in zip(self.tables, self.few, strict=True)]
        if self.embedding is not None:
            parts.append(self.embedding(codes[:, self.many] + self.offsets).flatten(1))
        return torch.cat([part.to(numbers.dtype) for part in parts], dim=1)


def first_codes(cardinalities: Sequence[int]) -> Tensor:
    """Return where the codes of each column start in one table of all."""
    starts = [sum(cardinalities[:column]) for column in range(len(cardinalities))]
    return torch.tensor(starts, dtype=torch.int64)


def category_table(cardinalities: Sequence[int], width: int, std: float) -> nn.Embedding:
    """Return one table for all columns: a single look-up is much faster than one a column."""
    table = nn.Embedding(sum(cardinalities), width)
    nn.init.normal_(table.weight, std=std)
    with torch.no_grad():
        # Unknown is often absent from training: no random vector then.
        table.weight[first_codes(cardinalities)] = 0.0
    return table


def require_codes(codes: Tensor | None) -> Tensor:
    """Return the codes that a net with categories must be given."""
    if codes is None:
        raise ValueError("codes must be given: this net was built with cardinalities; got codes=None")
    return codes


class OneHot(nn.Module):
    """Look up the fixed columns of a code, all zeros for 0: (n_rows,) gives (n_rows, width)."""

    rows: Tensor

    def __init__(self, n_codes: int) -> None:
        super().__init__()
        known = torch.eye(n_codes - 1) if n_codes != 3 else torch.tensor([[-1.0], [1.0]])
        unknown = torch.zeros(1, known.shape[1])
        self.register_buffer("rows", torch.cat([unknown, known]), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.rows[codes]
