"""What the package takes from scikit-learn's private parts, in one place.

Nothing public does the same; where something does, it is used instead. Each name stands with its use, and what would
come nearest in public. scikit-learn may change them in any version: pyproject.toml has the last one that was tried.

In:  scikit-learn, from the oldest to the newest version of pyproject.toml.
Out: its private names, under their own names.
"""

from __future__ import annotations

# Checks the parameters of an estimator when `fit` begins.
from sklearn.base import _fit_context as _fit_context

# Fits one estimator with its weights, prints what `verbose` asks for; public is `estimator.fit`, without words.
from sklearn.ensemble._base import _fit_single_estimator as _fit_single_estimator

# Bases of stacks and votes: ours stand between them and scikit-learn's classes; public are only the latter.
from sklearn.ensemble._stacking import _BaseStacking as _BaseStacking
from sklearn.ensemble._voting import _BaseVoting as _BaseVoting

# Gives columns to classes that a fold did not see; public is `cross_val_predict`, which fits too.
from sklearn.model_selection._validation import _enforce_prediction_order as _enforce_prediction_order

# Takes rows (or columns) of arrays, frames, sparse matrices and lists; documented, but called private.
from sklearn.utils import _safe_indexing as _safe_indexing

# What a parameter may be, for `_fit_context`.
from sklearn.utils._param_validation import HasMethods as HasMethods
from sklearn.utils._param_validation import Interval as Interval
from sklearn.utils._param_validation import StrOptions as StrOptions

# A box in the drawing of an estimator.
from sklearn.utils._repr_html.estimator import _VisualBlock as _VisualBlock

# Words of the error for metadata that no routing was enabled for.
from sklearn.utils.metadata_routing import _raise_for_params as _raise_for_params

# Names of columns, noted or compared; public is `validate_data`, which asks for tags that not every estimator inside
# ours has.
from sklearn.utils.validation import _check_feature_names as _check_feature_names

# Names of columns for `get_feature_names_out`.
from sklearn.utils.validation import _check_feature_names_in as _check_feature_names_in

# Takes rows of those parameters of `fit` that have one for each sample.
from sklearn.utils.validation import _check_method_params as _check_method_params

# Number of columns, noted or compared; public is `validate_data`, as above.
from sklearn.utils.validation import _check_n_features as _check_n_features

# Sample weights as an array, or the usual words; public is `check_array`, with other words.
from sklearn.utils.validation import _check_sample_weight as _check_sample_weight

# Whether a stack has a method: that of its final estimator.
from sklearn.utils.validation import _estimator_has as _estimator_has

# Number of rows of whatever has some; public is `check_consistent_length`, which does not tell it.
from sklearn.utils.validation import _num_samples as _num_samples
