"""The classes that a config, a store or a predictor may name without ``--trust-code``.

Nothing else of these packages may be named: no function, no private module, no class that opens files,
runs callables or connects to other machines by its nature. What a class takes is checked apart.
A class that is new in one of these packages is added here, after its parameters were read.
"""

from __future__ import annotations

_ESTIMATORS = {
    "catboost": "CatBoostClassifier CatBoostRanker CatBoostRegressor",
    "catboost.core": "CatBoostClassifier CatBoostRanker CatBoostRegressor",
    "lightgbm": "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    "lightgbm.sklearn": "LGBMClassifier LGBMModel LGBMRanker LGBMRegressor",
    "sklearn.calibration": "CalibratedClassifierCV",
    "sklearn.cluster": (
        "AffinityPropagation Birch BisectingKMeans FeatureAgglomeration KMeans MeanShift MiniBatchKMeans"
    ),
    "sklearn.compose": "ColumnTransformer TransformedTargetRegressor",
    "sklearn.covariance": "EllipticEnvelope",
    "sklearn.cross_decomposition": "CCA PLSCanonical PLSRegression PLSSVD",
    "sklearn.decomposition": (
        "DictionaryLearning FactorAnalysis FastICA IncrementalPCA KernelPCA "
        "LatentDirichletAllocation MiniBatchDictionaryLearning MiniBatchNMF MiniBatchSparsePCA NMF "
        "PCA SparseCoder SparsePCA TruncatedSVD"
    ),
    "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "sklearn.dummy": "DummyClassifier DummyRegressor",
    "sklearn.ensemble": (
        "AdaBoostClassifier AdaBoostRegressor BaggingClassifier BaggingRegressor "
        "ExtraTreesClassifier ExtraTreesRegressor GradientBoostingClassifier "
        "GradientBoostingRegressor HistGradientBoostingClassifier HistGradientBoostingRegressor "
        "IsolationForest RandomForestClassifier RandomForestRegressor RandomTreesEmbedding "
        "StackingClassifier StackingRegressor VotingClassifier VotingRegressor"
    ),
    "sklearn.feature_extraction": "DictVectorizer FeatureHasher",
    "sklearn.feature_extraction.image": "PatchExtractor",
    "sklearn.feature_extraction.text": "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer",
    "sklearn.feature_selection": (
        "GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest "
        "SelectPercentile SequentialFeatureSelector VarianceThreshold"
    ),
    "sklearn.gaussian_process": "GaussianProcessClassifier GaussianProcessRegressor",
    "sklearn.impute": "KNNImputer MissingIndicator SimpleImputer",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.kernel_approximation": (
        "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler"
    ),
    "sklearn.kernel_ridge": "KernelRidge",
    "sklearn.linear_model": (
        "ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor HuberRegressor Lars "
        "LarsCV Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC LinearRegression LogisticRegression "
        "LogisticRegressionCV MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso "
        "MultiTaskLassoCV OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV "
        "PassiveAggressiveClassifier PassiveAggressiveRegressor Perceptron PoissonRegressor "
        "QuantileRegressor RANSACRegressor Ridge RidgeCV RidgeClassifier RidgeClassifierCV "
        "SGDClassifier SGDOneClassSVM SGDRegressor TheilSenRegressor TweedieRegressor"
    ),
    "sklearn.manifold": "Isomap LocallyLinearEmbedding",
    "sklearn.mixture": "BayesianGaussianMixture GaussianMixture",
    "sklearn.model_selection": (
        "FixedThresholdClassifier GridSearchCV RandomizedSearchCV TunedThresholdClassifierCV"
    ),
    "sklearn.multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier",
    "sklearn.multioutput": "ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain",
    "sklearn.naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "sklearn.neighbors": (
        "KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer LocalOutlierFactor "
        "NearestCentroid NeighborhoodComponentsAnalysis RadiusNeighborsClassifier "
        "RadiusNeighborsRegressor RadiusNeighborsTransformer"
    ),
    "sklearn.neural_network": "BernoulliRBM MLPClassifier MLPRegressor",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.preprocessing": (
        "Binarizer KBinsDiscretizer KernelCenterer LabelBinarizer LabelEncoder MaxAbsScaler "
        "MinMaxScaler MultiLabelBinarizer Normalizer OneHotEncoder OrdinalEncoder PolynomialFeatures "
        "PowerTransformer QuantileTransformer RobustScaler SplineTransformer StandardScaler "
        "TargetEncoder"
    ),
    "sklearn.random_projection": "GaussianRandomProjection SparseRandomProjection",
    "sklearn.semi_supervised": "LabelPropagation LabelSpreading SelfTrainingClassifier",
    "sklearn.svm": "LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR",
    "sklearn.tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    "xgboost": "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
    "xgboost.sklearn": "XGBClassifier XGBModel XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
}
_PARTS = {
    "sklearn.covariance": "EmpiricalCovariance LedoitWolf MinCovDet OAS ShrunkCovariance",
    "sklearn.gaussian_process.kernels": (
        "ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF "
        "RationalQuadratic Sum WhiteKernel"
    ),
    "sklearn.model_selection": (
        "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut "
        "PredefinedSplit RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold "
        "StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit"
    ),
}


def _paths(table: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in table.items() for name in names.split())


ALLOWED_ESTIMATORS = _paths(_ESTIMATORS)
"""Public paths of estimators with ``fit`` and ``predict`` or ``transform``."""

ALLOWED_PARTS = _paths(_PARTS)
"""Public paths of what such estimators take as a parameter: kernels, splitters, covariances; never a member."""
