"""What `audit` prints: every fault in a line of its own, each member's worst measure, and a verdict in a sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stackfeat.audit.above_chance import Interval, Verdict
from stackfeat.audit.audit import Audit
from stackfeat.audit.leakage_check import Violation
from stackfeat.audit.permutation_test import PermutationTest
from stackfeat.audit.provenance import BlockCheck, Provenance
from stackfeat.cli.audit import (
    MOST_FAULTS,
    AuditProgress,
    describe_fault,
    print_audit,
    verdict_line,
    worst_of_each,
)

LEAK = Violation("own label", "entry 0abc", "base/tree", "0/3", 7, ("a", "b"))
DAMAGE = Violation("damaged", "oof/base.tree.csv", detail="another hash")


def interval(z: float, limit: float = 3.0) -> Interval:
    """Return an interval whose mean is 0.01 z, with a standard error of 0.01."""
    return Interval.around(0.01 * z, 0.01, limit)


def verdict(
    member: str, oof: float, held_out: float = 0.0, measure: str = "log_loss", limit: float = 3.0
) -> Verdict:
    skills = interval(oof, limit), interval(held_out, limit)
    is_above = any(skill.is_above for skill in skills)
    return Verdict(member, measure, 5, *skills, interval(0), "above chance" if is_above else "at chance")


def audit(
    faults: list[Violation] = [],  # noqa: B006
    verdicts: list[Verdict] | None = None,
    failed: dict[str, str] | None = None,
    **options: Any,
) -> Audit:
    """Return an audit of two blocks, the second of imported files."""
    blocks = [
        BlockCheck("base/tree/proba", 160, faults, ["early stopping"]),
        BlockCheck("base/files/proba", 160, [], [], is_elsewhere=True),
    ]
    null = None if verdicts is None else PermutationTest(5, 120, 40, verdicts, failed or {})
    return Audit(Path("run"), Provenance(160, 10, 9, blocks, [], **options), null)


def printed(found: Audit, width: int = 200) -> str:
    file = io.StringIO()
    print_audit(found, Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            LEAK,
            "base/tree 0/3, entry 0abc: 7 rows that it emits out of fold were fitted on their own labels: "
            "ids a, b, ...",
        ),
        (
            Violation("group", "e", "m", "1/0", 2, ("x", "y"), "held out"),
            "m 1/0, e: 2 rows held out were fitted on rows of their group: ids x, y",
        ),
        (
            Violation("later rows", "e", "m", "0/1", 1, ("x",)),
            "m 0/1, e: 1 rows that it emits out of fold were fitted on later rows: ids x",
        ),
        (DAMAGE, "oof/base.tree.csv: damaged: another hash"),
        (Violation("missing", "e", "m", "0/0", detail="no entry"), "m 0/0, e: missing: no entry"),
    ],
)
def test_a_fault_says_whose_it_is_and_which_rows_in_one_line(fault: Violation, line: str) -> None:
    assert describe_fault(fault) == line


def test_each_member_is_shown_by_the_measure_nearest_to_its_limit() -> None:
    mild, worst = verdict("m", 1.0), verdict("m", -2.0, 2.5, "accuracy")
    narrow, wide = verdict("n", 2.0, limit=2.2), verdict("n", 2.5, limit=9.0)
    assert worst_of_each([mild, narrow, worst, wide]) == [worst, narrow]
    assert worst_of_each([worst, wide, mild, narrow]) == [worst, narrow], "in any order"
    assert worst_of_each([]) == []


def test_a_pass_says_what_is_proven_what_is_not_provable_and_what_was_rerun() -> None:
    assert verdict_line(audit()) == (
        "pass: 1 blocks are proven from what is stored; made elsewhere and not provable: base/files/proba; "
        "not rerun on permuted labels"
    )
    assert verdict_line(audit(verdicts=[verdict("m", 1.0)])).endswith(
        "no member is better than chance on permuted labels"
    )


def test_a_fail_counts_leaks_apart_from_what_cannot_be_proven_and_names_members_once() -> None:
    assert verdict_line(audit([LEAK])) == "fail: 1 fits saw what the rows they emit must not come from"
    assert verdict_line(audit([DAMAGE])) == "fail: 1 entries or files cannot be proven"
    above = [
        verdict("m", 9.0),
        verdict("m", 8.0, measure="accuracy"),
        verdict("n", 0.0, 5.0),
        verdict("o", 0.0),
    ]
    assert verdict_line(audit([LEAK, DAMAGE], above)) == (
        "fail: 1 fits saw what the rows they emit must not come from; 1 entries or files cannot be proven; "
        "better than chance on permuted labels: m, n"
    )


def test_both_tables_and_the_verdict_are_printed() -> None:
    lines = printed(audit([LEAK], [verdict("m", 9.0, 1.0)], {"slow": "no fit"}, n_held=32)).splitlines()
    cells = [" ".join(line.split()) for line in lines]
    assert "from the store: 160 rows, 10 fits, 9 with their own note of rows" in cells
    assert any("no fit on own label, group, time indirectly (no fault: permuted" in cell for cell in cells)
    assert "base/tree/proba 160 1 fault early stopping" in cells
    assert "base/files/proba 160 not provable nothing else" in cells
    assert "held-out rows 32 proven in no fit of any level" in cells
    assert (
        "m log_loss +0.0900 ± 0.0196 +0.0100 ± 0.0196 +0.0000 ± 0.0196 above chance (9.0 se, limit 3.0)"
        in cells
    )
    assert "not judged: slow: no fit" in cells
    assert cells[-1].startswith("fail: ") and any(cell.startswith("fault: base/tree 0/3") for cell in cells)
    assert "permuted labels (" not in printed(audit())


def test_more_faults_than_can_be_read_are_counted() -> None:
    def lines(n: int) -> list[str]:
        faults = [Violation("missing", f"entry {i}") for i in range(n)]
        return printed(audit(faults)).splitlines()

    assert sum(line.startswith("fault: ") for line in lines(MOST_FAULTS + 3)) == MOST_FAULTS
    assert "and 3 faults more, in audit.json" in lines(MOST_FAULTS + 3)
    assert not any("faults more" in line for line in lines(MOST_FAULTS))


def test_names_from_files_begin_no_line_and_are_no_markup() -> None:
    name = "[red]m[/red]\nfail: forged\x1b[2J"
    text = printed(audit([Violation("missing", name)], [verdict(name, 0.0)], {name: name}))
    assert "\x1b" not in text and not any(line.startswith("fail: forged") for line in text.splitlines())
    assert text.count("[red]m[/red]") == 4


def test_lines_for_a_file_are_whole_and_a_table_folds_and_cuts_no_name() -> None:
    ids = tuple(f"row{i:05d}" for i in range(40))
    text = printed(audit([Violation("own label", "e", "m", "0/0", 40, ids)]), width=60)
    assert any(
        line.startswith("fault: m 0/0, e: 40 rows") and line.endswith("row00039")
        for line in text.splitlines()
    )


def test_the_bar_counts_all_jobs_and_shows_nothing_where_there_is_no_terminal() -> None:
    file = io.StringIO()
    with AuditProgress(Console(file=file, width=80)) as progress:
        progress.plan([None] * 3, [])  # type: ignore[list-item]
        for error in (None, ValueError()):
            progress.done(None, 0.1, error)  # type: ignore[arg-type]
        (task,) = progress.tasks
        assert (task.total, task.completed, task.visible) == (3, 2, True)
    assert file.getvalue().strip() == ""
