"""Texts become numbers as scikit-learn's parts would make them, of a fold's rows alone, whatever the texts hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from stackfeat.data.prepare.net_texts import MOST_STEPS, NetTextPrepare, NetTokenPrepare
from stackfeat.data.prepare.texts import WIDTH, TextColumns, TextTerms, are_names, kind_of_terms
from stackfeat.data.samples import Table
from stackfeat.errors import StructureError
from stackfeat.store.skops_file import load_object, save_object

WORDS = [f"word{i}" for i in range(60)]


def table_of(*columns: list[str]) -> Table:
    n_rows = len(columns[0])
    texts = np.empty((n_rows, len(columns)), dtype=object)
    for place, column in enumerate(columns):
        texts[:, place] = column
    numeric = np.arange(n_rows, dtype=np.float64)[:, None]
    names = tuple(f"t{place}" for place in range(len(columns)))
    return Table(numeric, ("x",), np.zeros((n_rows, 0), np.int32), (), (), texts, names)


def sentences(n_rows: int, seed: int = 0, n_words: int = 8) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, n_words)) for _ in range(n_rows)]


def test_weights_are_those_of_scikit_learn() -> None:
    train, later = sentences(80), [*sentences(20, seed=1), "", "unknown words!"]
    pattern = {"token_pattern": r"\w+|[!?]+", "ngram_range": (1, 2)}
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, **pattern).fit(train)
    (found,) = TextTerms().fit(table_of(train)).weights(table_of(later))
    np.testing.assert_allclose(found.toarray(), vectorizer.transform(later).toarray(), atol=1e-12)


def test_short_texts_are_told_apart_by_parts_of_words() -> None:
    jobs = ["engineer", "Engineers", "nurse", "nurses", "Sr. engineer", "teacher", "teachers"] * 5
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, min_df=2).fit(
        jobs
    )
    terms = TextTerms().fit(table_of(jobs))
    later = table_of(["enginer", "nurse", "zzz"])
    assert terms.by == ["char_wb"]
    (found,) = terms.weights(later)
    np.testing.assert_allclose(found.toarray(), vectorizer.transform(later.texts[:, 0]).toarray(), atol=1e-12)
    (known,) = terms.weights(table_of(["engineer", "nurse"]))
    assert (found[0] @ known[0].T)[0, 0] > 0.3 > (found[0] @ known[1].T)[0, 0]
    assert kind_of_terms(np.array(sentences(5), dtype=object)) == "word"


def test_columns_are_the_directions_of_a_truncated_decomposition() -> None:
    train, later = table_of(sentences(90), sentences(90, seed=3)), table_of(*[sentences(20, seed=4)] * 2)
    found = TextColumns().fit(train, seed=5).widened(later)
    terms = TextTerms().fit(train)
    wanted = [
        TruncatedSVD(WIDTH, random_state=5).fit(of_train).transform(of_later)
        for of_train, of_later in zip(terms.weights(train), terms.weights(later), strict=True)
    ]
    np.testing.assert_allclose(found.numeric[:, 1:], np.hstack(wanted), atol=1e-6)
    assert found.numeric_names[:2] == ("x", "t0#000") and found.numeric_names[-1] == f"t1#{WIDTH - 1:03}"
    assert found.text_names == () and found.texts.shape == (20, 0)


def told_by_words(texts: list[str]) -> Table:
    return replace(table_of(texts), word_names=("t0",))


def test_a_column_told_by_words_is_a_column_for_each_frequent_one() -> None:
    # Of 100 rows: all, 60, 40, 12, 10 and 9 have a word.
    words = [("all", 100), ("sixty", 60), ("forty", 40), ("twelve", 12), ("ten", 10), ("nine", 9)]
    train = [" ".join([*(word for word, n in words if row < n), f"own{row}"]) for row in range(100)]
    columns = TextColumns().fit(told_by_words(train))
    later = columns.widened(told_by_words(["Ten, forty. TEN", "nine all sixties", "", "twelve sixty"]))
    assert columns.terms[0].tobytes().decode().split("\n") == ["forty", "sixty", "ten", "twelve"]
    wanted = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    np.testing.assert_array_equal(later.numeric[:, 1:], wanted)
    assert later.numeric_names[1:] == tuple(f"t0#{place:03}" for place in range(4))
    assert later.word_names == later.text_names == ()
    again = TextColumns.from_bytes(columns.to_bytes()).widened(told_by_words(train))
    np.testing.assert_array_equal(again.numeric, columns.widened(told_by_words(train)).numeric)


def test_no_more_than_ten_words_tell_a_column_and_the_most_frequent_do() -> None:
    train = [" ".join(f"word{place:02}" for place in range(16) if row < 20 + place) for row in range(60)]
    columns = TextColumns().fit(told_by_words(train))
    expected = [f"word{place:02}" for place in range(6, 16)]
    assert columns.terms[0].tobytes().decode().split("\n") == expected
    rare = TextColumns().fit(told_by_words([f"own{row} words" for row in range(60)]))
    assert rare.widened(told_by_words(["own1 words"])).numeric.shape == (1, 1)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (
            ["Andrews, Miss. Kornelia Theodosia", "McCarthy, Mr. Timothy J", "van Melkebeke, Mr. Philemon"],
            True,
        ),
        (["Great dress", "Love it so much", "Not for me"], False),
        ([" ".join(["Word"] * 9)] * 3, False),
        (["", "?!"], False),
        ([], False),
    ],
)
def test_short_texts_of_capital_letters_are_names(texts: list[str], expected: bool) -> None:
    assert are_names(texts) == expected


def test_only_the_rows_of_the_fit_decide_what_a_term_is() -> None:
    train = sentences(50)
    columns = TextColumns().fit(table_of(train))
    other = columns.widened(table_of(["never seen twice", "NEVER", ""])).numeric[:, 1:]
    np.testing.assert_array_equal(other, 0.0)
    again = TextColumns().fit(table_of(train))
    np.testing.assert_array_equal(columns.axes[0], again.axes[0])


@pytest.mark.parametrize("cls", [TextColumns, TextTerms])
def test_what_was_learnt_comes_back_from_bytes(cls: type[TextTerms]) -> None:
    train, later = (
        table_of(sentences(60), ["é\ud800", "naïve"] * 30),
        table_of(sentences(9, 8), ["naive"] * 9),
    )
    fitted = cls().fit(train)
    loaded = cls.from_bytes(fitted.to_bytes())
    assert vars(loaded).keys() == vars(fitted).keys()
    for one, other in zip(fitted.weights(later), loaded.weights(later), strict=True):
        assert (one != other).nnz == 0
    if isinstance(fitted, TextColumns) and isinstance(loaded, TextColumns):
        np.testing.assert_array_equal(fitted.widened(later).numeric, loaded.widened(later).numeric)


def test_rows_are_the_same_however_they_come() -> None:
    columns, rows = TextColumns().fit(table_of(sentences(60))), sentences(30, seed=6)
    whole = columns.widened(table_of(rows)).numeric[:, 1:]
    parts = [columns.widened(table_of(rows[i : i + 7])).numeric[:, 1:] for i in range(0, 30, 7)]
    np.testing.assert_array_equal(whole, np.vstack(parts))


@pytest.mark.parametrize(
    "texts",
    [
        [""] * 10,
        ["", "one lone text of words"] + [""] * 8,
        ["?!"] * 10,
        ["same words here"] * 10,
        [f"all{i}" for i in range(10)],
        ["x" * 200_000, "x y " * 50_000] * 5,
        ["a\nb\tc\x00d", "\u2028a\u2029b", "中文没有空格的句子", "\ud800"] * 3,
    ],
)
@pytest.mark.parametrize("cls", [TextColumns, TextTerms, NetTextPrepare, NetTokenPrepare])
def test_no_text_is_too_odd(cls: Any, texts: list[str]) -> None:
    table = table_of(texts)
    fitted = cls.from_bytes(cls().fit(table).to_bytes())
    for rows in (table, table_of(["", "words that are new", "x" * 10])):
        if isinstance(fitted, TextColumns):
            assert np.isfinite(fitted.widened(rows).numeric).all()
        elif isinstance(fitted, TextTerms):
            assert all(
                np.isfinite(one.data).all() and one.shape[0] == rows.n_rows for one in fitted.weights(rows)
            )
        else:
            assert np.isfinite(fitted.transform(rows)[0]).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=3, max_size=20), st.text(max_size=40))
def test_any_texts_can_be_read(train: list[str], later: str) -> None:
    columns = TextColumns().fit(table_of(train))
    found = columns.widened(table_of([later, ""])).numeric
    assert np.isfinite(found).all() and (found[1, 1:] == 0).all()
    tokens = NetTokenPrepare().fit(table_of(train))
    read = tokens.tokens(table_of([later, ""]))
    assert read.shape == (2, 1, tokens.n_steps) and (read >= 0).all() and (read < tokens.n_tokens).all()
    assert (read[1] == 0).all()


def test_missing_text_is_text_without_words() -> None:
    train = table_of([*sentences(30), ""])
    assert not TextColumns().fit(train).widened(table_of([""])).numeric[:, 1:].any()


def test_tokens_are_numbers_of_the_most_frequent_words() -> None:
    prepare = NetTokenPrepare().fit(table_of(["good good day!", "good day", "rare"], ["", "day", "!"]))
    found = prepare.tokens(table_of(["Good day", "rare !", ""], ["day", "", "good"]))
    assert prepare.n_tokens == 2 + 3 and found.dtype == np.int64
    good, day, mark = found[0, 0, 0], found[0, 0, 1], found[1, 0, 1]
    assert sorted([good, day, mark]) == [2, 3, 4] and {good, day} == {2, 3}
    assert found[1, 0, 0] == 1 and found[0, 1, 0] == day and found[2, 1, 0] == good and not found[2, 0].any()


def test_most_texts_are_read_to_their_end_and_none_beyond_the_limit() -> None:
    texts = [*["a b c"] * 97, "a " * 9, "a " * 9, "a " * 5000]
    assert NetTokenPrepare().fit(table_of(texts)).n_steps == 9
    assert NetTokenPrepare().fit(table_of(["a b " * 5000] * 5)).n_steps == MOST_STEPS


def test_the_order_of_rows_does_not_number_words() -> None:
    texts = sentences(40)
    one, other = (NetTokenPrepare().fit(table_of(rows)) for rows in (texts, texts[::-1]))
    np.testing.assert_array_equal(one.words, other.words)


def test_stored_terms_that_do_not_fit_are_refused() -> None:
    state = load_object(TextTerms().fit(table_of(sentences(30))).to_bytes())
    state["terms"]["lengths"] += 1
    with pytest.raises(StructureError, match="must sum to"):
        TextTerms.from_bytes(save_object(state))
    state = load_object(NetTokenPrepare().fit(table_of(sentences(30))).to_bytes())
    loaded = NetTokenPrepare.from_bytes(save_object({**state, "lengths": state["lengths"] + 1}))
    with pytest.raises(StructureError, match="stored texts must be bytes with a length each"):
        loaded.tokens(table_of(["a"]))


def test_terms_and_directions_of_other_sizes_are_refused() -> None:
    train = table_of(sentences(30))
    columns = TextColumns().fit(train)
    columns.axes = [columns.axes[0][1:]]
    with pytest.raises(StructureError, match="stored directions must weigh each term"):
        columns.widened(train)
    terms = TextTerms().fit(train)
    terms.rarity = [terms.rarity[0][1:]]
    with pytest.raises(StructureError, match="stored terms must each have a weight"):
        TextTerms.from_bytes(terms.to_bytes()).weights(train)
