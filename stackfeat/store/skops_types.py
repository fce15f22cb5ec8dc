"""What a saved estimator may be made of, type by type.

Estimators themselves are judged by the one allow-list of `registry.allowed`. Here stand the parts inside
them, the plain values, and the kinds of skops nodes that build them. No method, no ``functools.partial``,
and no function but those that score columns (`skops_file.is_known_function`): what can be called must come from
the class that calls it.
"""

from __future__ import annotations


def _names(module: str, names: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for name in names.split())


_METRICS = (
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Mahalanobis Manhattan Minkowski "
    "RogersTanimoto RussellRao SEuclidean SokalSneath Yule"
)

PARTS = (
    _names("sklearn._loss.link", "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit")
    | _names(
        "sklearn._loss.loss",
        "AbsoluteError ExponentialLoss HalfBinomialLoss HalfGammaLoss HalfMultinomialLoss HalfPoissonLoss "
        "HalfSquaredError HalfTweedieLoss HalfTweedieLossIdentity HuberLoss PinballLoss",
    )
    | _names("sklearn.calibration", "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling")
    # A list of column numbers, before scikit-learn 1.7.
    | _names("sklearn.compose._column_transformer", "_RemainderColsList")
    | _names("sklearn.ensemble._hist_gradient_boosting.binning", "_BinMapper")
    | _names("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor")
    | _names("sklearn.gaussian_process._gpc", "_BinaryGaussianProcessClassifierLaplace")
    | _names(
        "sklearn.metrics._dist_metrics",
        " ".join(f"{name}Distance{bits}" for name in _METRICS.split() for bits in (32, 64)),
    )
    | _names("sklearn.metrics._scorer", "_PassthroughScorer")
    | _names("sklearn.multiclass", "_ConstantPredictor")
    | _names("sklearn.neighbors._ball_tree", "BallTree")
    | _names("sklearn.neighbors._kd_tree", "KDTree")
    | _names("sklearn.neighbors._unsupervised", "NearestNeighbors")
    | _names("sklearn.neural_network._stochastic_optimizers", "AdamOptimizer SGDOptimizer")
    # Its function is never loaded: without one it hands its input on.
    | _names("sklearn.preprocessing._function_transformer", "FunctionTransformer")
    | _names("lightgbm.basic", "Booster")
    | _names("xgboost.core", "Booster")
)
"""Classes inside estimators, besides estimators."""

LOSSES = _names(
    "sklearn._loss._loss",
    "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss "
    "CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss",
) | _names(
    "sklearn.linear_model._sgd_fast",
    "EpsilonInsensitive Hinge ModifiedHuber SquaredEpsilonInsensitive SquaredHinge",
)

SCALARS = _names(
    "numpy",
    "bool bool_ float16 float32 float64 int8 int16 int32 int64 str_ uint8 uint16 uint32 uint64",
)

BIT_GENERATORS = frozenset({"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"})
"""What of numpy.random a saved generator may be built from."""

NODES: dict[str, frozenset[str]] = {
    "BytearrayNode": _names("builtins", "bytearray"),
    "BytesNode": _names("builtins", "bytes"),
    "DTypeNode": _names("numpy", "dtype"),
    "DefaultDictNode": _names("collections", "defaultdict"),
    "DictNode": _names("builtins", "dict") | {"collections.OrderedDict", "sklearn.utils._bunch.Bunch"},
    "JsonNode": _names("builtins", "str"),
    "ListNode": _names("builtins", "list"),
    "LossNode": LOSSES,
    "MaskedArrayNode": _names("numpy.ma", "MaskedArray"),
    "NdArrayNode": SCALARS | {"numpy.ndarray"},
    "ObjectNode": PARTS | LOSSES,
    "RandomGeneratorNode": _names("numpy.random._generator", "Generator"),
    "RandomStateNode": _names("numpy.random.mtrand", "RandomState"),
    "SetNode": _names("builtins", "set"),
    "SliceNode": _names("builtins", "slice"),
    "SparseMatrixNode": _names("scipy.sparse._csr", "csr_matrix csr_array")
    | _names("scipy.sparse._csc", "csc_matrix csc_array"),
    "TreeNode": _names("sklearn.tree._tree", "Tree"),
    "TupleNode": _names("builtins", "tuple"),
    "TypeNode": SCALARS
    | _names("builtins", "bool bytes dict float int list str tuple")
    | {"collections.OrderedDict"},
}
"""By kind of node the types that it may build; estimators of the allow-list as ``ObjectNode`` besides."""
