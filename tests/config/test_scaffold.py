"""The first config of a project loads without problems and says what was guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stackfeat.config import RunConfig, load_config
from stackfeat.config.guessed import guesses_of
from stackfeat.config.portfolio import Choice, Portfolio, Table
from stackfeat.config.scaffold import Wishes, folders_outside, scaffold_config
from stackfeat.errors import ConfigError, DataError, UsageError
from stackfeat.members.boosters import searches_rounds
from stackfeat.members.estimator_options import EstimatorOptions
from stackfeat.members.net_options import NetOptions


def loaded(folder: Path, text: str) -> RunConfig:
    (folder / "config.yaml").write_text(text)
    return load_config(folder / "config.yaml").config


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_first_config_loads_and_tells_its_guesses(folder: Path) -> None:
    text = scaffold_config(folder / "train.csv", "label", folder / "test.csv")
    config = loaded(folder, text)
    assert (config.task, config.metric, config.data.id, config.data.group) == (
        "multiclass",
        "log_loss",
        "row_id",
        "owner_id",
    )
    assert (config.data.train, config.data.test) == ("train.csv", "test.csv")
    assert "guessed: 3 classes" in text
    assert "guessed: 15 distinct values in 60 rows" in text
    assert {"linear", "gbm_small", "extra"} <= set(config.levels["base"])
    assert {level: set(members) for level, members in config.levels.items()} == {
        "base": set(config.levels["base"]),
        "meta": {"gated"},
        "final": {"soft", "greedy"},
    }


@pytest.mark.parametrize(
    ("name", "task"),
    [("digits", "multiclass"), ("breast_cancer", "binary"), ("diabetes", "regression")],
)
def test_the_task_is_guessed_from_the_target(folder: Path, name: str, task: str) -> None:
    source = Path(f"sklearn:{name}")
    config = loaded(folder, scaffold_config(source, "target", source))
    assert config.task == task
    assert config.data.test == f"sklearn:{name}"


@pytest.mark.parametrize(("task", "said"), [("quantile", True), (None, False)])
def test_what_comes_first_among_equals_is_said_of_quantiles(
    task: str | None, said: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", "x,y", [f"{i % 17},{i * 1.37:.2f}" for i in range(100)])
    text = scaffold_config(path, "y", wishes=Wishes(task=task))
    submit = next(line for line in text.splitlines() if line.startswith("submit:"))
    assert ("the nearest to its levels, then greedy" in submit) == said


@pytest.mark.parametrize("role", ["id", "group", "time", "query", "encoding"])
def test_a_role_that_is_no_name_of_a_column_is_said_without_levels_too(role: str, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "x,y", [f"{i},{i % 2}" for i in range(100)])
    with pytest.raises(ConfigError, match=rf"data\.{role}"):
        loaded(tmp_path, f"data: {{train: t.csv, target: y, {role}: {{a: 1}}}}\nmetric: roc_auc\n")


def test_few_whole_numbers_are_classes_and_many_are_values(tmp_path: Path) -> None:
    few = write(tmp_path / "few.csv", "x,y", [f"{i},{i % 5}" for i in range(100)])
    many = write(tmp_path / "many.csv", "x,y", [f"{i},{i}" for i in range(100)])
    text = write(tmp_path / "text.csv", "x,y", [f"{i},{'yes' if i % 2 else 'no'}" for i in range(100)])
    assert [loaded(tmp_path, scaffold_config(path, "y")).task for path in (few, many, text)] == [
        "multiclass",
        "regression",
        "binary",
    ]


def test_whole_numbers_of_which_one_stands_alone_are_values(tmp_path: Path) -> None:
    path = write(tmp_path / "grades.csv", "x,y", ["0,17", *(f"{i},{i % 8}" for i in range(199))])
    assert loaded(tmp_path, scaffold_config(path, "y")).task == "regression"


def test_the_id_is_the_sample_submissions_first_column(folder: Path) -> None:
    sample = write(folder / "sample.csv", "x,a,b,c", ["1,0,0,0"])
    config = loaded(folder, scaffold_config(folder / "train.csv", "label", None, sample))
    assert config.data.id == "x"
    assert config.data.sample_submission == "sample.csv"


def test_names_that_yaml_could_misread_are_quoted(tmp_path: Path) -> None:
    header = '"# a: 1 ""q""",true,2020'
    path = write(tmp_path / "1e3.csv", header, [f"{i},{i * 2},{i / 3}" for i in range(50)])
    assert loaded(tmp_path, scaffold_config(path, "2020")).data.target == "2020"
    assert loaded(tmp_path, scaffold_config(path, "true")).data.target == "true"
    config = loaded(tmp_path, scaffold_config(path, '# a: 1 "q"'))
    assert (config.data.target, config.name) == ('# a: 1 "q"', "1e3")


def test_paths_start_from_the_folder_of_the_config(folder: Path) -> None:
    (folder / "conf").mkdir()
    assert "train: ../train.csv" in scaffold_config(
        folder / "train.csv", "label", folder=folder / "conf"
    ).replace('"', "")


def test_a_wrong_target_names_the_nearest_column(folder: Path) -> None:
    with pytest.raises(DataError, match=r"must have the column 'lable'; it has .*Did you mean 'label'"):
        scaffold_config(folder / "train.csv", "lable")
    with pytest.raises(DataError, match="must have the column 'nr'"):
        scaffold_config(folder / "train.csv", "label", wishes=Wishes(id="nr"))


def table(path: Path, n: int = 120, **columns: list[object]) -> Path:
    rows = {"x": [i % 17 for i in range(n)], "z": [(7 * i) % 31 for i in range(n)], **columns}
    rows.setdefault("y", ["yes" if i % 3 else "no" for i in range(n)])
    lines = zip(*rows.values(), strict=True)
    return write(path, ",".join(rows), [",".join(map(str, line)) for line in lines])


def test_presets_differ_in_what_is_computed(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 600)
    members = {}
    for preset in ("quick", "good", "best"):
        text = scaffold_config(path, "y", wishes=Wishes(preset=preset))
        config = loaded(tmp_path, text)
        members[preset] = set(config.levels["base"])
        assert f"preset {preset}" in text.splitlines()[0]
        assert {level: set(found) for level, found in config.levels.items() if level != "base"} == {
            "meta": {"gated"},
            "final": {"soft", "greedy"},
        }
        assert config.folds.repeats == (3 if preset == "best" else 1)
    assert len(members["quick"]) == 3
    assert members["quick"] < members["good"] < members["best"]


def test_boosting_finds_its_own_rounds_and_nets_are_trained_once(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 3000)
    members = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best"))).levels["base"]
    boosted = [one for name, one in members.items() if name.startswith(("gbm", "hist", "xgb", "catboost"))]
    assert len(boosted) > 3
    assert all(
        isinstance(one, EstimatorOptions) and searches_rounds(one.estimator, one.params) for one in boosted
    )
    nets = [one for one in members.values() if isinstance(one, NetOptions)]
    assert nets and all(one.train.stopping != "refit" for one in nets)


def test_trees_read_predictions_where_many_rows_have_values(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "x,y", [f"{i % 97},{i % 1013 + 0.5}" for i in range(10_000)])
    levels = {
        preset: loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset=preset))).levels
        for preset in ("good", "best")
    }
    assert set(levels["good"]["meta"]) == {"gated"}
    assert levels["best"]["meta"]["trees"].reads == ("base/*/prediction", "table")


def test_many_classes_get_more_folds_and_a_meta_learner_of_few_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "x,y", [f"{i % 97},c{i % 12:02d}" for i in range(1200)])
    best, good = (
        loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset=preset)))
        for preset in ("best", "good")
    )
    assert (best.folds.n, good.folds.n) == (8, 5)
    short = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best", limit="60s")))
    assert short.folds.n == 5, "members count for more"
    path = write(tmp_path / "many.csv", "x,y", [f"{i % 97},c{i % 12:02d}" for i in range(3000)])
    many = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best")))
    read = tuple(f"base/{name}/proba" for name in list(many.levels["base"])[:8])
    assert many.levels["meta"]["gated"].reads == read


def test_many_rows_of_classes_get_more_folds(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 10_000)
    best = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best")))
    good = loaded(tmp_path, scaffold_config(path, "y"))
    assert (best.folds.n, good.folds.n) == (8, 5)
    labels: list[object] = ["rare" if i < 6 else "usual" for i in range(10_000)]
    rare = table(tmp_path / "rare.csv", 10_000, y=labels)
    few = loaded(tmp_path, scaffold_config(rare, "y", wishes=Wishes(preset="best")))
    assert few.folds.n == 5, "a fold needs a row of each class"


def test_members_are_chosen_for_columns_as_they_are_and_as_they_are_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Table] = []
    choose = Portfolio.chosen

    def chosen(self: Portfolio, preset: str, table: Table, limit: float | None = None) -> Choice:
        asked.append(table)
        return choose(self, preset, table, limit)

    monkeypatch.setattr(Portfolio, "chosen", chosen)
    codes: list[object] = [f"c{(i * 7) % 40:02d}" for i in range(600)]
    scaffold_config(table(tmp_path / "t.csv", 600, c=codes, d=codes), "y")
    assert [(one.n_columns, one.n_own, one.n_categories) for one in asked] == [(2 + 80, 4, 2)]


def test_a_limit_that_leaves_time_is_spent_on_assignments_of_folds_and_on_seeds(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 600)
    short, long = (
        loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best", limit=limit)))
        for limit in ("60s", "10m")
    )
    assert long.folds.repeats > short.folds.repeats
    seeds = {name: getattr(one, "seeds", 1) for name, one in long.levels["base"].items()}
    assert seeds["linear"] == 1 and seeds["gbm"] > 1


def test_a_limit_of_time_decides_how_much_is_tried(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", 6000)
    few, many = (
        loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best", limit=limit)))
        for limit in ("20s", "10m")
    )
    assert few.limits.seconds == 20
    assert set(few.levels["base"]) < set(many.levels["base"])


def test_what_is_told_goes_into_the_config(tmp_path: Path) -> None:
    path = table(
        tmp_path / "t.csv",
        team=[f"t{i % 20}" for i in range(120)],
        day=[f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(120)],
    )
    wishes = Wishes(group="team", time="day", metric="accuracy", limit="10m", encoding="latin-1")
    config = loaded(tmp_path, scaffold_config(path, "y", wishes=wishes))
    assert (config.data.group, config.data.time, config.data.encoding) == ("team", "day", "latin-1")
    assert (config.metric, config.limits.seconds) == ("accuracy", 600)
    config = loaded(tmp_path, scaffold_config(path, "x", wishes=Wishes(task="regression")))
    assert (config.task, config.metric) == ("regression", "rmse")


def test_a_metric_decides_between_classes_and_values(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", grade=[i % 5 for i in range(120)])
    assert loaded(tmp_path, scaffold_config(path, "grade")).task == "multiclass"
    assert loaded(tmp_path, scaffold_config(path, "grade", wishes=Wishes(metric="mae"))).task == "regression"
    with pytest.raises(ConfigError, match=r"metric must be one of .*; got 'rmsee'.*Did you mean 'rmse'"):
        scaffold_config(path, "grade", wishes=Wishes(metric="rmsee"))
    with pytest.raises(ConfigError, match="metric must fit task binary; got 'rmse'"):
        scaffold_config(path, "y", wishes=Wishes(task="binary", metric="rmse"))


@pytest.mark.parametrize(
    ("target", "wishes", "message"),
    [
        ("name", Wishes(), "a class must have many rows; got 120 distinct values in 120 rows, such as 'n0'"),
        ("same", Wishes(), "target values must differ; got '1' in every row"),
        ("gaps", Wishes(), "every training row must have a target; got none in 1 of 120 rows"),
        ("three", Wishes(task="binary"), "needs exactly 2 classes; got 3; use --task multiclass"),
        ("three", Wishes(task="regression"), "task regression needs numbers; got 'c0'"),
        ("rare", Wishes(), "every class must have at least 2 rows; got one of 'once'"),
        ("x, z", Wishes(task="binary"), "--target must name one column in task binary; got x, z"),
        ("y", Wishes(group="tem"), "--group: .* must have the column 'tem'"),
        ("y", Wishes(time="dya"), "--time: .* must have the column 'dya'"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(
    target: str, wishes: Wishes, message: str, tmp_path: Path
) -> None:
    path = table(
        tmp_path / "t.csv",
        name=[f"n{i}" for i in range(120)],
        same=[1] * 120,
        gaps=["", *(["a", "b"] * 60)[1:]],
        three=[f"c{i % 3}" for i in range(120)],
        rare=["once", *(["a", "b"] * 60)[1:]],
    )
    with pytest.raises(DataError, match=message):
        scaffold_config(path, target, wishes=wishes)


def test_files_that_are_not_there_and_options_that_are_none_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv")
    for role, files in (("test", (tmp_path / "tets.csv", None)), ("sample", (None, tmp_path / "no.csv"))):
        with pytest.raises(DataError, match="there is no such file"):
            scaffold_config(path, "y", *files)
        assert role
    for limit in ("soon", "0", "-3m", "10x"):
        with pytest.raises(UsageError, match=f"--limit must be a time such as 10m.*got '{limit}'"):
            scaffold_config(path, "y", wishes=Wishes(limit=limit))
    with pytest.raises(UsageError, match="must name a column of its own; got 'x', which is --time too"):
        scaffold_config(path, "y", wishes=Wishes(group="x", time="x"))


def test_what_cannot_be_learnt_from_is_left_out_and_said(tmp_path: Path) -> None:
    n = 120
    path = table(
        tmp_path / "t.csv",
        constant=[3] * n,
        empty=[""] * n,
        story=[f"a long story of many words number {i} and more" for i in range(n)],
        user_id=[1000 + i for i in range(n)],
        id=[i // 2 for i in range(n)],
        day=[f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(n)],
        written=[f"{13 + i % 15}/{1 + i % 9:02d}/2024" for i in range(n)],
        ticket=[f"{i // 2}" if i % 10 < 8 else f"PC {i // 2}" for i in range(n)],
        only_here=[i % 7 for i in range(n)],
    )
    test = write(tmp_path / "test.csv", "x,z,story,day,ticket", ["1,2,s,2024-01-01,3", "2,3,t,2024-01-02,4"])
    text = scaffold_config(path, "y", test)
    config = loaded(tmp_path, text)
    assert set(config.data.drop) == {"constant", "empty", "user_id", "id", "written", "only_here"}
    for said in (
        "left out, constant: constant",
        "left out, empty: empty",
        "story: text   # guessed: texts of several words",
        "left out, dates or times that are not written like 2026-11-21: written",
        "left out, not in test.csv: user_id, only_here",
        '# time: "day"' if '# time: "day"' in text else "# time: day",
    ):
        assert said in text, text
    assert config.data.types == {"ticket": "categorical", "story": "text"}


def test_names_of_several_words_are_told_by_their_words(tmp_path: Path) -> None:
    names = [f'"Family{i}, {("Mr", "Mrs", "Miss")[i % 3]}. First{i}"' for i in range(120)]
    path = table(tmp_path / "t.csv", who=names)
    text = scaffold_config(path, "y")
    assert "who: words   # guessed: names, of which frequent words are told apart" in text
    assert loaded(tmp_path, text).data.types == {"who": "words"}


def test_a_table_of_texts_alone_gets_a_config(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv", "tale,z", [f"a tale of many words number {i},{'ab'[i % 2]}" for i in range(40)]
    )
    config = loaded(tmp_path, scaffold_config(path, "z"))
    assert config.data.types == {"tale": "text"} and config.data.drop == ()


def test_a_long_tail_and_a_rare_class_are_seen(tmp_path: Path) -> None:
    amounts = [round(2.5 ** (i % 13), 1) for i in range(120)]
    path = table(
        tmp_path / "t.csv",
        price=amounts,
        shifted=[value - 5 for value in amounts],
        rare=["a"] * 112 + ["b"] * 8,
    )
    text = scaffold_config(path, "price")
    assert loaded(tmp_path, text).data.target_transform == "log1p"
    assert "long tail (skewness" in text and "rmsle where relative errors count" in text
    assert loaded(tmp_path, scaffold_config(path, "shifted")).data.target_transform == "auto"
    assert (
        loaded(tmp_path, scaffold_config(path, "z", wishes=Wishes(task="regression"))).data.target_transform
        == "auto"
    )
    text = scaffold_config(path, "rare")
    config = loaded(tmp_path, text)
    assert (config.metric, config.folds.n) == ("roc_auc", 5)
    assert "6.7 % of the rows are 'b'" in text


def test_the_folds_fit_the_rarest_class_and_wide_tables_are_reduced(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", kind=["a"] * 117 + ["b"] * 3)
    text = scaffold_config(path, "kind")
    assert loaded(tmp_path, text).folds.n == 3 and "the rarest class has 3 rows" in text
    assert "reduce: 16" in text
    wide = {f"f{j}": [(i * j) % 13 for i in range(600)] for j in range(1, 120)}
    assert "reduce: 16" in scaffold_config(table(tmp_path / "w.csv", 600, **wide), "y")
    assert "reduce" not in scaffold_config(table(tmp_path / "n.csv", 600), "y")


@pytest.mark.parametrize("texts", ["{:.2f} €", "{:,.1f}", "{:.1f}%", "{:.3f}"])
def test_a_target_is_a_number_however_it_is_written(texts: str, tmp_path: Path) -> None:
    values = [texts.format(1234.567 * (i - 20) + i).translate(str.maketrans(",.", ".,")) for i in range(60)]
    train = write(tmp_path / "train.csv", "a;price", [f"{i};{value}" for i, value in enumerate(values)])
    config = loaded(tmp_path, scaffold_config(train, "price"))
    assert (config.task, config.metric) == ("regression", "rmse")


def test_texts_that_stand_for_a_missing_target_are_named(tmp_path: Path) -> None:
    rows = [f"{i},{'n/a' if i % 9 == 0 else i * 1.5}" for i in range(60)]
    train = write(tmp_path / "train.csv", "a,price", rows)
    with pytest.raises(DataError, match=r"must have a target; got none \('n/a'\) in 7 of 60 rows; remove"):
        scaffold_config(train, "price")


def test_a_count_that_is_called_like_a_group_is_none(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", households=[i // 5 for i in range(120)])
    assert loaded(tmp_path, scaffold_config(path, "y")).data.group is None


@pytest.mark.parametrize(("rows_each", "group"), [(1, None), (2, "student")])
def test_a_group_has_several_rows_however_few(rows_each: int, group: str | None, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", student=[1000 + i // rows_each for i in range(120)])
    assert loaded(tmp_path, scaffold_config(path, "y")).data.group == group


@pytest.mark.parametrize(("first", "group"), [(100, "user_id"), (0, None)])
def test_rows_to_predict_of_known_groups_need_no_folds_by_group(
    first: int, group: str | None, tmp_path: Path
) -> None:
    train = table(tmp_path / "t.csv", user_id=[i // 4 for i in range(120)])
    test = write(tmp_path / "test.csv", "x,z,user_id", [f"1,2,{first + i}" for i in range(30)])
    text = scaffold_config(train, "y", test)
    assert loaded(tmp_path, text).data.group == group
    said = "0 % of the rows of test.csv are of known ones" if group else "100 % of the rows of test.csv have"
    assert said in text


@pytest.mark.parametrize(("year", "time"), [(2025, "day"), (2024, None)])
def test_folds_follow_time_where_all_rows_to_predict_are_later(
    year: int, time: str | None, tmp_path: Path
) -> None:
    days = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(120)]
    train = table(tmp_path / "t.csv", day=days)
    test = write(tmp_path / "test.csv", "x,z,day", [f"1,2,{year}-01-{i:02d}" for i in range(1, 20)])
    text = scaffold_config(train, "y", test)
    assert loaded(tmp_path, text).data.time == time
    assert ("guessed: all rows of test.csv are later" in text) == (time is not None)


@pytest.mark.parametrize(
    ("cells", "time", "said"),
    [
        (
            {4: "", 5: "soon"},
            "day",
            "2 of 20 cells of it in test.csv cannot be read as dates; folds follow time",
        ),
        ({4: ""}, "day", "1 of 20 cells of it in test.csv cannot be read as dates; folds follow time"),
        (
            {3: "", 4: "", 5: "soon"},
            None,
            "3 of 20 cells of it in test.csv cannot be read as dates, so nobody",
        ),
        (
            {i: f"{1 + i:02d}/01/2025" for i in range(20)},
            None,
            "20 of 20 cells of it in test.csv cannot be read",
        ),
        (
            {0: "2024-01-05"},
            None,
            "19 of 20 dates of test.csv are later than all of training, the others not",
        ),
        ({0: "2024-01-05", 1: ""}, None, "18 of 19 dates of test.csv are later than all of training"),
        (
            {i: f"2024-02-{1 + i:02d}" for i in range(18)},
            None,
            "2 of 20 dates of test.csv are later than all",
        ),
        ({i: f"2024-02-{1 + i:02d}" for i in range(19)}, None, ""),
    ],
)
def test_dates_that_can_be_read_tell_whether_rows_to_predict_are_later(
    cells: dict[int, str], time: str | None, said: str, tmp_path: Path
) -> None:
    days = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(120)]
    train = table(tmp_path / "t.csv", day=days)
    later = [cells.get(i, f"2025-01-{1 + i:02d}") for i in range(20)]
    test = write(tmp_path / "test.csv", "x,z,day", [f"1,2,{day}" for day in later])
    text = scaffold_config(train, "y", test)
    assert loaded(tmp_path, text).data.time == time
    told = [line for line in guesses_of(text) if "later than" in line]
    assert len(told) == bool(said) and all(said in line for line in told)
    assert all(("init --time day" in line) == (time is None) for line in told)


def test_a_doubt_about_one_date_is_not_said_where_another_is_taken_as_time(tmp_path: Path) -> None:
    days = [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(120)]
    train = table(tmp_path / "t.csv", born=days, day=days)
    test = write(tmp_path / "test.csv", "x,z,born,day", [f"1,2,,2025-01-{i:02d}" for i in range(1, 20)])
    text = scaffold_config(train, "y", test)
    assert loaded(tmp_path, text).data.time == "day" and "doubtful" not in text


def test_later_rows_go_through_models_of_all_rows_whose_readers_suit_that(tmp_path: Path) -> None:
    days = [str(np.datetime64("2020-01-01") + i) for i in range(12_000)]
    path = table(tmp_path / "t.csv", n=12_000, day=days, y=[(37 * i) % 997 for i in range(12_000)])
    apart = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best")))
    later = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset="best", time="day")))
    assert (apart.stack.averaging, later.stack.averaging) == ("late", "refit")
    assert "trees" in apart.levels["meta"] and "trees" not in later.levels["meta"]
    nets = [
        [member.emit for member in one.levels["base"].values() if hasattr(member, "net")]
        for one in (apart, later)
    ]
    assert any(emit != ("prediction",) for emit in nets[0])
    assert nets[1] and all(emit == ("prediction",) for emit in nets[1])


def test_folds_along_time_are_the_latest_parts_so_that_little_is_unseen(tmp_path: Path) -> None:
    days = [str(np.datetime64("2020-01-01") + i) for i in range(3000)]
    path = table(tmp_path / "t.csv", n=3000, day=days)
    folds = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(time="day"))).folds
    assert (folds.n, folds.test_size) == (6, 150)
    few = table(tmp_path / "few.csv", n=600, day=days[:600])
    folds = loaded(tmp_path, scaffold_config(few, "y", wishes=Wishes(time="day"))).folds
    assert (folds.n, folds.test_size) == (5, None)


def test_a_told_metric_leaves_the_folds_to_the_rarest_class(tmp_path: Path) -> None:
    kinds = ["a"] * 60 + ["b"] * 57 + ["c"] * 3
    path = table(tmp_path / "t.csv", kind=kinds)
    text = scaffold_config(path, "kind", wishes=Wishes(metric="log_loss"))
    assert loaded(tmp_path, text).folds.n == 3


def test_classes_that_are_whole_numbers_may_be_marks(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", marks=[1 + i % 5 for i in range(120)])
    assert "5 classes; whole numbers: --task regression" in scaffold_config(path, "marks")
    words = table(tmp_path / "w.csv", words=["abcde"[i % 5] for i in range(120)])
    assert "whole numbers" not in scaffold_config(words, "words")


@pytest.mark.parametrize("word", ["NA", "None", "?"])
def test_a_class_that_is_called_like_a_missing_value_is_one(word: str, tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", region=["EU", word, "AS"] * 40)
    text = scaffold_config(path, "region")
    config = loaded(tmp_path, text)
    assert config.data.not_missing == {"region": (word,)} and config.task == "multiclass"
    assert "guessed: a class (40 rows), no missing value" in text


def test_rows_without_any_class_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", region=["EU", "", "AS"] * 40)
    with pytest.raises(DataError, match="every training row must have a target; got none in 40 of 120 rows"):
        scaffold_config(path, "region")


def test_folders_that_a_config_may_not_lead_to_by_itself_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, data = tmp_path / "project", tmp_path / "data"
    for folder in (project / "in", data):
        folder.mkdir(parents=True)
        table(folder / "t.csv")
    (project / "link.csv").symlink_to(data / "t.csv")
    monkeypatch.chdir(project)
    inside, outside, link = Path("in/t.csv"), Path("../data/t.csv"), Path("link.csv")
    assert folders_outside([inside, None, Path("sklearn:iris")], project) == []
    assert folders_outside([inside, outside, link], project) == [Path("../data")]


def test_a_target_says_what_a_comma_is_in_other_columns(tmp_path: Path) -> None:
    miles: list[object] = [f'"{7000 + 137 * i:,}"' for i in range(120)]
    prices: list[object] = [f'"${9000 + 310 * i:,}"' for i in range(120)]
    path = table(tmp_path / "t.csv", miles=miles, y=prices)
    text = scaffold_config(path, "y")
    config = loaded(tmp_path, text)
    assert config.task == "regression" and not config.data.drop, text


def test_the_remedy_for_another_encoding_is_an_option_of_init(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", city=["Köln", "Ulm"] * 60)
    path.write_bytes(path.read_text("utf-8").encode("latin-1"))
    with pytest.raises(DataError, match=r"is not UTF-8 .*; set --encoding, such as cp1252 or latin-1"):
        scaffold_config(path, "y")
    config = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(encoding="latin-1")))
    assert config.data.encoding == "latin-1"


def dated_members(config: RunConfig) -> dict[str, tuple[str, ...] | None]:
    return {name: member.inputs for name, member in config.levels["base"].items()}


@pytest.mark.parametrize("preset", ["quick", "good", "best"])
def test_where_folds_follow_time_boosting_reads_the_date_and_some_does_not(
    preset: str, tmp_path: Path
) -> None:
    days = [str(np.datetime64("2020-01-01") + i // 4) for i in range(3000)]
    path = table(tmp_path / "t.csv", n=3000, day=days)
    config = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset=preset, time="day")))
    assert config.data.inputs is not None
    assert {name: one.columns for name, one in config.data.inputs.items()} == {
        "table": ("*",),
        "date": ("day",),
    }
    inputs = dated_members(config)
    readers = {name for name in inputs if name.endswith("_dated")}
    assert readers and all(inputs[name] == ("table", "date") for name in readers)
    assert all(inputs[name] == ("table",) for name in inputs if name not in readers)
    twins = [(name.removesuffix("_dated"), name) for name in readers if name.removesuffix("_dated") in inputs]
    assert twins
    for pair in twins:
        original, twin = (config.levels["base"][one] for one in pair)
        assert isinstance(twin, EstimatorOptions) and searches_rounds(twin.estimator, twin.params)
        assert isinstance(original, EstimatorOptions)
        assert (twin.estimator, twin.params) == (original.estimator, original.params)
    plain = loaded(tmp_path, scaffold_config(path, "y", wishes=Wishes(preset=preset)))
    assert plain.data.inputs is None and not any(dated_members(plain).values())


def test_nobody_reads_a_time_that_rows_to_predict_have_not_or_that_says_nothing(tmp_path: Path) -> None:
    n = 1500
    columns = {
        "step": list(range(n)),
        "day": [str(np.datetime64("2020-01-01") + i // 4) for i in range(n)],
        "word": [f"t{i // 100:02d}" for i in range(n)],
    }
    path = table(tmp_path / "t.csv", n, **columns)
    test = write(tmp_path / "test.csv", "x,z,step", [f"1,2,{n + i}" for i in range(30)])

    def dated(time: str, test: Path | None = None) -> bool:
        config = loaded(tmp_path, scaffold_config(path, "y", test, wishes=Wishes(time=time)))
        assert config.data.time == time and config.stack.averaging == "refit"
        return config.data.inputs is not None

    assert [dated("step"), dated("step", test), dated("day"), dated("day", test)] == [True, True, True, False]
    assert not dated("word")


def test_a_config_that_leaves_members_open_keeps_its_own_inputs(tmp_path: Path) -> None:
    days = [str(np.datetime64("2020-01-01") + i // 4) for i in range(1500)]
    table(tmp_path / "t.csv", 1500, day=days)
    text = "data: {train: t.csv, target: y, time: day%s}\n"
    own = loaded(tmp_path, text % ", inputs: {mine: {columns: [x]}}")
    assert own.data.inputs is not None and set(own.data.inputs) == {"mine"}
    assert not any(dated_members(own).values())
    open_ = loaded(tmp_path, text % "")
    assert ("table", "date") in dated_members(open_).values()
