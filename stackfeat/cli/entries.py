"""show and clean: what is in a store, why it was computed, how large it is, and removing what is not needed.

In:  the folder of a store.
Out: values whose text is what the commands print. It is fast, because nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stackfeat.errors import StoreError, UsageError, one_line
from stackfeat.store import Store
from stackfeat.store.cleaning import CleanReport
from stackfeat.store.store import Cache


def _open(path: Path, cache: Cache = "auto") -> Store:
    if not path.is_dir():
        raise UsageError(f"--store must be the folder of a store; got {path}, which is not there")
    return Store(path, cache)


@dataclass(frozen=True)
class ListedEntry:
    """An entry; of a damaged one only its key, and what is wrong."""

    key: str
    kind: str = ""
    created: str = ""
    bytes: int = 0
    what: str = ""
    damaged: str | None = None

    def __str__(self) -> str:
        if self.damaged is not None:
            return one_line(f"{self.key[:12]}  damaged: {self.damaged}")
        kept = f"{self.kind:<10} {self.created[:19]} {self.bytes:>12,} B"
        return one_line(f"{self.key[:12]}  {kept}  {self.what}")


@dataclass(frozen=True)
class EntryList:
    """Entries of a store that match a pattern; its text has a line for each."""

    store: Path
    pattern: str
    entries: tuple[ListedEntry, ...]

    def to_json(self) -> dict[str, Any]:
        entries = [asdict(entry) for entry in self.entries]
        return {"store": str(self.store), "pattern": self.pattern, "entries": entries}

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries)) or _none(self.store, self.pattern)


def _none(store: Path, pattern: str) -> str:
    matching = f" that match {pattern!r}" if pattern else ""
    return f"no entries{matching} in {one_line(store)}"


def list_entries(path: Path, pattern: str) -> EntryList:
    """Return the entries of a store: key, kind, time, size, what each is; of a damaged one, what is wrong."""
    found = []
    manifests, damaged = _manifests(_open(path, "readonly"))
    for key in sorted([*manifests, *damaged]):
        if key in damaged and key.startswith(pattern):
            found.append(ListedEntry(key, damaged=damaged[key]))
        if key in manifests and _matches(key, manifests[key], pattern):
            manifest = manifests[key]
            what = _what(manifest)
            found.append(ListedEntry(key, manifest["kind"], manifest["created"], _size(manifest), what))
    return EntryList(path, pattern, tuple(found))


def _manifests(store: Store) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the manifests of a store by key, and what is wrong with those that cannot be read."""
    manifests, damaged = dict[str, dict[str, Any]](), dict[str, str]()
    for key in store.keys():  # noqa: SIM118
        try:
            manifests[key] = store.manifest(key)
        except StoreError as error:
            damaged[key] = str(error)
    return manifests, damaged


def _matches(key: str, manifest: Mapping[str, Any], pattern: str) -> bool:
    return not pattern or key.startswith(pattern) or manifest["kind"] == pattern


def _size(manifest: Mapping[str, Any]) -> int:
    return sum(file["size"] for file in manifest["files"].values())


def _what(manifest: Mapping[str, Any]) -> str:
    """Say what an entry is; its recipe may be anybody's."""
    recipe = manifest["recipe"]
    learner = _learner(manifest)
    if learner:
        return f"{learner}, repeat {recipe.get('repeat')}, fold {recipe.get('fold')}"
    return str(recipe.get("block") or recipe.get("tap") or recipe.get("part") or "")


def _learner(manifest: Mapping[str, Any]) -> str:
    """Return what learnt in a fit; an empty text for entries of another kind."""
    member = manifest["recipe"].get("member")
    if manifest["kind"] != "fit" or not isinstance(member, dict):
        return ""
    return str(member.get("net") or member.get("estimator") or f"vote {member.get('vote')}")


@dataclass(frozen=True)
class SizeRow:
    """What entries of a kind take that come from one learner; `learner` is empty for those that come from none."""

    kind: str
    learner: str
    entries: int
    bytes: int


@dataclass(frozen=True)
class Sizes:
    """What a store takes, the largest first; its text is a table."""

    store: Path
    pattern: str
    rows: tuple[SizeRow, ...]
    damaged: int

    @property
    def total(self) -> SizeRow:
        return SizeRow(
            "total", "", sum(one.entries for one in self.rows), sum(one.bytes for one in self.rows)
        )

    def to_json(self) -> dict[str, Any]:
        total = {"n_entries": self.total.entries, "bytes": self.total.bytes, "damaged": self.damaged}
        sizes = [asdict(row) for row in self.rows]
        return {"store": str(self.store), "pattern": self.pattern, "sizes": sizes, **total}

    def __str__(self) -> str:
        if not self.rows:
            return _none(self.store, self.pattern)
        cells = [("kind", "entries", "size", "learner")]
        cells += [
            (one_line(row.kind), f"{row.entries:,}", f"{row.bytes:,} B", one_line(row.learner))
            for row in (*self.rows, self.total)
        ]
        kind, entries, size = (max(len(line[place]) for line in cells) for place in range(3))
        lines = [f"{a:<{kind}}  {b:>{entries}}  {c:>{size}}  {d}".rstrip() for a, b, c, d in cells]
        if self.damaged:
            lines.append(f"and {self.damaged} damaged: see stackfeat show, then stackfeat clean")
        return "\n".join(lines)


def measure_store(path: Path, pattern: str) -> Sizes:
    """Return how many entries of each kind a store has by what learnt them, and their bytes."""
    manifests, damaged = _manifests(_open(path, "readonly"))
    sums: dict[tuple[str, str], list[int]] = {}
    for key, manifest in manifests.items():
        if _matches(key, manifest, pattern):
            sums.setdefault((manifest["kind"], _origin(key, manifests)), []).append(_size(manifest))
    rows = [SizeRow(*names, len(sizes), sum(sizes)) for names, sizes in sums.items()]
    n_damaged = sum(key.startswith(pattern) for key in damaged)
    return Sizes(
        path, pattern, tuple(sorted(rows, key=lambda row: (-row.bytes, row.kind, row.learner))), n_damaged
    )


def _origin(key: str, manifests: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what learnt in the fit that an entry comes from."""
    seen: set[str] = set()
    while key in manifests and key not in seen:
        seen.add(key)
        if learner := _learner(manifests[key]):
            return learner
        recipe = manifests[key]["recipe"]
        fits = recipe.get("fits")
        first = fits[0] if isinstance(fits, list) and fits else None
        key = str(recipe.get("fit") or recipe.get("emit") or recipe.get("align") or first)
    return ""


@dataclass(frozen=True)
class Explained:
    """Why an entry was computed: what differs from the nearest other one of its kind, where there is one."""

    key: str
    kind: str
    nearest: str | None = None
    changes: Sequence[str] = ()

    def __str__(self) -> str:
        if self.nearest is None:
            return f"{self.key[:12]} is the only entry of kind {one_line(self.kind)}"
        head = f"{self.key[:12]} differs from the nearest entry {self.nearest[:12]} in:"
        return "\n".join([head, *(f"  {one_line(change)}" for change in self.changes)])


def explain_entry(path: Path, beginning: str) -> Explained:
    """Say what differs between an entry and the nearest other one of its kind."""
    store = _open(path, "readonly")
    found = [key for key in list(store.keys()) if key.startswith(beginning)]
    if len(found) != 1:
        raise UsageError(
            f"--why must begin exactly one key; got {beginning!r}, which begins {len(found)}. See stackfeat show"
        )
    manifest = store.manifest(found[0])
    return Explained(found[0], manifest["kind"], *(store.nearest(manifest["recipe"], manifest["kind"]) or ()))


@dataclass(frozen=True)
class Cleaned:
    """What was removed from a store, and how many entries stayed for runs that were named."""

    report: CleanReport
    kept: int | None = None

    def to_json(self) -> dict[str, Any]:
        found = self.report
        return {
            "leftovers": found.temporaries,
            "damaged": found.quarantined,
            "entries": found.entries,
            "bytes": found.bytes,
            "kept_for_runs": self.kept,
        }

    def __str__(self) -> str:
        found = self.report
        text = (
            f"removed {found.temporaries} leftovers of killed runs, {found.quarantined} damaged entries, "
            f"{found.entries} old entries: {found.bytes / 2**20:.1f} MiB"
        )
        return (
            text if self.kept is None else f"{text}; kept {self.kept} entries that the named runs are made of"
        )


def clean_store(path: Path, older_than_days: float | None, keep_runs: Sequence[Path] = ()) -> Cleaned:
    """Remove leftovers, and entries past an age but for those that runs are made of; say what went.

    Raises
    ------
    UsageError
        If runs are named without an age, or a folder is no finished run's.
    """
    if keep_runs and older_than_days is None:
        raise UsageError(
            "--keep-run names what --older-than leaves; got no --older-than, without which no entry is removed; "
            "give it too"
        )
    store = _open(path)
    if not keep_runs:
        return Cleaned(store.clean(older_than_days=older_than_days))
    from stackfeat.output.stored_run import entries_of

    read_only = _open(path, "readonly")
    keep = {key for run in keep_runs for key in entries_of(read_only, run)}
    return Cleaned(store.clean(older_than_days=older_than_days, keep=keep), len(keep))
