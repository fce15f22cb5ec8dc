"""Nets for tables with columns of text, whose word vectors are learnt in the fold: a bag of words, and convolutions.

In:  numeric columns, float32, category codes, int64, and tokens, int64 of shape (n_rows, n_texts, n_steps): 0 where a
     text has ended, 1 for a word that is not known.
Out: one score per class, or one value; `words`, `hidden` and `head` can be tapped by name.

Sources: M. Iyyer and others, "Deep unordered composition rivals syntactic methods", ACL 2015 (bag, and words dropped
in training); Y. Kim, "Convolutional neural networks for sentence classification", EMNLP 2014, arXiv:1408.5882.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stackfeat.errors import UsageError
from stackfeat.nets.zoo.columns import CategoryColumns
from stackfeat.nets.zoo.sequences import pooled
from stackfeat.nets.zoo.sizes import check_at_least

UNKNOWN = 1


class TextBag(nn.Module):
    """Mean and maximum of the vectors of a text's words, beside the other columns, and a hidden layer.

    Parameters
    ----------
    n_features, n_outputs : int
    shapes : mapping of str to tuple of int
        That of ``tokens``: columns of text, and words of each that are read.
    vocabulary : mapping of str to int
        That of ``tokens``: how many there are.
    cardinalities : sequence of int
        Codes per categorical column, the code 0 (unknown) included.
    width : int
        Of a word's vector.
    hidden : int
        Width of the hidden layer.
    dropout : float
        Of what is read of texts, and of the hidden layer.
    word_dropout : float
        Share of words that are not read in a step of training.

    **Shape**

    ``numeric`` (n_rows, n_features), ``codes`` (n_rows, len(cardinalities)) and ``tokens`` (n_rows, n_texts, n_steps)
    give (n_rows, n_outputs).
    """

    accepts_categories = True
    accepts_texts = True

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int],
        cardinalities: Sequence[int] = (),
        width: int = 64,
        hidden: int = 128,
        dropout: float = 0.3,
        word_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_at_least(1, width=width, hidden=hidden)
        if "tokens" not in shapes or "tokens" not in vocabulary:
            raise UsageError(
                f"a {type(self).__name__} must have a column of text to read; got none; declare one: "
                "data.types: {COLUMN: text}"
            )
        self.words = nn.Embedding(vocabulary["tokens"], width, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.1)
        with torch.no_grad():
            self.words.weight[: UNKNOWN + 1] = 0.0
        self.word_dropout = word_dropout
        self.categories = CategoryColumns(cardinalities, embedding=8, max_one_hot=9, std=0.5)
        n_read = self.make_reader(width) * shapes["tokens"][0]
        self.norm = nn.LayerNorm(n_read)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Sequential(
            nn.Linear(n_read + n_features + self.categories.width, hidden), nn.ReLU(), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, n_outputs)

    def make_reader(self, width: int) -> int:
        """Make the layers that read the words of a text; return how many numbers they give."""
        return 2 * width

    def read(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Return what is read of each text, (n, steps, width) and a mask (n, steps) give (n, d)."""
        return pooled(vectors, mask)

    def forward(self, numeric: Tensor, codes: Tensor | None, tokens: Tensor) -> Tensor:
        """Return scores of shape (n_rows, n_outputs)."""
        flat = tokens.flatten(0, 1)
        if self.training and self.word_dropout > 0:
            flat = flat * (torch.rand(flat.shape, device=flat.device) >= self.word_dropout)
        mask = tokens.flatten(0, 1) > 0
        # An empty text is read as a step of zeros.
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], dim=1)
        read = self.read(self.words(flat), mask).reshape(len(tokens), -1)
        columns = self.categories(numeric, codes)
        return self.head(self.hidden(torch.cat([self.dropout(self.norm(read)), columns], dim=1)))


class TextCNN(TextBag):
    """As `TextBag`, with convolutions over the words: what they find anywhere in a text, and in the mean.

    Parameters
    ----------
    filters : int
        Of each width.
    kernels : sequence of int
        Words that a convolution sees.
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int,
        shapes: Mapping[str, Sequence[int]],
        vocabulary: Mapping[str, int],
        cardinalities: Sequence[int] = (),
        width: int = 64,
        hidden: int = 128,
        dropout: float = 0.3,
        word_dropout: float = 0.2,
        filters: int = 32,
        kernels: Sequence[int] = (1, 2, 3),
    ) -> None:
        check_at_least(1, filters=filters, kernel=min(kernels, default=0))
        self.n_filters, self.kernels = filters, tuple(kernels)
        super().__init__(
            n_features, n_outputs, shapes, vocabulary, cardinalities, width, hidden, dropout, word_dropout
        )

    def make_reader(self, width: int) -> int:
        self.convolutions = nn.ModuleList(nn.Conv1d(width, self.n_filters, kernel) for kernel in self.kernels)
        return 2 * self.n_filters * len(self.kernels)

    def read(self, vectors: Tensor, mask: Tensor) -> Tensor:
        steps = vectors.transpose(1, 2)
        found = []
        for kernel, convolution in zip(self.kernels, self.convolutions, strict=True):
            # Padded behind: each word begins one window.
            window = F.relu(convolution(F.pad(steps, (0, kernel - 1))))
            found.append(pooled(window.transpose(1, 2), mask))
        return torch.cat(found, dim=1)
