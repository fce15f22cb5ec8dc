"""What people's files look like, through whole runs: the scores of the clean file, and every guess said."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stackfeat
from stackfeat.errors import ConfigError, DataError
from stackfeat.output.run_result import RunResult

N = 180
RANDOM = np.random.default_rng(7)
WIDTH = (RANDOM.normal(size=N) * 4000).round(2)
HEIGHT = RANDOM.normal(size=N).round(3)
SHARE = (100 * RANDOM.random(N)).round(1)
LATENT = WIDTH / 4000 + HEIGHT + 0.3 * RANDOM.normal(size=N)
CODE = np.digitize(LATENT, [-0.8, 0.8])


def run(
    folder: Path, name: str, data: dict[str, Any], task: str = "multiclass", metric: str = "log_loss"
) -> RunResult:
    config = {
        "name": name,
        "task": task,
        "metric": metric,
        "data": {"id": "id", "target": "y", **data},
        "folds": {"n": 3},
        "levels": {"base": {"lin": {"estimator": "sklearn.linear_model.LogisticRegression"}}},
        "executor": {"kind": "inline"},
        "outputs": {"dir": f"out_{name}"},
    }
    import json

    (folder / f"{name}.yaml").write_text(json.dumps(config))
    return stackfeat.run(folder / f"{name}.yaml")


def clean(labels: list[Any], missing: np.ndarray | None = None) -> pd.DataFrame:
    height = HEIGHT if missing is None else np.where(missing, np.nan, HEIGHT)
    columns = {"id": [f"r{i}" for i in range(N)], "width": WIDTH, "height": height, "share": SHARE}
    return pd.DataFrame({**columns, "y": [labels[code] for code in CODE]})


def dirty(frame: pd.DataFrame) -> bytes:
    """The same rows as a German office would write them."""
    frame = frame.astype({"height": object})
    frame["width"] = [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in WIDTH]
    words = ["n/a", "-"]
    texts = [str(value).replace(".", ",") for value in frame["height"]]
    frame["height"] = [words[i % 2] if text == "nan" else text for i, text in enumerate(texts)]
    frame["share"] = [f"{value} %".replace(".", ",") for value in SHARE]
    return frame.to_csv(sep=";", index=False).encode("utf-8-sig")


def test_a_file_with_everything_at_once_scores_as_the_clean_one(tmp_path: Path) -> None:
    labels = ["NA", "mittel", "hoch"]
    frame = clean(labels, missing=np.arange(N) % 10 == 4)
    frame[: N - 40].to_csv(tmp_path / "train.csv", index=False)
    frame[N - 40 :].drop(columns="y").to_csv(tmp_path / "test.csv", index=False)
    lines = dirty(frame).split(b"\n")
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"\n".join(lines[: N - 39])))
    tests = [lines[0], *lines[N - 39 : -1]]
    (tmp_path / "test.csv.gz").write_bytes(
        gzip.compress(b"\n".join(line.rpartition(b";")[0] for line in tests))
    )
    order = {"class_order": labels, "not_missing": {"y": ["NA"]}}
    kappa = {"metric": "quadratic_weighted_kappa"}
    plain = run(tmp_path, "plain", {"train": "train.csv", "test": "test.csv", **order}, **kappa)
    packed = run(tmp_path, "packed", {"train": "train.csv.gz", "test": "test.csv.gz", **order}, **kappa)
    assert plain.score == packed.score > 0.5
    assert plain.submission is not None and packed.submission is not None
    assert plain.submission.read_bytes() == packed.submission.read_bytes()
    # Rows of `predict` are read in the notation of training too, though they alone would not tell it.
    (tmp_path / "later.csv").write_bytes(b"\n".join(line.rpartition(b";")[0] for line in tests[:3]))
    from stackfeat.pipeline.predict import predict_file

    assert predict_file(packed.folder, tmp_path / "later.csv", tmp_path / "later_out.csv") == 2
    assert (
        tmp_path / "later_out.csv"
    ).read_text().splitlines() == packed.submission.read_text().splitlines()[:3]
    said = [*packed.notes, *packed.warnings]
    for words in (
        "numbers are written with a decimal comma and '.' between thousands: width",
        "numbers are written with a decimal comma and '%' at each number, which is left out: share",
        "these are read as missing: 'n/a'",
        "classes in their order (data.class_order): 'NA', 'mittel', 'hoch'",
    ):
        assert any(words in text for text in said), words
        assert words in (packed.folder / "run.log").read_text()
        assert words.replace("'", "&#39;") in packed.report.read_text().replace("<wbr>", "")


WORDS = [
    ["low", "mid", "top high"],
    ["grade 8", "grade 9", "grade 10"],
    ["c", "b", "a"],
    ["1 star", "2 stars", "10 stars"],
]


@pytest.mark.parametrize("labels", WORDS, ids=lambda labels: labels[0])
def test_words_in_their_order_score_as_numbers_do(labels: list[str], tmp_path: Path) -> None:
    frame = clean([1, 2, 3])
    frame.to_csv(tmp_path / "numbers.csv", index=False)
    words = frame.assign(
        y=pd.Categorical([labels[code] for code in CODE], categories=[*labels, "unused"], ordered=True)
    )
    words.to_csv(tmp_path / "words.csv", index=False)
    words.to_parquet(tmp_path / "words.parquet")
    kappa = {"metric": "quadratic_weighted_kappa"}
    expected = run(tmp_path, "numbers", {"train": "numbers.csv"}, **kappa)
    given = run(tmp_path, "given", {"train": "words.csv", "class_order": labels}, **kappa)
    brought = run(tmp_path, "brought", {"train": "words.parquet"}, **kappa)
    for result in (given, brought):
        assert result.score == expected.score
        assert not any("order of their texts" in text for text in result.warnings)
        oof = pd.read_csv(result.folder / "oof" / "base.lin.csv")
        assert list(oof.columns) == ["id", *labels]
        np.testing.assert_array_equal(
            oof[labels], pd.read_csv(expected.folder / "oof/base.lin.csv")[["1", "2", "3"]]
        )
    unsaid = run(tmp_path, "unsaid", {"train": "words.csv"}, **kappa)
    assert any(
        "quadratic_weighted_kappa takes the classes in the order of their texts" in text
        for text in unsaid.warnings
    )
    assert "WARNING" in (unsaid.folder / "run.log").read_text()
    unread = run(tmp_path, "unsaid_loss", {"train": "words.csv"})
    assert not any("order of their texts" in text for text in unread.warnings)


def test_a_warning_proposes_the_order_of_the_numbers_in_the_words(tmp_path: Path) -> None:
    clean(WORDS[1]).to_csv(tmp_path / "words.csv", index=False)
    result = run(tmp_path, "unsaid", {"train": "words.csv"}, metric="quadratic_weighted_kappa")
    assert any("data.class_order: ['grade 8', 'grade 9', 'grade 10']" in text for text in result.warnings)


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "N/A", "?"])
def test_a_class_that_is_called_like_a_missing_value(name: str, tmp_path: Path) -> None:
    clean(["EU", name, "AP"]).to_csv(tmp_path / "train.csv", index=False)
    n_cells = int((CODE == 1).sum())
    with pytest.raises(DataError) as error:
        run(tmp_path, "refused", {"train": "train.csv"})
    said = str(error.value)
    assert f"got '{name}' ({n_cells} cells), read as missing, in rows " in said
    assert said.index("data.not_missing: {y: [") < said.index("remove these rows")
    result = run(tmp_path, "told", {"train": "train.csv", "not_missing": [name]})
    oof = pd.read_csv(result.folder / "oof" / "base.lin.csv", keep_default_na=False)
    assert list(oof.columns) == ["id", *sorted(["AP", "EU", name])]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (["low", "mid"], r"must name every class once; got 'low', 'mid', without 'top high'"),
        (["low", "middle", "mid", "top high"], r"got 'middle', which no row has; .*Did you mean 'mid'"),
    ],
)
def test_an_order_names_every_class(order: list[str], message: str, tmp_path: Path) -> None:
    clean(WORDS[0]).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(DataError, match=message):
        run(tmp_path, "wrong", {"train": "train.csv", "class_order": order})


@pytest.mark.parametrize(
    ("data", "task", "metric", "message"),
    [
        ({"class_order": ["a", "b", "a"]}, "multiclass", "log_loss", "must name each class once; got 'a'"),
        ({"class_order": ["a"]}, "multiclass", "log_loss", "must name every class"),
        (
            {"class_order": ["a", "b"], "positive": "a"},
            "binary",
            "log_loss",
            "the last of class_order is the positive",
        ),
        ({"class_order": ["a", "b"]}, "regression", "rmse", "only classes have an order"),
        (
            {"decimal": ",", "thousands": ","},
            "binary",
            "log_loss",
            "must differ from decimal; got ',' for both",
        ),
        ({"decimal": ";"}, "binary", "log_loss", "decimal"),
    ],
)
def test_options_that_contradict_are_found_before_a_file_is_read(
    data: dict[str, Any], task: str, metric: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text("id,a,y\n")
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, "wrong", {"train": "train.csv", **data}, task, metric)


def test_the_last_class_of_the_order_is_the_positive_one(tmp_path: Path) -> None:
    frame = clean(["yes", "no", "no"])
    frame.to_csv(tmp_path / "train.csv", index=False)
    frame.drop(columns="y").to_csv(tmp_path / "test.csv", index=False)
    data = {"train": "train.csv", "test": "test.csv"}
    usual = run(tmp_path, "usual", data, "binary", "roc_auc")
    turned = run(tmp_path, "turned", {**data, "class_order": ["yes", "no"]}, "binary", "roc_auc")
    assert usual.score == pytest.approx(turned.score, abs=1e-6)
    assert usual.submission is not None and turned.submission is not None
    sums = pd.read_csv(usual.submission)["y"] + pd.read_csv(turned.submission)["y"]
    np.testing.assert_allclose(sums, 1, atol=1e-4)
    assert "positive class (the last class): 'no'" in turned.notes
