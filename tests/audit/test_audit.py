"""audit: its verdict, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stackfeat.audit import audit as module
from stackfeat.audit.audit import Audit, audit
from stackfeat.audit.leakage_check import Violation
from stackfeat.audit.permutation_test import PermutationTest
from stackfeat.errors import DataError, TrustError, UsageError
from stackfeat.output import stored_run
from stackfeat.store import Store

Project = Any


class Judged:
    """A proof, or a rerun, that found something or nothing."""

    def __init__(self, faults: list[Any] = [], above: list[str] = []) -> None:  # noqa: B006
        self.faults, self.above = faults, above

    def to_json(self) -> dict[str, Any]:
        return {"n_faults": len(self.faults), "n_above": len(self.above)}


@pytest.mark.parametrize(
    ("faults", "above", "passed"),
    [
        ([], None, True),
        ([], [], True),
        ([Violation("own label", "fit 1")], None, False),
        ([Violation("missing", "entry 1")], [], False),
        ([], ["base/a"], False),
    ],
)
def test_an_audit_passes_where_neither_proof_nor_rerun_finds_anything(
    faults: list[Any], above: list[str] | None, passed: bool
) -> None:
    null: Any = None if above is None else Judged(above=above)
    proof: Any = Judged(faults)
    found = Audit(Path("run"), proof, null)
    assert (found.passed, found.exit_code) == (passed, 0 if passed else 1)
    said = json.loads(json.dumps(found.to_json()))
    assert said["verdict"] == ("pass" if passed else "fail")
    assert said["provenance"]["n_faults"] == len(faults)
    assert said["null"] == (None if above is None else {"n_faults": 0, "n_above": len(above)})


def test_a_rerun_that_judged_nobody_finds_nothing() -> None:
    proof: Any = Judged()
    assert Audit(Path("run"), proof, PermutationTest(1, 50, 25, failed={"base/a": "why"})).passed


def test_without_the_rerun_no_code_of_the_run_is_asked_for(
    plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("code was asked for")

    for name in ("code_of_run", "run_permutation_test", "_refuse_untrusted"):
        monkeypatch.setattr(module, name, refuse)
    found = audit(plain.run_folder, null=False)
    assert found.passed and found.null is None
    said = json.loads((plain.run_folder / "audit.json").read_text())
    assert said["options"] is None and said["verdict"] == "pass"


def test_code_that_was_not_agreed_to_is_named_before_anything_is_computed(
    plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "check_provenance", None)
    path = plain.run_folder / "config.yaml"
    (plain.folder / "mine.py").write_text("def cost(y_true, y_pred): ...\n")
    text = path.read_text().replace("metric: log_loss", "metric: mine:cost")
    assert "mine:cost" in text
    path.write_text(text)
    with pytest.raises(TrustError, match="must be agreed to; got mine:cost; read it, then give --trust-code"):
        audit(plain.run_folder, trust_code=False)
    assert not (plain.run_folder / "audit.json").exists()


def test_a_config_that_is_not_as_the_run_wrote_it_is_a_data_error(plain: Project) -> None:
    (plain.run_folder / "config.yaml").write_text("task: binary\nlevels: 3\n")
    with pytest.raises(DataError) as caught:
        audit(plain.run_folder, null=False)
    said = str(caught.value)
    assert "config.yaml must be as the run wrote it; got " in said and said.endswith("; run the config again")
    assert "\n" not in said and "pydantic" not in said


def test_a_run_that_took_the_folder_in_the_meantime_is_not_audited_as_the_old_one(
    plain: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, answers = module.read_provenance, []

    def changed(folder: Path) -> Any:
        answers.append(read(folder))
        return answers[0] if len(answers) == 1 else replace(answers[0], folds="another")

    monkeypatch.setattr(stored_run, "read_provenance", changed)
    monkeypatch.setattr(module, "read_provenance", changed)
    with pytest.raises(UsageError, match="must be one run's while it is audited; got a new one; do it again"):
        audit(plain.run_folder, null=False)
    assert not (plain.run_folder / "audit.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["nowhere"], 2, "must be the folder of a finished run"),
        (["RUN", "--permutations", "0"], 2, "permutations must be at least 1; got permutations=0"),
        (["RUN", "--rows", "3"], 2, "rows must be at least 50"),
        (["RUN", "--jobs", "0"], 2, "jobs must be at least 1"),
        (["RUN", "--seed", "-1"], 2, "seed must be at least 0; got seed=-1"),
        (["RUN", "--seed", "9" * 30], 2, "seed must be at most 9223372036854775807; got seed=999"),
        (["RUN", "--jobs", "5000"], 2, "jobs must be at most 1024; got jobs=5000"),
        (["RUN", "--store", "nowhere"], 3, "say where it is with --store"),
    ],
)
def test_wrong_use_is_said(arguments: list[str], code: int, part: str, quick: Project) -> None:
    said = quick.cli("audit", *[quick.run_folder if word == "RUN" else word for word in arguments])
    assert (said.code, part in said.err) == (code, True), said.err
    assert "Traceback" not in said.err and not (quick.run_folder / "audit.json").exists()


def audited(project: Project, *arguments: object) -> Any:
    return project.cli("audit", project.run_folder, *arguments)


def test_a_run_whose_rows_are_gone_is_a_data_error(quick: Project) -> None:
    key = json.loads((quick.run_folder / "provenance.json").read_text())["samples"]
    shutil.rmtree(Store(quick.folder / ".stackfeat").read(key).path)
    said = audited(quick, "--no-null")
    assert said.code == 3 and "must be in its store" in said.err
    (quick.run_folder / "provenance.json").write_text('{"format": 1}')
    assert audited(quick, "--no-null").code == 3
    (quick.run_folder / "provenance.json").write_text("{")
    assert audited(quick, "--no-null").code == 3


def test_a_moved_store_is_found(quick: Project) -> None:
    (quick.folder / ".stackfeat").rename(quick.folder / "elsewhere")
    assert audited(quick, "--no-null").code == 3
    assert audited(quick, "--no-null", "--store", quick.folder / "elsewhere").code == 0
