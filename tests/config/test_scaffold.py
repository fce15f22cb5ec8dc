"""The first config of a project loads without problems and says what was guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackfeat.config import RunConfig, load_config
from stackfeat.config.scaffold import Wishes, scaffold_config
from stackfeat.errors import DataError
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
    assert {level: set(members) for level, members in config.levels.items()} == {
        "base": {"mlp_small", "gbm", "linear"},
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


def test_few_whole_numbers_are_classes_and_many_are_values(tmp_path: Path) -> None:
    few = write(tmp_path / "few.csv", "x,y", [f"{i},{i % 5}" for i in range(100)])
    many = write(tmp_path / "many.csv", "x,y", [f"{i},{i}" for i in range(100)])
    text = write(tmp_path / "text.csv", "x,y", [f"{i},{'yes' if i % 2 else 'no'}" for i in range(100)])
    assert [loaded(tmp_path, scaffold_config(path, "y")).task for path in (few, many, text)] == [
        "multiclass",
        "regression",
        "binary",
    ]


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


@pytest.mark.parametrize(("n_rows", "net"), [(9999, "mlp"), (10_000, "realmlp")])
def test_rows_enough_get_the_better_net(n_rows: int, net: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "x,y", [f"{i % 97},{i % 2}" for i in range(n_rows)])
    members = loaded(tmp_path, scaffold_config(path, "y")).levels["base"]
    first = next(iter(members.values()))
    assert isinstance(first, NetOptions) and first.net == net
    assert first.train.schedule == ("coslog4" if net == "realmlp" else "cosine")
    assert first.train.patience is not None
