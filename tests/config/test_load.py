"""Loading a good config: values, lines, speed, the example of the documentation, --set."""

from __future__ import annotations

import contextlib
import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackfeat.config import LoadedConfig, config_from_dict, load_config
from stackfeat.config.run_config import value_at
from stackfeat.config.yaml_file import parse_yaml
from stackfeat.errors import ConfigError, DataWarning

Load = Callable[..., LoadedConfig]
EXAMPLE = Path(__file__).with_name("example.yaml")
DATA = {"train": "sklearn:iris"}


def test_a_good_config_is_loaded_with_its_lines(load: Load, good: str, folder: Path) -> None:
    loaded = load(good)
    assert loaded.folder == folder
    assert loaded.path == folder / "c.yaml"
    assert loaded.config.levels["base"]["mlp"].train.lr == 1e-3  # type: ignore[union-attr]
    assert loaded.config.levels["base"]["gbm"].params == {"class_weight": {0: 1, 1: 5}}  # type: ignore[union-attr]
    assert loaded.lines["levels.base.mlp.train.lr"] == 13
    assert loaded.lines["levels.final.soft.inputs.1"] == 19


def test_a_dict_is_checked_like_a_file(folder: Path) -> None:
    values = {
        "task": "multiclass",
        "metric": "log_loss",
        "data": DATA,
        "levels": {"base": {"a": {"net": "mlp"}}},
    }
    loaded = config_from_dict(values, folder)
    assert loaded.path is None
    assert loaded.config.data.train == "sklearn:iris"
    with pytest.raises(ConfigError, match=r"^levels\.base\.a\.trian: 'trian' is not an option here"):
        config_from_dict({**values, "levels": {"base": {"a": {"net": "mlp", "trian": {}}}}}, folder)


def test_every_key_of_the_documented_example_is_read_or_named_as_not_built(folder: Path) -> None:
    (folder / "c.yaml").write_text(EXAMPLE.read_text())
    for name in (
        "sample_submission.csv",
        "mine.csv",
        "mate_oof.csv",
        "mate_test.csv",
        "vgg.safetensors",
        *(f"best_model{fold}.pt" for fold in range(5)),
    ):
        (folder / name).write_text("id\n1\n")
    (folder / "my_pkg").mkdir()
    (folder / "my_pkg" / "nets.py").write_text("class DNN: ...\nclass VGG: ...\n")
    with pytest.warns(DataWarning, match="data.positive"), pytest.raises(ConfigError) as error:
        load_config(folder / "c.yaml", trust_code=True)
    found = {problem.where: problem.message for problem in error.value.problems}
    assert "allow_early: true" in found.pop("levels.meta.gbm2.inputs")
    assert "names an array of a npz file; got 'X' and train.csv" in found.pop("data.inputs.image.array")
    not_built = found
    assert all("is not built yet; " in message for message in not_built.values())
    assert set(not_built) == {
        "limits.memory",
        "limits.disk",
    }


def test_loading_imports_nothing_heavy_and_is_fast(folder: Path, good: str) -> None:
    (folder / "c.yaml").write_text(good.replace("log_loss", "roc_auc"))
    code = (
        "import sys, time; start = time.process_time(); from stackfeat.config import load_config; "
        "load_config('c.yaml'); seconds = time.process_time() - start; "
        "heavy = {'torch', 'pandas', 'sklearn', 'scipy', 'lightgbm', 'matplotlib'} & set(sys.modules); "
        "assert not heavy, heavy; print(seconds)"
    )
    root = str(Path(__file__).parents[2])
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": root}, capture_output=True, text=True
        )
        for _ in range(3)
    ]
    assert not runs[0].stderr
    # Processor time, several times what was measured, so that a busy machine does not fail it.
    assert min(float(run.stdout) for run in runs) < 2.0


def test_time_folds_need_one_fold_more_than_fitted_levels(load: Load, good: str) -> None:
    text = good.replace("  id: row_id", "  id: row_id\n  time: t") + "folds: {n: 2}\n"
    load(text)
    meta = '  meta2:\n    b: {estimator: gated_linear, inputs: ["meta/*"]}\n  final:'
    with pytest.raises(ConfigError, match=r"folds\.n: time folds need one fold more"):
        load(text.replace("  final:", meta))


def test_submit_must_name_one_member_that_predicts(load: Load, good: str) -> None:
    assert load(good + "submit: gated\n").config.submit == "gated"
    assert load(good + "submit: final/soft\n").config.submit == "final/soft"
    with pytest.raises(
        ConfigError, match=r"submit: must name one member; got 'soft', which is meta/soft and final/soft"
    ):
        load(good.replace("gated:", "soft:") + "submit: soft\n")
    text = good.replace("[proba, penultimate]", "penultimate").replace(", base/mlp/proba", "")
    with pytest.raises(ConfigError, match="submit: 'mlp' emits no predictions"):
        load(text + "submit: mlp\n")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("seed", "7", 7),
        ("levels.base.mlp.train.lr", "1e-4", 1e-4),
        ("levels.base.mlp.params", "{hidden: [8]}", {"hidden": [8]}),
        ("levels.base.mlp.params.dropout", "0.5", 0.5),
        ("levels.base.gbm.params", "{class_weight: {0: 2}}", {"class_weight": {0: 2}}),
        ("levels.base.svc", "{estimator: sklearn.svm.SVC}", None),
        ("levels.final.soft.inputs.1", "base/gbm/proba", "base/gbm/proba"),
        ("folds.n", "3", 3),
        ("outputs.dir", "runs/a=b", "runs/a=b"),
        ("limits.time", "10m", "10m"),
        ("data.test", "", None),
        ("data.types.zip", "categorical", "categorical"),
    ],
)
def test_set_puts_a_value_in_place(load: Load, good: str, path: str, text: str, value: object) -> None:
    found: Any = load(good, overrides=[f"{path}={text}"]).config.model_dump()
    for key in path.split("."):
        found = found[int(key) if key.isdecimal() else key]
    assert value == found or (value is None and found["estimator"] == "sklearn.svm.SVC")


def test_a_later_set_wins_and_names_with_dots_are_found(load: Load, good: str) -> None:
    text = good.replace("    mlp:\n", "    m.1:\n").replace("base/mlp/proba", "base/m.1/proba")
    config = load(text, overrides=["levels.base.m.1.train.lr=1", "levels.base.m.1.train.lr=2"]).config
    assert config.levels["base"]["m.1"].train.lr == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("levels.base.mlp.trian.lr=1", "there is no option 'trian' here; .* Did you mean 'train'?"),
        ("levels.base.mlp.train.lrr=1", "there is no option 'lrr' here; .* Did you mean 'lr'?"),
        ("levels.base.mpl.train.lr=1", "there is no member of level 'base' 'mpl'. Did you mean 'mlp'?"),
        ("levels.bsae.mlp.train.lr=1", "there is no level 'bsae'. Did you mean 'base'?"),
        ("levels.final.soft.inputs.9=a", "items are counted from 0 to 1; got 9"),
        ("seed.x=1", "'seed' is a single value|there is no option"),
        ("metrik=rmse", "Did you mean 'metric'?"),
        ("seed", "must be written path.to.option=value; got 'seed'"),
        ("a..b=1", "must be written path.to.option=value"),
        ("seed=[1", "not valid YAML"),
        ("seed=-1", "must be at least 0; got -1"),
        ("folds.seed=-1", "must be at least 0; got -1"),
        (f"folds.seed={2**32}", "must be below 4294967296; got 4294967296"),
        ("metric=rmse", "metric must fit task multiclass; got 'rmse'"),
        ("levels.base.mlp.train.lr=fast", "must be a number or 'auto'; got 'fast'"),
        ("levels.base.mlp.train={lr: fast}", "must be a number or 'auto'; got 'fast'"),
    ],
)
def test_a_wrong_set_is_explained_and_named(load: Load, good: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as error:
        load(good + "seed: 42\n", overrides=[override])
    assert str(error.value).startswith(f"--set {override}: ")


def test_problems_of_set_and_file_come_together(load: Load, good: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(good.replace("log_loss", "log_los"), overrides=["seeed=1", "folds.n=1"])
    assert sorted(problem.where for problem in error.value.problems) == ["folds.n", "metric", "seeed"]


_ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1e9,
    "",
    "x",
    "a/b",
    "*/*/*",
    [],
    ["proba"],
    [[]],
    {},
    {"tap": 3},
    {"net": "mlp"},
]


def places(values: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in nested dicts and lists."""
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    return [place for key, item in items for place in ((*above, key), *places(item, (*above, key)))]


@pytest.mark.parametrize(
    ("example", "step"),
    [("good", 3), ("documented", 9), pytest.param("documented", 1, marks=pytest.mark.slow)],
)
def test_whatever_stands_anywhere_gives_a_config_or_a_config_error(
    folder: Path, good: str, example: str, step: int
) -> None:
    """A part of the odd values at every place, in turn, and in the slow tests all of them."""
    text = good if example == "good" else EXAMPLE.read_text()
    values = parse_yaml(text).values
    for number, place in enumerate(places(values)):
        for odd in _ODD[number % step :: step]:
            changed = copy.deepcopy(values)
            value_at(changed, place[:-1])[place[-1]] = odd
            with warnings.catch_warnings(), contextlib.suppress(ConfigError):
                warnings.simplefilter("ignore", DataWarning)
                config_from_dict(changed, folder)
