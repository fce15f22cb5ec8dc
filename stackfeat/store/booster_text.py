"""Boosted trees of LightGBM as text: the one form that is written, and nothing else is passed to its parser.

In:  what LightGBM writes of a model; or a text that anybody may have sent.
Out: the same model without notes on its training; or the text, once every branch leads to a later node or to a leaf
     of its tree, every split asks for a column that there is, and every place that the parser jumps to begins a tree.

LightGBM follows such numbers without looking: one that leads out of its array reads whatever lies there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stackfeat.errors import StructureError
from stackfeat.structure import must

WHERE = "a saved model"
MOST_TREES, MOST_LEAVES, MOST_BYTES = 100_000, 4_096, 1 << 28
END = "end of trees\n"
_OBJECTIVES = re.compile(r"binary sigmoid:1|multiclass num_class:[0-9]{1,6}|regression|regression_l1|gamma")
_HEAD = ("version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective")
_NAMES = ("feature_names", "feature_infos", "tree_sizes")
_NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
_CATEGORIES = ("cat_boundaries", "cat_threshold")
_OWN = ("num_leaves", "num_cat", *_NODES, *_CATEGORIES, "leaf_value")
_TREE = re.compile(
    "Tree=([0-9]+)\n"
    + "".join(f"{name}=(.*)\n" for name in ("num_leaves", "num_cat", *_NODES))
    + f"(?:{''.join(f'{name}=(.*){chr(10)}' for name in _CATEGORIES)})?"
    + "leaf_value=(.*)\nis_linear=0\nshrinkage=1\n\n\n"
)
MOST_DIGITS = 18
"""Of whole numbers, with the sign: they fit into 64 bits."""


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
    _check_trees(_tree_values(trees), len(trees), n_columns)
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
    are_sizes = (lengths > 0) & (lengths <= len(rest))
    must(bool(are_sizes.all()), WHERE, "have trees of some size", lengths[~are_sizes][:3].tolist())
    ends = np.cumsum(lengths)
    must(
        rest[int(ends[-1]) :] == END and len(rest) == ends[-1] + len(END),
        WHERE,
        "end with its trees",
        rest[-20:],
    )
    return [rest[end - size : end] for end, size in zip(ends.tolist(), lengths.tolist(), strict=True)]


def _tree_values(trees: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what each tree says under each name, "" under names of categories where it has none."""
    found = []
    for number, tree in enumerate(trees):
        match = _TREE.fullmatch(tree)
        if match is None or match[1] != str(number) or (match[3] == "0") != (match[9] is None):
            raise StructureError(
                f"{WHERE} must have trees as they are written; got {tree[:60]!r} as tree {number}"
            )
        found.append(match.groups("")[1:])
    return dict(zip(_OWN, zip(*found, strict=True), strict=True))


def _check_trees(values: Mapping[str, Sequence[str]], n_trees: int, n_columns: int) -> None:
    n_leaves, n_categories = _ints(values["num_leaves"], "num_leaves"), _ints(values["num_cat"], "num_cat")
    are_counts = len(n_leaves) == len(n_categories) == n_trees
    must(are_counts, WHERE, "say how many leaves each tree has", len(n_leaves))
    fits = (n_leaves >= 1) & (n_leaves <= MOST_LEAVES) & (n_categories >= 0)
    must(bool(fits.all()), WHERE, f"have trees of 1 to {MOST_LEAVES} leaves", n_leaves[~fits][:1].tolist())
    n_nodes = n_leaves - 1
    features, kinds, left, right = (
        _of_lengths(values[name], n_nodes, name)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds = _of_lengths(values["threshold"], n_nodes, "threshold", floats=True)
    of_leaves = _of_lengths(values["leaf_value"], n_leaves, "leaf_value", floats=True)
    must(bool(np.isfinite(of_leaves).all()), WHERE, "have finite leaves", "inf")
    is_column = (features >= 0) & (features < n_columns)
    must(bool(is_column.all()), WHERE, f"ask for {n_columns} columns", features[~is_column][:1].tolist())
    must(bool(((kinds >= 0) & (kinds < 16)).all()), WHERE, "have known kinds of splits", kinds[:3].tolist())
    _check_branches(left, right, n_nodes, n_leaves)
    is_set = (kinds & 1) == 1
    tree_of = np.repeat(np.arange(n_trees), n_nodes)
    sets, most = thresholds[is_set], n_categories[tree_of[is_set]]
    are_places = (sets >= 0) & (sets < most) & (sets == np.floor(sets))
    must(
        bool(are_places.all()),
        WHERE,
        "have the sets that it splits by",
        sets[~are_places][:1].tolist(),
    )
    _check_sets(values["cat_boundaries"], values["cat_threshold"], n_categories)


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
    # All are inside their trees, so that counts take no more room than the trees.
    once = all(int(np.bincount(one).max(initial=0)) <= 1 for one in (leaves, nodes))
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
    # One line for each tree, by whose ends and spaces its numbers are counted.
    marks = np.frombuffer("\n".join([*texts, ""]).encode(), dtype=np.uint8)
    ends = np.flatnonzero(marks == ord("\n"))
    spaces = np.diff(np.searchsorted(np.flatnonzero(marks == ord(" ")), ends), prepend=0)
    counts = np.where(np.diff(ends, prepend=-1) > 1, spaces + 1, 0)
    must(
        bool((counts == lengths).all()),
        f"{WHERE}: {name}",
        "have a number for each node",
        counts[:3].tolist(),
    )
    return _floats(texts, name) if floats else _ints(texts, name)


def _ints(texts: Sequence[str], name: str) -> np.ndarray:
    text = _plain(texts, name, b"-0123456789 ")
    marks = np.frombuffer(f" {text} ".encode(), dtype=np.uint8)
    is_space, is_minus = marks == ord(" "), marks == ord("-")
    # A minus stands after a space and before a digit.
    is_sound = not (is_minus[1:] & ~is_space[:-1]).any() and not (is_minus[:-1] & is_space[1:]).any()
    is_short = int(np.diff(np.flatnonzero(is_space)).max()) <= MOST_DIGITS
    must(is_sound and is_short, f"{WHERE}: {name}", f"be of less than {MOST_DIGITS} digits", text[:40])
    return _numbers(text, name, np.int64)


def _floats(texts: Sequence[str], name: str) -> np.ndarray:
    found = _numbers(_plain(texts, name, b"-+0123456789.einf "), name, np.float64)
    must(not np.isnan(found).any(), f"{WHERE}: {name}", "be numbers", "nan")
    return found


def _plain(texts: Sequence[str], name: str, written: bytes) -> str:
    """Return texts with a space between them, once they hold no other characters than are written."""
    text = " ".join(filter(None, texts))
    is_plain = text.isascii() and not text.encode().translate(None, written)
    must(is_plain, f"{WHERE}: {name}", "be numbers", text[:40])
    return text


def _numbers(text: str, name: str, dtype: Any) -> np.ndarray:
    """Return the numbers that are apart by one space; where there are as many as spaces say, each is a whole one."""
    n = text.count(" ") + 1 if text else 0
    must("  " not in text and text == text.strip(" "), f"{WHERE}: {name}", "be apart by a space", text[:40])
    with warnings.catch_warnings():
        # NumPy warns, or in later versions fails, where it cannot read on.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = np.fromstring(text, dtype=dtype, sep=" ") if text else np.zeros(0, dtype=dtype)
        except ValueError:
            found = np.zeros(0, dtype=dtype)
    must(len(found) == n, f"{WHERE}: {name}", "be numbers", text[:40])
    return found
