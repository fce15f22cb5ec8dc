"""Tables with columns of text for nets, fitted within a fold: texts as further numbers, or as tokens.

In:  the rows of one fold's training part.
Out: as `NetPrepare` gives them, numbers and category codes; besides, for nets that read texts themselves, int64
     tokens of shape (n_rows, n_texts, n_steps), 0 where a text has ended.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal, Self

import numpy as np

from stackfeat.data.prepare.net import NetPrepare, Scaling
from stackfeat.data.prepare.texts import MOST_CHARACTERS, TextColumns
from stackfeat.data.samples import Table, pack_texts, unpack_texts

MOST_WORDS = 20_000
MOST_STEPS = 256
"""Words of a text that nets read; of longer ones the first."""
STEPS_AT = 0.98
"""Texts longer than this share of the training rows' texts are cut."""
N_MARKS = 2
"""Tokens that are no words: 0 for nothing, 1 for a word that training has not, or once alone."""
_TOKEN = re.compile(r"\w+|[^\w\s]")


class NetTextPrepare(NetPrepare):
    """As `NetPrepare`, with the columns that `TextColumns` makes of texts among the numbers."""

    kind = "net, texts as columns"
    # What `texts` holds, read once.
    __slots__ = ("_columns",)

    def __init__(self) -> None:
        super().__init__()
        self.texts: np.ndarray = np.zeros(0, dtype=np.uint8)
        self._columns: TextColumns | None = None

    def fit(self, table: Table, scaling: Scaling | Literal["auto"] = "quantile", seed: int = 0) -> Self:
        """Learn what texts become, and then as `NetPrepare`, from these rows alone."""
        self._columns = TextColumns().fit(table, seed)
        self.texts = np.frombuffer(self._columns.to_bytes(), dtype=np.uint8)
        return super().fit(self._columns.widened(table), scaling, seed)

    def transform(self, table: Table) -> tuple[np.ndarray, np.ndarray]:
        if self._columns is None:
            self._columns = TextColumns.from_bytes(self.texts.tobytes())
        return super().transform(self._columns.widened(table))


class NetTokenPrepare(NetPrepare):
    """As `NetPrepare`, and texts as numbers of words; marks such as ``!`` are words.

    Attributes
    ----------
    words : uint8 array
        Words of the training rows' texts that stand there twice at least, the most frequent first, in UTF-8.
    lengths : int64 array
        Bytes of each.
    n_steps : int
        Words of a text that are read.
    """

    kind = "net, texts as tokens"
    __slots__ = ("_places",)

    def __init__(self) -> None:
        super().__init__()
        self.words: np.ndarray = np.zeros(0, dtype=np.uint8)
        self.lengths: np.ndarray = np.zeros(0, dtype=np.int64)
        self.n_steps = 1
        self._places: dict[str, int] | None = None

    @property
    def n_tokens(self) -> int:
        """One more than the greatest token."""
        return len(self.lengths) + N_MARKS

    def fit(self, table: Table, scaling: Scaling | Literal["auto"] = "quantile", seed: int = 0) -> Self:
        """Learn words and their number, and then as `NetPrepare`, from these rows alone."""
        texts = [words_of(text) for text in table.texts.ravel()]
        counts = Counter(word for words in texts for word in words)
        # Sorted first: the order of equal counts does not hang on the order of rows.
        often = sorted(
            (word for word, count in counts.items() if count >= 2), key=lambda word: (-counts[word], word)
        )
        packed = pack_texts(often[:MOST_WORDS])
        self.words, self.lengths, self._places = packed["bytes"], packed["lengths"], None
        sizes = [len(words) for words in texts if words]
        steps = np.quantile(sizes, STEPS_AT, method="higher") if sizes else 1
        self.n_steps = int(min(MOST_STEPS, steps))
        return super().fit(table, scaling, seed)

    def tokens(self, table: Table) -> np.ndarray:
        """Return int64 tokens of shape (n_rows, n_texts, n_steps)."""
        if self._places is None:
            words = unpack_texts({"bytes": self.words, "lengths": self.lengths})
            self._places = {word: place + N_MARKS for place, word in enumerate(words)}
        found = np.zeros((table.texts.size, self.n_steps), dtype=np.int64)
        for row, text in enumerate(table.texts.ravel()):
            read = [self._places.get(word, 1) for word in words_of(text)[: self.n_steps]]
            found[row, : len(read)] = read
        return found.reshape(*table.texts.shape, self.n_steps)


def words_of(text: str) -> list[str]:
    """Return words in lower case, and marks."""
    return _TOKEN.findall(text[:MOST_CHARACTERS].lower())


TABLES: dict[str, type[NetPrepare]] = {"columns": NetTextPrepare, "tokens": NetTokenPrepare}
"""What reads a table with texts, by what these become."""
