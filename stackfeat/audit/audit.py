"""Audit: is a finished run honest? A proof from what is stored, and a rerun on permuted labels.

In:  a run folder.
Out: `Audit`: what was proven of every block, which members beat chance on labels that mean nothing; `audit.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stackfeat.audit.permutation_test import PermutationTest, Reruns, run_permutation_test
from stackfeat.audit.provenance import Provenance, check_provenance
from stackfeat.config import LoadedConfig
from stackfeat.config.checks import code_findings
from stackfeat.config.run_config import RunConfig
from stackfeat.engine.crossfit import Progress
from stackfeat.errors import Problem, TrustError, UsageError, as_written
from stackfeat.options import Options
from stackfeat.output.files import json_bytes
from stackfeat.output.provenance import REMEDY, read_provenance
from stackfeat.output.run_file import AUDIT as RESULT
from stackfeat.output.run_folder import RunFolder, logging_to
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.registry.resolve import code_hash
from stackfeat.registry.trust import code_of_run, explaining_refusals
from stackfeat.registry.user_code import NO_CODE, serving_agreed

LOG = "audit.log"


@dataclass(frozen=True)
class Audit:
    """The outcome of an audit.

    Attributes
    ----------
    folder : Path
        The run folder, which now holds ``audit.json``.
    null : PermutationTest or None
        None where it was not asked for.
    """

    folder: Path
    provenance: Provenance
    null: PermutationTest | None

    @property
    def passed(self) -> bool:
        return not self.provenance.faults and not (self.null and self.null.above)

    @property
    def exit_code(self) -> int:
        """0 where nothing was found, else 1."""
        return 0 if self.passed else 1

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": "pass" if self.passed else "fail",
            "provenance": self.provenance.to_json(),
            "null": None if self.null is None else self.null.to_json(),
        }


def audit(
    run_folder: str | Path,
    *,
    null: bool = True,
    permutations: int = 5,
    rows: int = 2000,
    jobs: int | None = None,
    seed: int = 0,
    store: str | Path | None = None,
    trust_code: bool | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Prove from the store that no row's features saw its label, and rerun the stack on permuted labels.

    Parameters
    ----------
    run_folder : path
        Folder of a finished run.
    null : bool
        Whether to rerun; without it nothing is computed and no code of the run is imported.
    permutations : int
        Reruns, each on other permuted labels.
    rows : int
        Training rows of a rerun at most; half as many are held out.
    jobs : int, optional
        Worker processes; as the run's config says without it.
    seed : int
        Of rows and permutations.
    store : path, optional
        Where the run's store is now, if it was moved.
    trust_code : bool, optional
        For the rerun, where the run needed it. None: unless `stackfeat trust` remembers it; False: not even then.
    progress : Progress, optional
        Told of the jobs of the reruns.

    Returns
    -------
    Audit

    Raises
    ------
    UsageError
        If the folder is no run's, or an option is out of range.
    TrustError
        If members are user code and `trust_code` is false.
    DataError
        If the run's rows, folds or store are gone or damaged, or too few for a rerun.
    KeyboardInterrupt
        Nothing is left behind; an older ``audit.json`` stays.

    Examples
    --------
    >>> audit("configs/runs/quickstart", permutations=3).passed  # doctest: +SKIP
    True
    """
    reruns = Reruns(permutations, rows, jobs, seed)
    reruns.check()
    folder = Path(run_folder)
    index, config = read_run(folder)
    home, code = folder / index.folder, NO_CODE
    if null:
        code = code_of_run(folder, trust_code).beside(home.resolve())
        with explaining_refusals(code):
            _refuse_untrusted(config, home, code.is_trusted)
    entries, samples, folds = open_rows(folder / index.store if store is None else Path(store), index)
    outputs = RunFolder(folder, entries.run)
    with outputs.claimed(LOG), logging_to(folder / LOG), serving_agreed(code):
        if read_provenance(folder) != index:
            raise UsageError(f"{folder} must be one run's while it is audited; got a new one; do it again")
        with as_written("the entries of the run", REMEDY):
            proven = check_provenance(entries, index, samples, folds, folder)
        judged = None
        if null:
            loaded = LoadedConfig(config, None, home.resolve(), {}, code)
            judged = run_permutation_test(loaded, samples, folds, index, reruns, progress)
        found = Audit(folder, proven, judged)
        options = {"permutations": permutations, "rows": rows, "seed": seed} if null else None
        outputs.add(RESULT, json_bytes({**found.to_json(), "options": options}))
    return found


def _refuse_untrusted(config: RunConfig, home: Path, trust_code: bool) -> None:
    if trust_code:
        return
    members: list[Options] = [member for level in config.levels.values() for member in level.values()]
    named = [
        getattr(member, kind) for member in members for kind in ("net", "estimator") if hasattr(member, kind)
    ]
    named += [name for name in (config.metric, config.folds.kind) if ":" in name]
    own = [name for name in named if code_hash(name, home) is not None]
    if own:
        raise TrustError(
            f"code outside scikit-learn, lightgbm, xgboost and catboost must be agreed to; got {', '.join(own)}; "
            "read it, then give --trust-code (or --no-null: the proof from the store runs no code)"
        )
    found = [finding for finding in code_findings(config, home, False) if finding.trust]
    if found:
        raise TrustError([Problem(finding.path, finding.message, "config.yaml") for finding in found])
