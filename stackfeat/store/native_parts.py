"""Parts of estimators that compiled code follows without looking: trees, neighbours, support vectors, sparse rows.

In:  an estimator that was just built from a file.
Out: nothing, or a StructureError: an index that leads out of its array would read, or write, whatever
     memory lies there, and a branch that leads back would never end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stackfeat.errors import StructureError
from stackfeat.structure import must

_WORDS_OF_SET = 8


def check_native_parts(value: Any) -> None:
    """Raise StructureError unless every index in the compiled parts of a loaded object leads somewhere sound."""
    parts = list(_parts(value))
    # The last ones predict with parts, which must be sound by then.
    for checks in (_CHECKS, _LAST_CHECKS):
        for part in parts:
            for cls in type(part).__mro__:
                check = checks.get(f"{cls.__module__.partition('.')[0]}.{cls.__name__}")
                if check is not None:
                    _checked(check, part)


def _checked(check: Callable[[Any], None], part: Any) -> None:
    try:
        check(part)
    except StructureError:
        raise
    except Exception as error:
        raise StructureError(
            f"a saved {type(part).__name__} must be whole; got {type(error).__name__}: {str(error)[:100]}"
        ) from error


def _parts(value: Any) -> Iterator[Any]:
    """Yield a value and everything it holds, each once."""
    waiting, seen = [value], set[int]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, str | bytes | bytearray | int | float | None) or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            waiting.extend(part.ravel().tolist() if part.dtype == object else ())
        elif type(part).__module__.partition(".")[0] in ("sklearn", "lightgbm", "xgboost", "catboost"):
            waiting.extend(getattr(part, "__dict__", {}).values())


def _check_tree(tree: Any) -> None:
    left, right = tree.children_left.astype(np.int64), tree.children_right.astype(np.int64)
    is_inner = left != -1
    must(tree.node_count == len(left) >= 1, "a saved tree", "have nodes", tree.node_count)
    must(bool((is_inner == (right != -1)).all()), "a saved tree", "have two branches or none", left[:5])
    _check_branches(left, right, tree.feature, is_inner, tree.n_features)


def _check_branches(
    left: np.ndarray, right: np.ndarray, feature: np.ndarray, is_inner: np.ndarray, n_columns: int
) -> None:
    places, asked = np.flatnonzero(is_inner), feature[is_inner]
    for children in (left[is_inner], right[is_inner]):
        is_sound = (children > places) & (children < len(is_inner))
        must(bool(is_sound.all()), "a saved tree", "lead from each node to later ones", children[:5])
    is_column = ((asked >= 0) & (asked < n_columns)).all()
    must(bool(is_column), "a saved tree", "ask for its columns", n_columns)


def _check_same_columns(model: Any) -> None:
    """Trees of a forest are given rows that the forest has checked, and check them no more."""
    n_columns = getattr(model, "n_features_in_", None)
    members = getattr(model, "estimators_", [])
    members = members.ravel().tolist() if isinstance(members, np.ndarray) else list(members)
    trees = [getattr(member, "tree_", None) for member in (model, *members)]
    for tree in trees:
        if tree is not None:
            must(tree.n_features == n_columns, "a saved forest", "have trees of its columns", n_columns)


def _check_boosting(model: Any) -> None:
    """Trees of a round add to a column each of what the initial model gives, wherever that column ends."""
    if hasattr(model, "estimators_"):
        start = model._raw_predict_init(np.zeros((2, model.n_features_in_), dtype=np.float32))
        fits = model.estimators_.ndim == 2 and start.shape == (2, model.estimators_.shape[1])
        must(fits, "saved boosting", "have a tree a round for each column of its start", start.shape)


def _check_histogram_trees(model: Any) -> None:
    is_known = np.zeros(getattr(model, "_n_features", 0), dtype=bool)
    if getattr(model, "_bin_mapper", None) is not None:
        known, _ = model._bin_mapper.make_known_categories_bitsets()
        is_known = np.asarray(model._bin_mapper.is_categorical_) != 0
        fits = is_known.shape == (model._n_features,) and known.shape == (is_known.sum(), _WORDS_OF_SET)
        must(fits, "a saved bin mapper", "know the model's columns", is_known.shape)
    for tree in (tree for trees in getattr(model, "_predictors", ()) for tree in trees):
        nodes, is_inner = tree.nodes, tree.nodes["is_leaf"] == 0
        must(len(nodes) >= 1, "a saved tree", "have nodes", len(nodes))
        left, right = (nodes[side].astype(np.int64) for side in ("left", "right"))
        _check_branches(left, right, nodes["feature_idx"], is_inner, model._n_features)
        is_by_set = is_inner & (nodes["is_categorical"] != 0)
        by_set = nodes["bitset_idx"][is_by_set]
        is_category = is_known[nodes["feature_idx"][is_by_set]].all()
        must(bool(is_category), "a saved tree", "split categories of its bin mapper", by_set[:5])
        for sets in (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets):
            must(sets.shape[1:] == (_WORDS_OF_SET,), "a saved tree", "have whole sets", sets.shape)
        n_sets = min(len(tree.raw_left_cat_bitsets), len(tree.binned_left_cat_bitsets))
        must(bool((by_set < n_sets).all()), "a saved tree", "have sets of its categories", n_sets)


def _check_neighbours(tree: Any) -> None:
    data, order, nodes, bounds, *_ = tree.__getstate__()
    n_rows, n_nodes, places = len(data), len(nodes), np.arange(len(nodes))
    is_order = n_rows >= 1 and sorted(order.tolist()) == list(range(n_rows))
    must(is_order, "saved neighbours", "name each row once", n_rows)
    start, end = nodes["idx_start"], nodes["idx_end"]
    is_inside = ((start >= 0) & (start <= end) & (end <= n_rows)).all()
    must(bool(is_inside), "saved neighbours", "stay within their rows", n_rows)
    is_inner = nodes["is_leaf"] == 0
    must(bool((2 * places[is_inner] + 2 < n_nodes).all()), "saved neighbours", "lead to nodes", n_nodes)
    shape = bounds.shape[1:]
    must(shape == (n_nodes, data.shape[1]), "saved neighbours", "have bounds of each node", shape)
    metric = next(part for part in tree.__getstate__() if hasattr(part, "rdist_to_dist"))
    metric._validate_data(data)
    _, _, matrix, *_ = metric.__getstate__()
    if type(metric).__name__.startswith("Mahalanobis"):
        must(matrix.shape == (data.shape[1],) * 2, "a saved metric", "have a square matrix", matrix.shape)


def _check_support_vectors(model: Any) -> None:
    if not hasattr(model, "support_vectors_"):
        return
    counts = np.asarray(model._n_support)
    n_classes, n_vectors = len(counts), model.support_vectors_.shape[0]
    n_pairs = n_classes * (n_classes - 1) // 2
    sizes = {
        "counts": bool((counts >= 0).all()) and int(counts.sum()) in (n_vectors, 2 * n_vectors),
        "coefficients": model._dual_coef_.shape == (max(n_classes - 1, 1), n_vectors),
        "intercepts": model._intercept_.shape == (max(n_pairs, 1),),
        "probabilities": len(model._probA) == len(model._probB) and len(model._probA) in (0, n_pairs),
        "columns": model.support_vectors_.shape[1] == model.n_features_in_ or model.kernel == "precomputed",
        "rows": _are_rows(model.support_, n_vectors, model.shape_fit_[0])
        or (not len(model.support_) and model.kernel != "precomputed"),
    }
    for name, holds in sizes.items():
        must(holds, "saved support vectors", f"have {name} that fit each other", (n_classes, n_vectors))


def _are_rows(places: np.ndarray, n: int, n_rows: int) -> bool:
    """Whether these are n rows of those that were fitted, which a kernel that is given looks up."""
    return places.shape == (n,) and bool(((places >= 0) & (places < n_rows)).all())


def _check_sparse(matrix: Any) -> None:
    matrix.check_format(full_check=True)


_CHECKS: dict[str, Callable[[Any], None]] = {
    "sklearn.Tree": _check_tree,
    "sklearn.BaseDecisionTree": _check_same_columns,
    "sklearn.BaseForest": _check_same_columns,
    "sklearn.BaseGradientBoosting": _check_same_columns,
    "sklearn.BaseHistGradientBoosting": _check_histogram_trees,
    "sklearn.BinaryTree64": _check_neighbours,
    "sklearn.BinaryTree32": _check_neighbours,
    "sklearn.KDTree": _check_neighbours,
    "sklearn.BallTree": _check_neighbours,
    "sklearn.BaseLibSVM": _check_support_vectors,
    "scipy._cs_matrix": _check_sparse,
}
"""By package and class name, bases included."""

_LAST_CHECKS: dict[str, Callable[[Any], None]] = {"sklearn.BaseGradientBoosting": _check_boosting}
"""Likewise; they use what the others have checked."""
