"""Boosted trees of LightGBM as text: the one form that is written, and nothing else is passed to its parser.

In:  what LightGBM writes of a model; or a text that anybody may have sent.
Out: the same model without notes on its training; or the text, once every branch leads to a later node or to a leaf
     of its tree, every split asks for a column that there is, and every place that the parser jumps to begins a tree.

LightGBM follows such numbers without looking: one that leads out of its array reads whatever lies there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stackfeat.errors import StructureError
from stackfeat.structure import must

WHERE = "a saved model"
MOST_TREES, MOST_LEAVES, MOST_BYTES = 100_000, 4_096, 1 << 28
END = "end of trees\n"
_OBJECTIVES = re.compile(r"binary sigmoid:1|multiclass num_class:[0-9]{1,6}|regression|regression_l1")
_HEAD = ("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective")
_NAMES = ("feature_names", "feature_infos", "tree_sizes")
_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_CATEGORIES = ("cat_boundaries", "cat_threshold")
_WHOLE, _REAL = re.compile(r"[-0-9 ]*"), re.compile(r"[-+0-9.einf ]*")


def plain_text(text: str) -> str:
    """Return a model without gains, counts and parameters, which no prediction needs."""
    head, _, rest = text.partition("\nTree=")
    lines = _pairs(head.splitlines()[1:])
    names = " ".join(f"c{number}" for number in range(int(lines["max_feature_idx"]) + 1))
    infos = " ".join(["none"] * (int(lines["max_feature_idx"]) + 1))
    trees = [
        _tree_text(number, _pairs(part.splitlines()[1:]))
        for number, part in enumerate(rest.partition(END)[0].split("\nTree="))
    ]
    sizes = " ".join(str(len(tree)) for tree in trees)
    lines |= {"feature_names": names, "feature_infos": infos, "tree_sizes": sizes}
    written = "".join(f"{name}={lines[name]}\n" for name in (*_HEAD, *_NAMES))
    return f"tree\n{written}\n{''.join(trees)}{END}"


def _pairs(lines: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines) if name}


def _tree_text(number: int, values: dict[str, str]) -> str:
    own = ("num_leaves", "num_cat", *_NODES, *(_CATEGORIES if values["num_cat"] != "0" else ()), "leaf_value")
    lines = "".join(f"{name}={values.get(name, '')}\n" for name in own)
    return f"Tree={number}\n{lines}is_linear=0\nshrinkage=1\n\n\n"


def checked_text(text: str, n_columns: int, n_outputs: int) -> str:
    """Return a text that `plain_text` could have written of a model of so many columns and trees in a round.

    Raises
    ------
    StructureError
        If it could not.
    """
    must(len(text) <= MOST_BYTES, WHERE, f"have at most {MOST_BYTES} characters", len(text))
    head, _, rest = text.partition("\n\n")
    lines = head.split("\n")
    must(lines[0] == "tree", WHERE, "begin with the word tree", lines[0])
    values = _fields(lines[1:], (*_HEAD, *_NAMES), "its head")
    wanted = {
        "version": "v4",
        "num_class": str(n_outputs),
        "num_tree_per_iteration": str(n_outputs),
        "label_index": "0",
        "max_feature_idx": str(n_columns - 1),
        "feature_names": " ".join(f"c{number}" for number in range(n_columns)),
        "feature_infos": " ".join(["none"] * n_columns),
    }
    for name, value in wanted.items():
        must(values[name] == value, f"{WHERE}: {name}", f"be {value[:40]}", values[name])
    must(
        bool(_OBJECTIVES.fullmatch(values["objective"])), WHERE, "have a known objective", values["objective"]
    )
    trees = _cut(rest, values["tree_sizes"])
    must(len(trees) % n_outputs == 0, WHERE, "have whole rounds", len(trees))
    _check_trees([_tree_values(number, tree) for number, tree in enumerate(trees)], n_columns)
    return text


def _fields(lines: Sequence[str], names: Sequence[str], where: str) -> dict[str, str]:
    found = [line.partition("=") for line in lines]
    must(
        [name for name, _, _ in found] == list(names),
        f"{WHERE}: {where}",
        f"have {', '.join(names)}",
        lines[:1],
    )
    return {name: value for name, _, value in found}


def _cut(rest: str, sizes: str) -> list[str]:
    """Return the trees, each of just the size that the head says; LightGBM jumps by these sizes."""
    must(rest.isascii(), WHERE, "be plain text", "other characters")
    lengths = _ints([sizes], "tree_sizes")
    must(0 < len(lengths) <= MOST_TREES, WHERE, f"have 1 to {MOST_TREES} trees", len(lengths))
    must(bool((lengths > 0).all()), WHERE, "have trees of some size", lengths[:3].tolist())
    ends = np.cumsum(lengths)
    must(
        rest[int(ends[-1]) :] == END and len(rest) == ends[-1] + len(END),
        WHERE,
        "end with its trees",
        rest[-20:],
    )
    return [rest[end - size : end] for end, size in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _tree_values(number: int, tree: str) -> dict[str, str]:
    lines = tree.split("\n")
    must(lines[0] == f"Tree={number}", WHERE, f"have tree {number} where it says", lines[0])
    must(
        lines[-5:] == ["is_linear=0", "shrinkage=1", "", "", ""],
        WHERE,
        "have trees of plain leaves",
        lines[-4:],
    )
    has_categories = lines[2] != "num_cat=0"
    names = ("num_leaves", "num_cat", *_NODES, *(_CATEGORIES if has_categories else ()), "leaf_value")
    return _fields(lines[1:-5], names, f"tree {number}")


def _check_trees(trees: Sequence[dict[str, str]], n_columns: int) -> None:
    def column(name: str) -> list[str]:
        return [tree.get(name, "") for tree in trees]

    n_leaves, n_categories = _ints(column("num_leaves"), "num_leaves"), _ints(column("num_cat"), "num_cat")
    are_counts = len(n_leaves) == len(n_categories) == len(trees)
    must(are_counts, WHERE, "say how many leaves each tree has", len(n_leaves))
    fits = (n_leaves >= 1) & (n_leaves <= MOST_LEAVES) & (n_categories >= 0)
    must(bool(fits.all()), WHERE, f"have trees of 1 to {MOST_LEAVES} leaves", n_leaves[~fits][:1].tolist())
    n_nodes = n_leaves - 1
    features, kinds, left, right = (
        _of_lengths(column(name), n_nodes, name)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds = _of_lengths(column("threshold"), n_nodes, "threshold", floats=True)
    values = _of_lengths(column("leaf_value"), n_leaves, "leaf_value", floats=True)
    must(bool(np.isfinite(values).all()), WHERE, "have finite leaves", "inf")
    is_column = (features >= 0) & (features < n_columns)
    must(bool(is_column.all()), WHERE, f"ask for {n_columns} columns", features[~is_column][:1].tolist())
    must(bool(((kinds >= 0) & (kinds < 16)).all()), WHERE, "have known kinds of splits", kinds[:3].tolist())
    _check_branches(left, right, n_nodes, n_leaves)
    is_set = (kinds & 1) == 1
    tree_of = np.repeat(np.arange(len(trees)), n_nodes)
    sets, most = thresholds[is_set], n_categories[tree_of[is_set]]
    are_places = (sets >= 0) & (sets < most) & (sets == np.floor(sets))
    must(
        bool(are_places.all()),
        WHERE,
        "have the sets that it splits by",
        sets[~are_places][:1].tolist(),
    )
    _check_sets(column("cat_boundaries"), column("cat_threshold"), n_categories)


def _check_branches(left: np.ndarray, right: np.ndarray, n_nodes: np.ndarray, n_leaves: np.ndarray) -> None:
    """Each node but the first is the child of one earlier node, and each leaf of one node."""
    starts, starts_of_leaves = np.cumsum(n_nodes) - n_nodes, np.cumsum(n_leaves) - n_leaves
    tree_of = np.repeat(np.arange(len(n_nodes)), n_nodes)
    place = np.arange(len(tree_of)) - starts[tree_of]
    children, tree_of = np.concatenate([left, right]), np.concatenate([tree_of, tree_of])
    is_leaf, place = children < 0, np.concatenate([place, place])
    inside = np.where(
        is_leaf, ~children < n_leaves[tree_of], (children > place) & (children < n_nodes[tree_of])
    )
    must(bool(inside.all()), WHERE, "lead from each node to later ones", children[~inside][:1].tolist())
    leaves = (starts_of_leaves[tree_of] + ~children)[is_leaf]
    nodes = (starts[tree_of] + children)[~is_leaf]
    once = len(np.unique(leaves)) == len(leaves) and len(np.unique(nodes)) == len(nodes)
    must(once, WHERE, "lead to each node and leaf once", len(children))


def _check_sets(boundaries: Sequence[str], words: Sequence[str], n_categories: np.ndarray) -> None:
    for number in np.flatnonzero(n_categories).tolist():
        ends, n = _ints([boundaries[number]], "cat_boundaries"), int(n_categories[number])
        found = _ints([words[number]], "cat_threshold")
        is_sound = (
            len(ends) == n + 1 and ends[0] == 0 and bool((np.diff(ends) > 0).all()) and ends[-1] == len(found)
        )
        must(is_sound, WHERE, "have sets of categories that fit each other", ends[:5].tolist())
        must(bool(((found >= 0) & (found < 2**32)).all()), WHERE, "have sets of bits", found[:3].tolist())


def _of_lengths(texts: Sequence[str], lengths: np.ndarray, name: str, *, floats: bool = False) -> np.ndarray:
    """Return the numbers of all trees end to end, once each tree has as many as it must."""
    counts = np.array([text.count(" ") + 1 if text else 0 for text in texts])
    must(
        bool((counts == lengths).all()),
        f"{WHERE}: {name}",
        "have a number for each node",
        counts[:3].tolist(),
    )
    return _floats(texts, name) if floats else _ints(texts, name)


def _ints(texts: Sequence[str], name: str) -> np.ndarray:
    return _numbers(texts, name, int, np.int64, _WHOLE)


def _floats(texts: Sequence[str], name: str) -> np.ndarray:
    found = _numbers(texts, name, float, np.float64, _REAL)
    must(not np.isnan(found).any(), f"{WHERE}: {name}", "be numbers", "nan")
    return found


def _numbers(texts: Sequence[str], name: str, kind: Any, dtype: Any, written: re.Pattern[str]) -> np.ndarray:
    text = " ".join(filter(None, texts))
    must(bool(written.fullmatch(text)), f"{WHERE}: {name}", "be numbers", text[:40])
    try:
        return np.fromiter(map(kind, text.split(" ") if text else []), dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise StructureError(f"{WHERE}: {name} must be numbers; got {text[:40]!r}") from error
