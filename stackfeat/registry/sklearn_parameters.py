"""What parameters of scikit-learn's allowed classes take, by the parameter's name.

A name that is not here takes numbers up to a count, true, false and lists of these: no text at all.
Texts are the closed sets that the classes themselves document, less those that open files.
Left out, so refused whatever is given as text: `memory` and `callback` (caches, code), `func`,
`tokenizer` and their like (code), the values `file` and `filename` of `input`.
"""

from __future__ import annotations

from stackfeat.registry.parameter_kinds import AMOUNT, COUNT, Kind, table, words

_TEXT, _ITEMS, _KEYS = frozenset({"text"}), frozenset({"items"}), frozenset({"keys"})

_SCORERS = (
    "accuracy adjusted_mutual_info_score adjusted_rand_score average_precision balanced_accuracy completeness_score "
    "d2_absolute_error_score d2_brier_score d2_log_loss_score explained_variance f1 f1_macro f1_micro f1_samples "
    "f1_weighted fowlkes_mallows_score homogeneity_score jaccard jaccard_macro jaccard_micro jaccard_samples "
    "jaccard_weighted matthews_corrcoef mutual_info_score neg_brier_score neg_log_loss neg_max_error max_error "
    "neg_mean_absolute_error neg_mean_absolute_percentage_error neg_mean_gamma_deviance neg_mean_poisson_deviance "
    "neg_mean_squared_error neg_mean_squared_log_error neg_median_absolute_error neg_negative_likelihood_ratio "
    "neg_root_mean_squared_error neg_root_mean_squared_log_error normalized_mutual_info_score "
    "positive_likelihood_ratio precision precision_macro precision_micro precision_samples precision_weighted r2 "
    "rand_score recall recall_macro recall_micro recall_samples recall_weighted roc_auc roc_auc_ovo "
    "roc_auc_ovo_weighted roc_auc_ovr roc_auc_ovr_weighted top_k_accuracy v_measure_score loss"
)
_METRICS = (
    "braycurtis canberra chebyshev cityblock correlation cosine dice euclidean hamming haversine infinity jaccard l1 "
    "l2 mahalanobis manhattan matching minkowski nan_euclidean p precomputed rogerstanimoto russellrao seuclidean "
    "sokalmichener sokalsneath sqeuclidean wminkowski yule"
)
SCORE_FUNCTIONS = [
    "chi2",
    "f_classif",
    "f_regression",
    "mutual_info_classif",
    "mutual_info_regression",
    "r_regression",
]
"""Functions of sklearn.feature_selection that score columns, do nothing else, and may be named as `score_func`."""

_KERNELS = "additive_chi2 chi2 cosine knn laplacian linear poly polynomial precomputed rbf sigmoid"

_NUMBERS = table(
    (
        Kind(AMOUNT),
        "C alpha alpha_1 alpha_2 alpha_W alpha_init beta_1 beta_2 binarize ccp_alpha coef0 covariance_prior damping "
        "degrees_of_freedom_prior distance_threshold doc_topic_prior eps epsilon eta0 forget_factor hessian_tol "
        "intercept_scaling jitter l1_ratio l2_regularization lambda_1 lambda_2 lambda_init learning_decay "
        "learning_offset learning_rate_init mean_change_tol mean_prior mean_precision_prior min_frequency "
        "min_impurity_decrease modified_tol momentum noise_variance_init nu p percentile perp_tol power power_t "
        "preference quantile radius reassignment_ratio reg reg_covar reg_param residual_threshold ridge_alpha "
        "sample_interval shrink_threshold skewedness sparse_threshold step stop_probability "
        "support_fraction threshold_lambda tol topic_word_prior total_samples transform_alpha validation_fraction "
        "var_smoothing weight_concentration_prior y_max y_min feature_range quantile_range bandwidth class_prior "
        "noise_level length_scale constant_value sigma_0 periodicity exponent means_init "
        "precisions_init weights_init U_init V_init W_init w_init code_init dict_init dictionary seeds "
        "penalties scales",
    ),
    (
        Kind(1e6),
        "n_estimators max_iter n_iter max_trials max_fun max_iter_predict transform_max_iter "
        "max_no_improvement max_doc_update_iter fresh_restarts_max_iter convergence_iter max_patches n_quantiles",
    ),
    (Kind(1e6, AMOUNT), "alphas Cs l1_ratios thresholds"),
    (Kind(1e4), "n_restarts_optimizer n_repeats n_splits iterated_power code_size n_knots verbose_interval"),
    (Kind(1e5, 1e5), "n_clusters n_bins n_oversamples cache_size max_n_alphas"),
    (Kind(1e9), "subsample min_samples min_samples_leaf min_samples_split max_leaf_nodes"),
    (Kind(2**24), "n_features"),
    (Kind(2**32), "random_state"),
    (Kind(256), "n_jobs"),
    (Kind(10, 10), "degree"),
    (Kind(1e4, 1e4), "patch_size ngram_range"),
    (Kind(1e5, 1e5, widths=True), "hidden_layer_sizes"),
    (Kind(odd=True), "n_iter_no_change norm_order max_skips stop_n_inliers stop_score"),
)

_TEXTS = {
    "activation": words("identity logistic relu tanh"),
    "affinity": words("euclidean precomputed"),
    "algorithm": words(
        "arpack auto ball_tree brute deflation elkan kd_tree lloyd nipals parallel randomized svd SAMME"
    ),
    "alpha_H": words("same", most=AMOUNT),
    "analyzer": words("char char_wb word"),
    "batch_size": words("auto"),
    "beta_loss": words("frobenius itakura-saito kullback-leibler", most=AMOUNT),
    "bisecting_strategy": words("biggest_inertia largest_cluster"),
    "chain_method": words("decision_function predict predict_log_proba predict_proba"),
    "compute_full_tree": words("auto"),
    "contamination": words("auto"),
    "covariance_type": words("diag full spherical tied"),
    "criterion": words(
        "absolute_error aic bic entropy friedman_mse gini k_best log_loss poisson squared_error threshold"
    ),
    "decision_function_shape": words("ovo ovr"),
    "decode_error": words("ignore replace strict"),
    "density": words("auto"),
    "direction": words("backward forward"),
    "dtype": words("float float32 float64 int int8 int16 int32 int64 uint8 bool"),
    "dual": words("auto"),
    "early_stopping": words("auto"),
    "eigen_solver": words("arpack auto dense randomized"),
    "encode": words("onehot onehot-dense ordinal"),
    "encoding": words("utf-8 utf8 utf-16 ascii latin-1 latin1 iso-8859-1 cp1252"),
    "ensemble": words("auto"),
    "error_score": words("raise", odd=True),
    "extrapolation": words("constant continue error linear periodic"),
    "feature_name_combiner": words("concat"),
    "features": words("all missing-only"),
    "fit_algorithm": words("cd lars"),
    "fun": words("cube exp logcosh"),
    "gamma": words("auto scale", most=AMOUNT),
    "gcv_mode": words("auto eigen svd"),
    "handle_missing": words("error zeros"),
    "handle_unknown": words("error ignore infrequent_if_exist use_encoded_value warn"),
    "importance_getter": words("auto coef_ feature_importances_"),
    "increasing": words("auto"),
    "init_params": words("k-means++ kmeans random random_from_data"),
    "input": words("content"),
    "input_type": words("dict pair string"),
    "interaction_cst": words("no_interactions pairwise"),
    "iterated_power": words("auto", most=1e4),
    "k": words("all"),
    "knots": words("quantile uniform", most=1e4, most_item=AMOUNT),
    "learning_method": words("batch online"),
    "learning_rate": words("adaptive constant invscaling optimal pa1 pa2", most=AMOUNT),
    "link": words("auto identity log"),
    "linkage": words("average complete single ward"),
    "loss": words(
        "absolute_error epsilon_insensitive exponential gamma hinge huber linear log_loss modified_huber perceptron "
        "poisson quantile square squared_epsilon_insensitive squared_error squared_hinge"
    ),
    "max_features": words("log2 sqrt"),
    "max_samples": words("auto"),
    "method": words(
        "box-cox cd hessian isotonic lars ltsa modified sigmoid standard temperature yeo-johnson"
    ),
    "metric": words(f"{_METRICS} {_KERNELS}"),
    "mode": words("connectivity distance fdr fpr fwe k_best percentile"),
    "multi_class": words("auto crammer_singer multinomial one_vs_one one_vs_rest ovr"),
    "n_components": words("auto mle", most=2e4),
    "n_features_to_select": words("auto"),
    "n_init": words("auto", most=1e4),
    "neighbors_algorithm": words("auto ball_tree brute kd_tree"),
    "norm": words("l1 l2 max"),
    "optimizer": words("fmin_l_bfgs_b"),
    "order": words("C F random"),
    "out_of_bounds": words("clip nan raise"),
    "output_distribution": words("normal uniform"),
    "param": words("all", most=AMOUNT),
    "path_method": words("D FW auto"),
    "penalty": words("elasticnet l1 l2"),
    "power_iteration_normalizer": words("LU QR auto none"),
    # joblib computes the text: no more than a small multiple of the number of jobs.
    "pre_dispatch": Kind(1e4, words=frozenset({"all", "n_jobs"}), pattern=r"\d{1,2}\*n_jobs"),
    "precompute": words("auto", most=AMOUNT),
    "priors": words("empirical uniform"),
    "quantile_method": words(
        "averaged_inverted_cdf closest_observation hazen interpolated_inverted_cdf inverted_cdf linear "
        "median_unbiased normal_unbiased weibull"
    ),
    "refit": words(_SCORERS, free=_TEXT),
    "response_method": words("auto decision_function predict_proba"),
    "rotation": words("quartimax varimax"),
    "score_func": words(" ".join(SCORE_FUNCTIONS)),
    "scoring": words(_SCORERS, free=_KEYS),
    "selection": words("cyclic random"),
    "shrinkage": words("auto"),
    "smooth": words("auto", most=AMOUNT),
    "solver": words(
        "adam auto cd cholesky eigen highs highs-ds highs-ipm interior-point lbfgs liblinear lsqr mu newton-cg "
        "newton-cholesky sag saga sgd sparse_cg svd",
        pattern="revised simplex",
    ),
    "sparse": words("auto"),
    "splitter": words("best random"),
    "stack_method": words("auto decision_function predict predict_proba"),
    "strategy": words("constant kmeans mean median most_frequent prior quantile stratified uniform"),
    "strip_accents": words("ascii unicode"),
    "svd_method": words("lapack randomized"),
    "svd_solver": words("arpack auto covariance_eigh full randomized"),
    "target_type": words("auto binary continuous multiclass"),
    "threshold": Kind(
        AMOUNT, words=frozenset({"auto"}), pattern=r"(?:\d{1,9}(?:\.\d{0,9})?\s?\*\s?)?(?:mean|median)"
    ),
    # The two patterns that everybody writes; others are free regular expressions, which may never end.
    "token_pattern": Kind(words=frozenset({r"(?u)\b\w\w+\b", r"(?u)\b\w+\b"})),
    "transform_algorithm": words("lars lasso_cd lasso_lars omp threshold"),
    "voting": words("hard soft"),
    "weight_concentration_prior_type": words("dirichlet_distribution dirichlet_process"),
    "weights": words("distance uniform"),
    "whiten": words("arbitrary-variance unit-variance"),
    "whiten_solver": words("eigh svd"),
}

_BOUNDS_OF_KERNELS = table(
    (
        words("fixed", most=AMOUNT),
        "alpha_bounds constant_value_bounds gamma_bounds length_scale_bounds noise_level_bounds periodicity_bounds "
        "sigma_0_bounds",
    ),
)

_NAMES = {
    "categorical_features": words("from_dtype", free=_ITEMS),
    "categories": words("auto", most=AMOUNT, free=_ITEMS),
    "class_weight": words("balanced balanced_subsample", most=AMOUNT, free=_KEYS),
    "classes": Kind(AMOUNT, free=_ITEMS),
    "constant": Kind(AMOUNT, free=_TEXT | _ITEMS),
    "drop": words("first if_binary", most=AMOUNT, free=_ITEMS),
    "fill_value": Kind(AMOUNT, free=_TEXT, odd=True),
    "missing_values": Kind(AMOUNT, free=_TEXT, odd=True),
    "encoded_missing_value": Kind(AMOUNT, odd=True),
    "unknown_value": Kind(AMOUNT, odd=True),
    "monotonic_cst": Kind(1, free=_KEYS),
    "outlier_label": words("most_frequent", most=AMOUNT, free=_TEXT | _ITEMS),
    "pos_label": Kind(AMOUNT, free=_TEXT),
    "separator": Kind(free=_TEXT),
    "stop_words": words("english", free=_ITEMS),
    "transform_input": Kind(free=_ITEMS),
    "transformer_weights": Kind(AMOUNT, free=_KEYS),
    "vocabulary": Kind(free=_ITEMS | _KEYS),
}

_FURTHER_ARGUMENTS = table(
    (
        Kind(AMOUNT, free=_KEYS),
        "fun_args kernel_params metric_params pairwise_kernels_kwargs solver_options",
    ),
)

_NESTING = {
    **table((Kind(nests=True), "base_estimator estimator final_estimator regressor classifier transformer")),
    **table((Kind(nests=True), "covariance_estimator k1 k2")),
    "cv": Kind(1e3, COUNT, words=frozenset({"prefit"}), nests=True),
    "init": words(
        "auto custom identity k-means++ lda nndsvd nndsvda nndsvdar pca random zero", most=AMOUNT, nests=True
    ),
    "kernel": words(_KERNELS, nests=True),
    "n_clusters": Kind(1e5, nests=True),
    "remainder": words("drop passthrough", nests=True),
}

SKLEARN: dict[str, Kind] = {
    **_NUMBERS,
    **_TEXTS,
    **_BOUNDS_OF_KERNELS,
    **_NAMES,
    **_FURTHER_ARGUMENTS,
    **_NESTING,
}
"""Names of parameters to what they take."""

MEMBER_LISTS = ("estimators", "steps", "transformer_list", "transformers")
"""Parameters that are lists of [name, class] and, for columns, [name, class, columns]."""

GRIDS = ("param_distributions", "param_grid")
"""Parameters that hold values of other parameters, by name."""

TUPLES = ("feature_range", "ngram_range", "patch_size", "quantile_range")
"""Parameters that must be tuples, which YAML cannot write."""
