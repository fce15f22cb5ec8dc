"""Tables with columns of text for nets, fitted within a fold: texts as further numbers, or as tokens.

In:  the rows of one fold's training part.
Out: as `NetPrepare` gives them, numbers and category codes; besides, for nets that read texts themselves, int64
     tokens of shape (n_rows, n_texts, n_steps), 0 where a text has ended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np

from stackfeat.data.prepare.net import NetPrepare, Scaling
from stackfeat.data.prepare.texts import MOST_CHARACTERS, TextColumns
from stackfeat.data.samples import Table, pack_texts, unpack_texts
from stackfeat.errors import UsageError, first_line

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
        found = np.zeros((table.texts.size, self.n_steps), dtype=np.int64)
        for row, read in enumerate(self._read(table)):
            found[row, : len(read)] = read
        return found.reshape(*table.texts.shape, self.n_steps)

    def _read(self, table: Table) -> Iterator[Sequence[int] | np.ndarray]:
        """Yield the tokens of each text, at most `n_steps`."""
        if self._places is None:
            words = unpack_texts({"bytes": self.words, "lengths": self.lengths})
            self._places = {word: place + N_MARKS for place, word in enumerate(words)}
        for text in table.texts.ravel():
            yield [self._places.get(word, 1) for word in words_of(text)[: self.n_steps]]


class NetFolderPrepare(NetTokenPrepare):
    """As `NetTokenPrepare`, with the tokens of a tokenizer that was made elsewhere, each one greater.

    Attributes
    ----------
    tokenizer : uint8 array
        A ``tokenizer.json``.
    most_steps : int
        Tokens of a text that the net can read.
    """

    kind = "net, texts as tokens of a folder"
    __slots__ = ("_tokenizer",)

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer: np.ndarray = np.zeros(0, dtype=np.uint8)
        self.most_steps = MOST_STEPS
        self._tokenizer: Any = None

    @property
    def n_tokens(self) -> int:
        return int(self._reader().get_vocab_size()) + 1

    def fit(self, table: Table, scaling: Scaling | Literal["auto"] = "quantile", seed: int = 0) -> Self:
        """Learn how many tokens the texts of these rows have, and then as `NetPrepare`."""
        sizes = [len(ids) for ids in self._ids(table)]
        steps = int(np.quantile(sizes, STEPS_AT, method="higher")) if sizes else 1
        self.n_steps = max(1, min(MOST_STEPS, self.most_steps, steps))
        return NetPrepare.fit(self, table, scaling, seed)

    def _read(self, table: Table) -> Iterator[Sequence[int] | np.ndarray]:
        for ids in self._ids(table):
            # The last token often says that a text has ended.
            kept = ids if len(ids) <= self.n_steps else [*ids[: self.n_steps - 1], ids[-1]]
            yield np.asarray(kept, dtype=np.int64) + 1

    def _ids(self, table: Table) -> list[list[int]]:
        """Return the tokens of each text; an empty one has none."""
        # Half of a surrogate pair is no character of UTF-8.
        texts = [text[:MOST_CHARACTERS].encode("utf-8", "replace").decode() for text in table.texts.ravel()]
        found = self._reader().encode_batch(texts)
        return [list(one.ids) if text else [] for one, text in zip(found, texts, strict=True)]

    def _reader(self) -> Any:
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(self.tokenizer.tobytes())
        return self._tokenizer


def read_tokenizer(content: bytes) -> Any:
    """Return the tokenizer of a ``tokenizer.json``, which neither pads nor cuts.

    Raises
    ------
    UsageError
        If the bytes are none.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:
        raise UsageError(
            f"tokenizer.json must hold a tokenizer of the package tokenizers; got {first_line(error)}; save it "
            "again with tokenizer.save_pretrained(FOLDER)"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def words_of(text: str) -> list[str]:
    """Return words in lower case, and marks."""
    return _TOKEN.findall(text[:MOST_CHARACTERS].lower())


TABLES: dict[str, type[NetPrepare]] = {
    "columns": NetTextPrepare,
    "tokens": NetTokenPrepare,
    "folder": NetFolderPrepare,
}
"""What reads a table with texts, by what these become."""
