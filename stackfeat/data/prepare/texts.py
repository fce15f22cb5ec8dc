"""Columns of text as columns of numbers, fitted within a fold.

In:  the texts of one fold's training rows, never their labels.
Out: of each column its TF-IDF weights, sparse (`TextTerms`), or the directions in which these differ most, dense
     (`TextColumns`); of columns told apart by words, 1 where a frequent word stands. What has no text, or none
     of the terms, is 0 everywhere.

Source of the dense form: S. Deerwester and others, "Indexing by latent semantic analysis", JASIS 1990.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import CountVectorizer

from stackfeat.data.prepare import Preparer
from stackfeat.data.samples import Table, to_bytes
from stackfeat.structure import must

WIDTH = 30
"""Columns that a column of text becomes, at most."""
MOST_TERMS = 20_000
MOST_CHARACTERS = 20_000
"""A longer text is cut."""
FEW_WORDS = 3
"""Texts of fewer words, in the mean, are names written in many ways, told apart by parts of their words."""
MOST_FREQUENT = 10
"""Words that a column is told by, at most."""
FEWEST_ROWS, LEAST_SHARE = 10, 0.01
"""Rows that have such a word, and rows that have it not."""
_WORD, _TERM = re.compile(r"\w+"), r"\w+|[!?]+"
_SOME_TEXTS = 1_000
MANY_WORDS, CAPITAL_SHARE = 8, 0.8
"""Texts of fewer words in the mean, of which so many begin with a capital letter, are names."""
_SMALLEST = 1e-6


class TextTerms(Preparer):
    """Fold-local terms: words, ``!`` and ``?``, and pairs of them; of short texts runs of three and four characters.

    A term stands in two rows at least, and the `MOST_TERMS` most frequent count. Weights are ``1 + log(count)`` times
    ``log((1 + n) / (1 + n_with_it)) + 1``, and rows have length 1, as scikit-learn's `TfidfVectorizer` with
    ``sublinear_tf``. Of columns that are told by words (`Table.word_names`) the `MOST_FREQUENT` most frequent words
    count, each weighing 1, that stand in ten rows and a hundredth of them, and are missing in as many.

    Attributes
    ----------
    by : list of str
        What the terms of each column are: "word", "char_wb" or "frequent".
    terms : list of uint8 array
        Of each column the terms, sorted, a line each, in UTF-8.
    rarity : list of float64 array
        What the weight of each term is multiplied by.
    """

    kind = "text terms"
    packed: ClassVar[tuple[str, ...]] = ("terms", "rarity")
    # Beside what is stored: a dictionary of thousands of terms is not made anew for each row.
    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self.by: list[str] = []
        self.terms: list[np.ndarray] = []
        self.rarity: list[np.ndarray] = []
        self._counters: list[CountVectorizer] = []

    def fit(self, table: Table, seed: int = 0) -> Self:
        """Learn the terms of these rows alone."""
        self.by, self.terms, self.rarity, self._counters = [], [], [], []
        for name, texts in zip(table.text_names, table.texts.T, strict=True):
            by = "frequent" if name in table.word_names else kind_of_terms(texts)
            terms, rarity = _KINDS[by].fit(texts)
            self.by.append(by)
            self.terms.append(np.frombuffer(to_bytes("\n".join(terms)), dtype=np.uint8))
            self.rarity.append(rarity)
        return self

    def weights(self, table: Table) -> list[csr_matrix]:
        """Return of each column of text the weights of its terms, float64 (n_rows, n_terms)."""
        return list(self._weights(table))

    def _weights(self, table: Table) -> Iterator[csr_matrix]:
        if not self._counters:
            self._counters = [
                _KINDS[by].counter(terms) for by, terms in zip(self.by, self._lines(), strict=True)
            ]
        for texts, by, counter, rarity in zip(
            table.texts.T, self.by, self._counters, self.rarity, strict=True
        ):
            if not len(rarity):
                yield csr_matrix((table.n_rows, 0))
                continue
            found = counter.transform(_cut(texts)).astype(np.float64)
            yield _KINDS[by].weights(found, rarity)

    def _lines(self) -> Iterator[list[str]]:
        for terms, rarity in zip(self.terms, self.rarity, strict=True):
            found = terms.tobytes().decode("utf-8", "surrogatepass").split("\n") if len(rarity) else ["none"]
            must(len(found) == max(len(rarity), 1), "stored terms", "each have a weight", len(found))
            yield found


class TextColumns(TextTerms):
    """Fold-local dense columns: the directions of the terms' weights, by a truncated singular value decomposition.

    Attributes
    ----------
    axes : list of float32 array
        Of each column its directions end to end, a weight for each term.
    """

    kind = "text columns"
    packed = ("terms", "rarity", "axes")
    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.axes: list[np.ndarray] = []

    def fit(self, table: Table, seed: int = 0) -> Self:
        """Learn terms and directions of these rows alone; `seed` starts the search for the directions."""
        super().fit(table)
        self.axes = [_directions(weights, seed).ravel() for weights in self._weights(table)]
        return self

    def widened(self, table: Table) -> Table:
        """Return the table with numbers in the place of texts."""
        parts, names = [table.numeric], list(table.numeric_names)
        for name, weights, axes in zip(table.text_names, self._weights(table), self.axes, strict=True):
            n_terms = weights.shape[1]
            must(axes.size % max(n_terms, 1) == 0, "stored directions", "weigh each term", axes.size)
            directions = axes.reshape(-1, n_terms) if n_terms else np.zeros((0, 0))
            parts.append(np.asarray(weights @ directions.T.astype(np.float64)))
            names += [f"{name}#{place:03}" for place in range(len(directions))]
        numeric = np.hstack(parts)
        return replace(
            table,
            numeric=numeric,
            numeric_names=tuple(names),
            texts=table.texts[:, :0],
            text_names=(),
            word_names=(),
        )


def kind_of_terms(texts: np.ndarray) -> str:
    """Return whether texts are told apart by their words, or are too short for that."""
    present = [text for text in texts if text][:_SOME_TEXTS]
    n_words = sum(len(_WORD.findall(text[:MOST_CHARACTERS])) for text in present)
    return "word" if n_words >= FEW_WORDS * len(present) else "char_wb"


def are_names(texts: Iterable[str]) -> bool:
    """Whether texts are short, and nearly all of their words begin with a capital letter or a digit: no sentences."""
    words = [_WORD.findall(text[:MOST_CHARACTERS]) for text in texts]
    every = [word for one in words for word in one]
    n_capital = sum(word[0].isupper() or word[0].isdigit() for word in every)
    return 0 < len(every) < MANY_WORDS * len(words) and n_capital >= CAPITAL_SHARE * len(every)


@dataclass(frozen=True)
class _Terms:
    """A kind of terms: how texts are cut into them, which of them count, and what each weighs."""

    analyzer: str
    sizes: tuple[int, int]
    pattern: str | None = None

    def counter(self, terms: Iterable[str] | None = None) -> CountVectorizer:
        pattern = {} if self.pattern is None else {"token_pattern": self.pattern}
        vocabulary = None if terms is None else list(terms)
        return CountVectorizer(
            analyzer=self.analyzer, ngram_range=self.sizes, vocabulary=vocabulary, **pattern
        )

    def fit(self, texts: np.ndarray) -> tuple[list[str], np.ndarray]:
        """Return the terms that count, sorted, and how rare they are."""
        if not any(_WORD.search(text) for text in _cut(texts)):
            return [], np.zeros(0)
        counter = self.counter()
        counts = counter.fit_transform(_cut(texts))
        n_with_it = np.bincount(counts.indices, minlength=counts.shape[1])
        kept = self.kept(np.asarray(counts.sum(axis=0)).ravel(), n_with_it, len(texts))
        return counter.get_feature_names_out()[kept].tolist(), self.rarity(n_with_it[kept], len(texts))

    def kept(self, total: np.ndarray, n_with_it: np.ndarray, n_rows: int) -> np.ndarray:
        """Return the terms that count, by how often they occur and in how many rows."""
        # Where no term is shared, a few that are not say as little.
        often = np.flatnonzero(n_with_it >= 2)
        return np.sort(often[np.argsort(-total[often], kind="stable")[:MOST_TERMS]])

    def rarity(self, n_with_it: np.ndarray, n_rows: int) -> np.ndarray:
        return np.asarray(np.log((1 + n_rows) / (1 + n_with_it)) + 1.0)

    def weights(self, counts: csr_matrix, rarity: np.ndarray) -> csr_matrix:
        """Return float64 counts as weights of the terms."""
        counts.data = 1.0 + np.log(counts.data)
        found = csr_matrix(counts @ diags(rarity))
        lengths = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        found.data /= np.repeat(lengths, np.diff(found.indptr))
        return found


class _FrequentWords(_Terms):
    """Words that many rows have and many have not; each weighs 1."""

    def kept(self, total: np.ndarray, n_with_it: np.ndarray, n_rows: int) -> np.ndarray:
        least = max(FEWEST_ROWS, LEAST_SHARE * n_rows)
        often = np.flatnonzero((n_with_it >= least) & (n_with_it <= n_rows - least))
        return np.sort(often[np.argsort(-n_with_it[often], kind="stable")[:MOST_FREQUENT]])

    def rarity(self, n_with_it: np.ndarray, n_rows: int) -> np.ndarray:
        return np.ones(len(n_with_it))

    def weights(self, counts: csr_matrix, rarity: np.ndarray) -> csr_matrix:
        counts.data[:] = 1.0
        return csr_matrix(counts)


_KINDS = {
    "word": _Terms("word", (1, 2), _TERM),
    "char_wb": _Terms("char_wb", (3, 4)),
    "frequent": _FrequentWords("word", (1, 1), _TERM),
}


def _directions(weights: csr_matrix, seed: int) -> np.ndarray:
    """Return at most `WIDTH` directions, float32 (n_directions, n_terms); of few terms each is one."""
    from sklearn.decomposition import TruncatedSVD

    n_terms = weights.shape[1]
    if n_terms <= WIDTH:
        return np.eye(n_terms, dtype=np.float32)
    found = TruncatedSVD(min(WIDTH, weights.shape[0]), random_state=seed).fit(weights)
    lengths = found.singular_values_
    return np.asarray(found.components_[lengths > _SMALLEST * lengths.max()], dtype=np.float32)


def _cut(texts: np.ndarray) -> list[str]:
    return [text[:MOST_CHARACTERS] for text in texts]
