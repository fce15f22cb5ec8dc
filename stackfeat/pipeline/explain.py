"""explain: what the predictions of a stack rest on, from its columns to its levels.

In:  a finished run, and its store; or a run, or an exported predictor, and a file of rows.
Out: an `Explanation`; of held-out rows also ``explain.json`` in the run folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from stackfeat.data.schema.features import Feature, correlated, features_of
from stackfeat.engine.permutation_importance import Metered, Rise
from stackfeat.errors import UsageError
from stackfeat.meta.estimator_io import FitInfo
from stackfeat.output.explanation import HEADER, HELD_OUT, Explanation, Ranked
from stackfeat.output.files import json_bytes, write_csv
from stackfeat.output.gates import GateVerdict, verdicts_of
from stackfeat.output.output_file import has_columns, refuse_foreign, refuse_place
from stackfeat.output.provenance import Index, read_provenance
from stackfeat.output.run_file import EXPLANATION, LOGS
from stackfeat.output.run_folder import RunFolder
from stackfeat.output.saved_predictor import SavedPredictor, load_run
from stackfeat.output.stored_run import open_rows, read_run
from stackfeat.pipeline.explained_rows import Draw, ExplainedRows, held_out_rows, new_rows
from stackfeat.pipeline.predict import load
from stackfeat.pipeline.scored_members import ScoredMembers
from stackfeat.pipeline.teacher import Teacher
from stackfeat.registry.resolve import name_values
from stackfeat.seeds import check_seed
from stackfeat.store import EntryStore

logger = logging.getLogger(__name__)

ALIKE = 0.8
"""Rank correlation from which on columns say nearly the same."""
Progress = Callable[[str], None]


def explain(
    run: str | Path,
    data: str | Path | None = None,
    *,
    rows: int = 2_000,
    repeats: int = 5,
    seed: int = 0,
    store: str | Path | None = None,
    trust_code: bool | None = None,
    data_roots: Sequence[Path] = (),
    output: str | Path | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Explanation:
    """Return what the submitted member's predictions rest on.

    Parameters
    ----------
    run : path
        Folder of a finished run; with `data` also a file that `stackfeat export` wrote.
    data : path, optional
        Rows to explain, through all pipelines; without it training rows, each through the pipeline that had not
        seen it.
    rows : int
        Rows at most, drawn so that classes, or quantiles of the target, keep their shares.
    repeats : int
        Permutations of each column.
    seed : int
        Of rows and permutations.
    store : path, optional
        Where the run's store is now, if it was moved.
    trust_code : bool, optional
        As for `load`.
    data_roots : sequence of Path
        As for `load`.
    output : path, optional
        A csv file to write: a row for each column, group, member and block.
    progress : callable, optional
        Told of every step, in words.
    force : bool
        Whether a file with other columns than an explanation's may be replaced.

    Raises
    ------
    UsageError
        If the folder is no run's, a number is out of range, or the file holds something else.
    DataError
        If the run's rows or store are gone, or the file cannot be read.

    Examples
    --------
    >>> found = explain("runs/pets")                    # doctest: +SKIP
    >>> [(one.name, one.importance) for one in found.columns]   # doctest: +SKIP
    """
    for name, value, least in (("rows", rows, 20), ("repeats", repeats, 1)):
        if value < least:
            raise UsageError(f"{name} must be at least {least}; got {name}={value}; give a larger number")
    check_seed(seed)
    draw, say = Draw(rows, repeats, seed), progress or _log
    if data is not None and store is not None:
        raise UsageError(
            "--store is for held-out rows; got DATA, which needs no store; leave one of them out"
        )
    if output is not None:
        refuse_place(Path(output), run=Path(run), data=None if data is None else Path(data))
        refuse_foreign(Path(output), has_columns(HEADER), force=force)
    if data is None:
        found = _of_run(Path(run), draw, store, trust_code, say)
    else:
        found = _of_file(Path(run), Path(data), draw, trust_code, data_roots, say)
    if output is not None:
        write_csv(Path(output).resolve(), HEADER, list(zip(*found.rows(), strict=True)))
    return found


def _log(text: str) -> None:
    logger.info("%s", text)


def _of_file(
    run: Path, data: Path, draw: Draw, trust_code: bool | None, data_roots: Sequence[Path], say: Progress
) -> Explanation:
    model = load(run, trust_code=trust_code, data_roots=data_roots)
    if not isinstance(model, SavedPredictor):
        raise UsageError(f"RUN must be a stack; got a student, {run}, which is one model; name a run")
    say("predicting the rows as they are")
    with model.importing():
        ready = new_rows(model, model.rows(data), draw)
        features = features_of(ready.importance.samples.inputs, model.way.schema)
        return _explanation(ready, features, model.way.metric, data.name, draw, say)


def _of_run(
    folder: Path, draw: Draw, store: str | Path | None, trust_code: bool | None, say: Progress
) -> Explanation:
    index, config = read_run(folder)
    entries, train, folds = open_rows(folder / index.store if store is None else Path(store), index)
    model, outputs = load_run(folder, trust_code=trust_code), RunFolder(folder, entries.run)
    with outputs.claimed(LOGS[0]), model.importing():
        if read_provenance(folder) != index:
            raise UsageError(f"{folder} must be one run's while it is explained; got a new one; do it again")
        teacher = replace(Teacher.of(model.predictor, index, folds.is_time, entries, folder), choices={})
        scored = ScoredMembers.of(folder, teacher, config, train, folds)
        say("predicting held-out rows as they are")
        rules = scored.rules[teacher.submitted]
        ready = held_out_rows(teacher, train, folds, scored.judged, rules, draw)
        features = features_of(train.inputs, model.way.schema)
        found = _explanation(ready, features, config.metric, HELD_OUT, draw, say)
        found = replace(
            found,
            dropped=tuple(scored.dropped(ready)),
            levels=tuple(scored.levels(draw.seed)),
            gates=tuple(_gates(entries, index)),
        )
        outputs.add(EXPLANATION, json_bytes(found.to_json()))
    return found


def _explanation(
    ready: ExplainedRows, features: Sequence[Feature], metric: str, of: str, draw: Draw, say: Progress
) -> Explanation:
    """Return what is told by permuting: columns, groups of them, members and blocks."""
    importance, graph = ready.importance, ready.predictor.plan.graph
    submitted = ready.predictor.block.rpartition("/")[0]
    groups = [
        Feature.joined(group, name_values(one.name for one in group))
        for group in correlated(importance.samples, features, ALIKE)
    ]
    say(f"{len(features)} columns")
    columns = _ranked([(one.name, one.kind) for one in features], importance.of_features(features))
    together = _ranked([(one.name, one.kind) for one in groups], importance.of_features(groups))
    members = [node.full_name for node in graph.nodes if node.full_name != submitted]
    blocks = list(dict.fromkeys(block for node in graph.nodes for block in node.blocks))
    say(f"{len(members)} members, {len(blocks)} blocks")
    return Explanation(
        member=submitted,
        metric=metric,
        has_labels=isinstance(ready.losses, Metered),
        of=of,
        score=ready.score,
        n_rows=len(ready.rows),
        n_units=ready.n_units,
        units=ready.units,
        repeats=draw.repeats,
        seed=draw.seed,
        columns=columns,
        groups=together,
        members=_ranked([(name, "member") for name in members], importance.of_blocks(members)),
        blocks=_ranked([(name, "block") for name in blocks], importance.of_blocks(blocks)),
        notes=ready.notes,
    )


def _ranked(things: Sequence[tuple[str, str]], rises: Iterable[Rise]) -> tuple[Ranked, ...]:
    """Return things with what permuting them costs, the most important first."""
    found = [Ranked.of(name, kind, rise) for (name, kind), rise in zip(things, rises, strict=True)]
    return tuple(sorted(found, key=lambda one: -one.importance))


def _gates(store: EntryStore, index: Index) -> list[GateVerdict]:
    """Return what gates made of the blocks that they judged, from what the fits of a run noted."""
    reports = {
        member: [FitInfo.of(store.read(key)).report for fold, key in keys.items() if "-" not in fold]
        for member, keys in index.fits.items()
    }
    return verdicts_of(reports)
