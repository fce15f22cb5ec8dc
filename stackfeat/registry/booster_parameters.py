"""The parameters of LightGBM, XGBoost and CatBoost, with their aliases: what each takes.

These libraries take any name and pass it on to native code, so a name that is not here is refused.
`REFUSED` names, for messages, what is known and left out, by the reason.
"""

from __future__ import annotations

from stackfeat.registry.parameter_kinds import AMOUNT, Kind, table, words

_ITEMS, _KEYS = frozenset({"items"}), frozenset({"keys"})
_ROUNDS, _THREADS, _SEED, _BINS = Kind(1e6), Kind(256), Kind(2**32), Kind(65_535)
_AMOUNT = Kind(AMOUNT)
_SIGNS_TEXT, _GROUPS_TEXT = r"[(\[]?-?[01](?:, ?-?[01])*[)\]]?", r"[\[\]0-9, ]+"
_SIGNS = Kind(1, pattern=_SIGNS_TEXT, free=_KEYS)
_GROUPS = Kind(1e6, pattern=_GROUPS_TEXT, free=_ITEMS)
_CLASS_WEIGHT = words("balanced", most=AMOUNT, free=_KEYS)
_MEMORY = Kind(1e12, pattern=r"\d{1,9}(?:[kKmMgG][bB])?")

_LIGHTGBM_OBJECTIVES = (
    "regression regression_l2 l2 mean_squared_error mse l2_root root_mean_squared_error rmse regression_l1 l1 "
    "mean_absolute_error mae huber fair poisson quantile mape mean_absolute_percentage_error gamma tweedie binary "
    "multiclass softmax multiclassova multiclass_ova ova ovr cross_entropy xentropy cross_entropy_lambda xentlambda "
    "lambdarank rank_xendcg xendcg xe_ndcg xe_ndcg_mart xendcg_mart"
)

LIGHTGBM: dict[str, Kind] = {
    **table(
        (
            _ROUNDS,
            "num_iterations num_iteration n_iter num_tree num_trees num_round num_rounds nrounds num_boost_round "
            "n_estimators max_iter early_stopping_round early_stopping_rounds early_stopping n_iter_no_change "
            "metric_freq output_freq pred_early_stop_freq",
        ),
        (_THREADS, "num_threads num_thread nthread nthreads n_jobs"),
        (
            _SEED,
            "seed random_seed random_state bagging_seed bagging_fraction_seed feature_fraction_seed extra_seed "
            "drop_seed data_random_seed data_seed objective_seed",
        ),
        (Kind(32_768), "num_leaves num_leaf max_leaves max_leaf max_leaf_nodes"),
        (Kind(16_384), "max_bin max_bins max_bin_by_feature num_grad_quant_bins min_data_in_bin"),
        (Kind(1e4), "num_class num_classes multi_error_top_k"),
        (
            Kind(1e4, pattern=r"\d{1,4}(?:,\d{1,4}){0,99}"),
            "eval_at ndcg_eval_at ndcg_at map_eval_at map_at",
        ),
        (Kind(64), "num_gpu gpu_platform_id gpu_device_id"),
        (Kind(64, pattern=r"\d{1,2}(?:,\d{1,2})*"), "gpu_device_id_list"),
        (
            Kind(1e9),
            "bin_construct_sample_cnt subsample_for_bin max_depth min_data_in_leaf min_data_per_leaf min_data "
            "min_child_samples min_samples_leaf bagging_freq subsample_freq max_drop min_data_per_group "
            "max_cat_threshold max_cat_to_onehot top_k topk lambdarank_truncation_level num_iteration_predict "
            "start_iteration_predict verbosity verbose histogram_pool_size hist_pool_size",
        ),
        (
            _AMOUNT,
            "learning_rate shrinkage_rate eta min_sum_hessian_in_leaf min_sum_hessian_per_leaf min_sum_hessian "
            "min_hessian min_child_weight bagging_fraction sub_row subsample bagging pos_bagging_fraction "
            "pos_sub_row pos_subsample pos_bagging neg_bagging_fraction neg_sub_row neg_subsample neg_bagging "
            "feature_fraction sub_feature colsample_bytree feature_fraction_bynode sub_feature_bynode "
            "colsample_bynode early_stopping_min_delta max_delta_step max_tree_output max_leaf_output lambda_l1 "
            "reg_alpha l1_regularization lambda_l2 reg_lambda lambda l2_regularization linear_lambda "
            "min_gain_to_split min_split_gain drop_rate rate_drop skip_drop top_rate other_rate cat_l2 cat_smooth "
            "monotone_penalty monotone_splits_penalty ms_penalty mc_penalty feature_contri feature_contrib fc fp "
            "feature_penalty refit_decay_rate cegb_tradeoff cegb_penalty_split cegb_penalty_feature_lazy "
            "cegb_penalty_feature_coupled path_smooth pred_early_stop_margin scale_pos_weight sigmoid alpha fair_c "
            "poisson_max_delta_step tweedie_variance_power lambdarank_position_bias_regularization label_gain "
            "auc_mu_weights",
        ),
        (
            Kind(1),
            "deterministic force_col_wise force_row_wise bagging_by_query extra_trees extra_tree first_metric_only "
            "xgboost_dart_mode uniform_drop use_quantized_grad quant_train_renew_leaf stochastic_rounding "
            "linear_tree linear_trees is_enable_sparse is_sparse enable_sparse sparse enable_bundle "
            "is_enable_bundle bundle use_missing zero_as_missing feature_pre_filter pred_early_stop "
            "predict_disable_shape_check is_unbalance unbalance unbalanced_sets boost_from_average reg_sqrt "
            "lambdarank_norm is_provide_training_metric training_metric is_training_metric train_metric "
            "gpu_use_dp",
        ),
        (Kind(1, pattern=_SIGNS_TEXT), "monotone_constraints mc monotone_constraint monotonic_cst"),
        (
            words("basic intermediate advanced"),
            "monotone_constraints_method monotone_constraining_method mc_method",
        ),
        (words("gbdt gbrt rf random_forest dart goss"), "boosting boosting_type boost"),
        (words(_LIGHTGBM_OBJECTIVES), "objective objective_type app application loss"),
        (
            words(
                f"{_LIGHTGBM_OBJECTIVES} None none na null custom r2 ndcg map mean_average_precision auc "
                "average_precision binary_logloss binary_error auc_mu multi_logloss multi_error kldiv "
                "kullback_leibler gamma_deviance",
                commas=True,
            ),
            "metric metrics metric_types",
        ),
        (words("serial feature data voting"), "tree_learner tree tree_type tree_learner_type"),
        (words("cpu gpu cuda"), "device_type device"),
        (
            # LightGBM joins all parameters with spaces: a name that holds one would be a parameter of its own.
            Kind(1e6, pattern=r"(?:name:)?[\w.-]{1,100}(?:,[\w.-]{1,100}){0,99}"),
            "categorical_feature cat_feature categorical_column cat_column categorical_features",
        ),
    ),
    "class_weight": _CLASS_WEIGHT,
    "data_sample_strategy": words("bagging goss"),
    "importance_type": words("split gain"),
    "interaction_constraints": Kind(1e6, pattern=_GROUPS_TEXT),
}

_XGBOOST_METRIC = (
    "(?:rmse|rmsle|mae|mape|mphe|logloss|error|merror|mlogloss|auc|aucpr|pre|ndcg|map|poisson-nloglik|gamma-nloglik|"
    "cox-nloglik|gamma-deviance|tweedie-nloglik|aft-nloglik|interval-regression-accuracy|quantile|expectile|"
    r"multi-logloss)(?:@\d{1,6}(?:\.\d{1,9})?-?)?-?"
)

XGBOOST: dict[str, Kind] = {
    **table(
        (_ROUNDS, "n_estimators num_boost_round early_stopping_rounds"),
        (_THREADS, "n_jobs nthread"),
        (_SEED, "random_state seed"),
        (Kind(64), "max_depth"),
        (_BINS, "max_bin"),
        (Kind(1e4), "num_parallel_tree num_class"),
        (Kind(1e6), "max_leaves max_cached_hist_node max_cat_to_onehot max_cat_threshold top_k verbosity"),
        (Kind(1e6), "lambdarank_num_pair_per_sample"),
        (
            _AMOUNT,
            "learning_rate eta gamma min_split_loss min_child_weight max_delta_step subsample colsample_bytree "
            "colsample_bylevel colsample_bynode reg_alpha alpha reg_lambda lambda scale_pos_weight base_score "
            "sketch_eps sketch_ratio rate_drop skip_drop tweedie_variance_power huber_slope quantile_alpha "
            "expectile_alpha aft_loss_distribution_scale lambdarank_bias_norm feature_weights",
        ),
        (
            Kind(1),
            "validate_parameters enable_categorical refresh_leaf one_drop lambdarank_unbiased "
            "lambdarank_normalization lambdarank_score_normalization ndcg_exp_gain "
            "seed_per_iteration disable_default_eval_metric",
        ),
    ),
    "aft_loss_distribution": words("normal logistic extreme"),
    "booster": words("gbtree gblinear dart"),
    "device": Kind(1, words=frozenset({"cpu", "cuda", "gpu"}), pattern=r"(?:cuda|gpu):\d{1,2}"),
    "eval_metric": Kind(1, pattern=_XGBOOST_METRIC),
    "feature_selector": words("cyclic shuffle random greedy thrifty"),
    "feature_types": words("c q i int float categorical"),
    "grow_policy": words("depthwise lossguide"),
    "importance_type": words("gain weight cover total_gain total_cover"),
    "interaction_constraints": _GROUPS,
    "lambdarank_pair_method": words("mean topk"),
    "missing": Kind(AMOUNT, odd=True),
    "monotone_constraints": _SIGNS,
    "multi_strategy": words("one_output_per_tree multi_output_tree"),
    "normalize_type": words("tree forest"),
    "objective": words(
        "reg:squarederror reg:linear reg:squaredlogerror reg:logistic reg:pseudohubererror reg:absoluteerror "
        "reg:quantileerror reg:expectileerror reg:gamma reg:tweedie binary:logistic binary:logitraw binary:hinge "
        "count:poisson survival:cox survival:aft multi:softmax multi:softprob rank:ndcg rank:map rank:pairwise"
    ),
    "predictor": words("auto cpu_predictor gpu_predictor"),
    "process_type": words("default update"),
    "sample_type": words("uniform weighted"),
    "sampling_method": words("uniform gradient_based"),
    "tree_method": words("auto exact approx hist gpu_hist"),
    "updater": words(
        "grow_colmaker grow_histmaker grow_quantile_histmaker grow_gpu_hist grow_gpu_approx prune refresh sync "
        "shotgun coord_descent gpu_coord_descent",
        commas=True,
    ),
}

_CATBOOST_LOSSES = (
    "RMSE|Logloss|CrossEntropy|MultiClass|MultiClassOneVsAll|MultiLogloss|MultiCrossEntropy|MultiRMSE|"
    "MultiRMSEWithMissingValues|RMSEWithUncertainty|MAE|Quantile|MultiQuantile|GroupQuantile|LogLinQuantile|LogCosh|"
    "Poisson|MAPE|SMAPE|Lq|Huber|Expectile|Tweedie|Focal|Cox|SurvivalAft|Combination|QueryRMSE|QuerySoftMax|"
    "QueryCrossEntropy|PairLogit|PairLogitPairwise|YetiRank|YetiRankPairwise|LambdaMart|StochasticFilter|StochasticRank|"
    "AUC|NormalizedGini|PRAUC|QueryAUC|Accuracy|BalancedAccuracy|BalancedErrorRate|BrierScore|HingeLoss|HammingLoss|"
    "ZeroOneLoss|F|F1|TotalF1|MCC|Kappa|WKappa|Precision|Recall|LogLikelihoodOfPrediction|R2|MSLE|RMSPE|FairLoss|"
    "NumErrors|MedianAbsoluteError|CtrFactor|NDCG|DCG|FilteredDCG|PFound|ERR|MRR|MAP|PrecisionAt|RecallAt|AverageGain|"
    "QueryAverage|PairAccuracy"
)
_LOSS = Kind(
    1,
    pattern=rf"(?:{_CATBOOST_LOSSES})(?::\w{{1,40}}=[\w.,~+-]{{1,200}}(?:;\w{{1,40}}=[\w.,~+-]{{1,200}})*)?",
)
_CTR_TEXT = (
    "(?:Borders|Buckets|BinarizedTargetMeanValue|FloatTargetMeanValue|Counter|FeatureFreq)"
    r"(?::\w{1,40}=[\w.]{1,40}(?:/[\d.]{1,20})?)*"
)
_CTR = Kind(1, pattern=rf"(?:\d{{1,6}}:)?{_CTR_TEXT}")
_COLUMNS = Kind(1e6, free=_ITEMS)

CATBOOST: dict[str, Kind] = {
    **table(
        (
            _ROUNDS,
            "iterations num_boost_round n_estimators num_trees early_stopping_rounds od_wait metric_period "
            "leaf_estimation_iterations best_model_min_trees verbose verbose_eval",
        ),
        (_THREADS, "thread_count"),
        (_SEED, "random_seed random_state"),
        (Kind(16), "depth max_depth"),
        (_BINS, "border_count max_bin max_leaves num_leaves one_hot_max_size ctr_target_border_count"),
        (Kind(1e4), "classes_count max_ctr_complexity"),
        (
            Kind(1e9),
            "min_data_in_leaf min_child_samples fold_permutation_block ctr_leaf_count_limit dev_efb_max_buckets "
            "dev_score_calc_obj_block_size",
        ),
        (
            _AMOUNT,
            "learning_rate eta l2_leaf_reg reg_lambda model_size_reg rsm colsample_bylevel od_pval random_strength "
            "bagging_temperature subsample mvs_reg fold_len_multiplier gpu_ram_part scale_pos_weight target_border "
            "diffusion_temperature model_shrink_rate penalties_coefficient sparse_features_conflict_fraction "
            "eval_fraction",
        ),
        (
            Kind(1),
            "use_best_model silent has_time allow_const_label store_all_simple_ctr approx_on_full_history langevin "
            "posterior_sampling boost_from_average",
        ),
        (Kind(1, is_true=False), "allow_writing_files save_snapshot"),
        (_LOSS, "loss_function objective eval_metric custom_metric custom_loss"),
        (_CTR, "simple_ctr combinations_ctr per_feature_ctr ctr_description"),
        (_COLUMNS, "cat_features text_features embedding_features ignored_features"),
        (_MEMORY, "used_ram_limit pinned_memory_size"),
        (
            Kind(AMOUNT, free=_ITEMS | _KEYS),
            "class_weights class_names feature_weights first_feature_use_penalties per_object_feature_penalties",
        ),
    ),
    "auto_class_weights": words("Balanced SqrtBalanced None"),
    "boosting_type": words("Ordered Plain"),
    "bootstrap_type": words("Bayesian Bernoulli MVS Poisson No"),
    "counter_calc_method": words("Full SkipTest"),
    "ctr_history_unit": words("Sample Group"),
    "data_partition": words("FeatureParallel DocParallel"),
    "devices": Kind(64, pattern=r"\d{1,2}(?:[:-]\d{1,2})*"),
    "feature_border_type": words(
        "Median Uniform UniformAndQuantiles MaxLogSum MinEntropy GreedyLogSum GreedyMinEntropy"
    ),
    "final_ctr_computation_mode": words("Default Skip"),
    "gpu_cat_features_storage": words("CpuPinnedMemory GpuRam"),
    "grow_policy": words("SymmetricTree Depthwise Lossguide Region"),
    "leaf_estimation_backtracking": words("No AnyImprovement Armijo"),
    "leaf_estimation_method": words("Newton Gradient Exact Simple"),
    "logging_level": words("Silent Verbose Info Debug"),
    "model_shrink_mode": words("Constant Decreasing"),
    "monotone_constraints": _SIGNS,
    "nan_mode": words("Forbidden Min Max"),
    "od_type": words("IncToDec Iter"),
    "per_float_feature_quantization": Kind(
        1, pattern=r"\d{1,6}:\w{1,40}=\w{1,40}(?:,\w{1,40}=\w{1,40}){0,3}"
    ),
    "random_score_type": words("NormalWithModelSizeDecrease Gumbel"),
    "sampling_frequency": words("PerTree PerTreeLevel"),
    "sampling_unit": words("Object Group"),
    "score_function": words("Cosine L2 NewtonCosine NewtonL2 SolarL2 LOOL2 SatL2"),
    "task_type": words("CPU GPU"),
}

REFUSED: dict[str, dict[str, str]] = {
    "lightgbm": {
        "reads or writes a file": (
            "config config_file data train train_data train_data_file data_filename valid test test_data "
            "test_data_file valid_data valid_data_file valid_filenames input_model model_input model_in "
            "output_model model_output model_out output_result predict_result prediction_result predict_name "
            "prediction_name pred_name name_pred convert_model convert_model_file convert_model_language "
            "forcedsplits_filename fs forced_splits_filename forced_splits_file forced_splits forcedbins_filename "
            "parser_config_file save_binary is_save_binary is_save_binary_file snapshot_freq save_period "
            "saved_feature_importance_type two_round two_round_loading use_two_round_loading precise_float_parser "
            "header has_header label_column label weight_column weight group_column group group_id query_column "
            "query query_id ignore_column ignore_feature blacklist"
        ),
        "connects to other machines": (
            "machines workers nodes machine_list_filename machine_list_file machine_list mlist num_machines "
            "num_machine local_listen_port local_port port time_out pre_partition is_pre_partition"
        ),
        "changes what fit and predict do": (
            "task task_type predict_raw_score is_predict_raw_score predict_rawscore raw_score predict_leaf_index "
            "is_predict_leaf_index leaf_index predict_contrib is_predict_contrib contrib"
        ),
        "runs code": "callbacks fobj feval",
    },
    "xgboost": {
        "runs code": "callbacks",
        "changes memory of the machine": "use_rmm extmem_single_page",
        "connects to other machines": "dmlc_tracker_uri dmlc_tracker_port federated_server_address",
        "takes any parameter at all": "kwargs",
    },
    "catboost": {
        "reads or writes a file": (
            "train_dir snapshot_file snapshot_interval input_borders output_borders name metadata"
        ),
        "runs code": "callback callbacks",
        "takes free configuration of native code": (
            "tokenizers dictionaries feature_calcers text_processing device_config fixed_binary_splits"
        ),
    },
}
"""What is known and left out, by library and reason."""

BOOSTERS = {"lightgbm": LIGHTGBM, "xgboost": XGBOOST, "catboost": CATBOOST}
"""Tables by package."""
