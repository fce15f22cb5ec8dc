"""Names of a config become objects, or errors that say what to do."""

import hashlib
import subprocess
import sys

import pytest

from stackfeat.errors import ConfigError, MissingExtraError, TrustError
from stackfeat.registry.names import ESTIMATORS, NETS
from stackfeat.registry.resolve import check_name, is_user_code, resolve, source_hash, suggest

TABLE = {"ridge": "sklearn.linear_model:Ridge"}


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_nearest_name_is_suggested():
    assert suggest("acuracy", ["accuracy", "rmse"]) == " Did you mean 'accuracy'?"
    assert suggest("RMSE", ["accuracy", "rmse"]) == " Did you mean 'rmse'?"
    assert suggest("zzzz", ["accuracy"]) == ""


def test_a_short_name_resolves_through_the_table():
    from sklearn.linear_model import Ridge

    assert resolve("ridge", TABLE, "estimator") is Ridge


@pytest.mark.parametrize("name", ["sklearn.svm.SVC", "sklearn.svm:SVC", "lightgbm.LGBMClassifier"])
def test_trusted_packages_resolve_without_trust(name):
    check_name(name, TABLE, "estimator")
    assert isinstance(resolve(name, TABLE, "estimator"), type)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("rigde", ConfigError, r"estimator must be one of ridge.*got 'rigde'. Did you mean 'ridge'\?"),
        ("LGBMClasifier", ConfigError, r"got 'LGBMClasifier'. Did you mean 'lightgbm.LGBMClassifier'\?"),
        ("SVC", ConfigError, r"got 'SVC'. Did you mean 'sklearn.svm.SVC'\?"),
        (
            "sklearn.linear_modle.Ridge",
            ConfigError,
            "no module 'sklearn.linear_modle'. Did you mean 'linear_model'",
        ),
        ("sklearn.linear_model.Rigde", ConfigError, "has no 'Rigde'. Did you mean 'Ridge'"),
        ("lightgbm.LGBMClasifier", ConfigError, "Did you mean 'LGBMClassifier'"),
        ("sklern.svm.SVC", TrustError, "Did you mean 'sklearn'"),
        ("os:system", TrustError, "--trust-code"),
        ("my_nets:Net", TrustError, r"--trust-code \(trust_code=True\)"),
        ("a b:Net", ConfigError, "must be one of"),
        ("", ConfigError, "must be one of"),
    ],
)
def test_wrong_names_are_refused_by_check_and_resolve_alike(name, error, message):
    for function in (check_name, resolve):
        with pytest.raises(error, match=message):
            function(name, TABLE, "estimator")


def test_a_trusted_package_that_is_not_installed_is_named():
    with pytest.raises(MissingExtraError, match="pip install no_such_package"):
        check_name("no_such_package.Model", TABLE, "estimator", packages=("no_such_package",))


@pytest.mark.parametrize(
    "name",
    [
        "lightgbm.basic.OrderedDict",
        "sklearn.utils.validation.numbers",
        "sklearn.utils._testing.assert_run_python_script_without_output",
        "sklearn.datasets.fetch_file",
        "sklearn.linear_model.lars_path",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.calibration.LinearSVC",
        "sklearn.model_selection.KFold",
        "xgboost.Booster",
    ],
)
def test_what_is_not_on_the_allow_list_is_refused_though_its_package_is_known(name):
    for function in (check_name, resolve):
        with pytest.raises(TrustError, match=r"not on the list of those.*--trust-code"):
            function(name, TABLE, "estimator")


def test_a_file_beside_the_config_cannot_stand_in_for_a_trusted_package(tmp_path):
    write(tmp_path, "sklearn.py", "raise SystemExit")
    with pytest.raises(TrustError, match="take its place"):
        check_name("sklearn.svm.SVC", TABLE, "estimator", search_path=tmp_path)


def test_user_code_needs_trust_and_is_found_in_the_search_path(tmp_path):
    write(tmp_path, "lookup_nets_a.py", "class Net:\n    size = 3\n")
    with pytest.raises(TrustError):
        check_name("lookup_nets_a:Net", NETS, "net", search_path=tmp_path)
    check_name("lookup_nets_a:Net", NETS, "net", trust_code=True, search_path=tmp_path)
    net = resolve("lookup_nets_a:Net", NETS, "net", trust_code=True, search_path=tmp_path)
    assert net.size == 3
    assert str(tmp_path) not in sys.path
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lookup_nets_b:Nte", "has no 'Nte'. Did you mean 'Net'"),
        ("lookup_netz_b:Net", "no module 'lookup_netz_b'. Did you mean 'lookup_nets_b'.*Looked in"),
        ("lookup_nets_b.Net", "Write 'lookup_nets_b:Net'"),
        ("lookup_nets_b.py:Net", "Write 'lookup_nets_b:Net', without '.py'"),
    ],
)
def test_mistakes_in_user_names_are_found_without_importing(tmp_path, name, message):
    write(tmp_path, "lookup_nets_b.py", "raise SystemExit\nclass Net: ...\n")
    with pytest.raises(ConfigError, match=message):
        check_name(name, NETS, "net", trust_code=True, search_path=tmp_path)
    assert "lookup_nets_b" not in sys.modules


def test_user_code_that_cannot_be_imported_is_a_config_error(tmp_path):
    write(tmp_path, "lookup_broken.py", "class Net: ...\nimport no_such_thing_at_all\n")
    with pytest.raises(ConfigError, match=r"must be importable; got ModuleNotFoundError.*Repair"):
        resolve("lookup_broken:Net", NETS, "net", trust_code=True, search_path=tmp_path)


def test_namesakes_in_two_folders_are_kept_apart(tmp_path):
    for size in (1, 2):
        write(
            tmp_path / str(size), "lookup_same.py", "from lookup_part import size\nclass Net:\n    n = size\n"
        )
        write(tmp_path / str(size), "lookup_part.py", f"size = {size}\n")
    for size in (1, 2, 1):
        net = resolve("lookup_same:Net", NETS, "net", trust_code=True, search_path=tmp_path / str(size))
        assert net.n == size


def test_the_first_on_the_path_counts_not_a_namesake_imported_before(tmp_path, monkeypatch):
    write(tmp_path, "one/samename3.py", "class First:\n    pass\n")
    write(tmp_path, "two/samename3.py", "class Second:\n    pass\n")
    for folder, name in (("one", "First"), ("two", "Second")):
        monkeypatch.syspath_prepend(tmp_path / folder)
        found = resolve(f"samename3:{name}", TABLE, "estimator", trust_code=True)
        assert found.__name__ == name


def test_an_edited_file_is_read_again_even_within_a_second(tmp_path):
    for size in (1, 2):
        write(tmp_path, "lookup_edited.py", f"class Net:\n    n = {size}\n")
        net = resolve("lookup_edited:Net", NETS, "net", trust_code=True, search_path=tmp_path)
        assert net.n == size


def test_an_unchanged_file_gives_the_same_class_again(tmp_path):
    write(tmp_path, "lookup_stable.py", "class Net: ...\n")
    first, second = (
        resolve("lookup_stable:Net", NETS, "net", trust_code=True, search_path=tmp_path) for _ in range(2)
    )
    assert first is second


def test_source_hash_is_the_hash_of_the_file_and_sees_local_imports(tmp_path):
    path = write(tmp_path, "lookup_hash.py", "class Net: ...\n")
    assert source_hash("lookup_hash:Net", tmp_path) == hashlib.sha256(path.read_bytes()).hexdigest()
    write(tmp_path, "lookup_hash.py", "from lookup_deep.inner import size\nclass Net: ...\n")
    write(tmp_path, "lookup_deep/__init__.py", "")
    write(tmp_path, "lookup_deep/inner.py", "from . import more\nsize = 1\n")
    write(tmp_path, "lookup_deep/more.py", "other = 1\n")
    before = source_hash("lookup_hash:Net", tmp_path)
    write(tmp_path, "lookup_deep/more.py", "other = 2\n")
    assert source_hash("lookup_hash:Net", tmp_path) != before
    with pytest.raises(ConfigError, match="no module 'lookup_none'"):
        source_hash("lookup_none:Net", tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ridge", False), ("sklearn.svm.SVC", False), ("my.nets:Net", True), ("plain", False)],
)
def test_user_code_is_what_no_table_and_no_trusted_package_holds(name, expected):
    assert is_user_code(name, TABLE) is expected


def test_checking_names_and_metrics_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from stackfeat.registry.resolve import check_name\n"
        "from stackfeat.metrics.registry import get_metric\n"
        "check_name('sklearn.svm.SVC', {}, 'estimator')\n"
        "check_name('lightgbm.LGBMClassifier', {}, 'estimator')\n"
        "get_metric('roc_auc', 'binary')\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'pandas', 'lightgbm') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_table_entries_are_well_formed():
    for path in [*NETS.values(), *ESTIMATORS.values()]:
        module, _, name = path.partition(":")
        assert module.startswith("stackfeat.")
        assert name.isidentifier()
