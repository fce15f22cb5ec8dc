"""What the package takes from joblib's private parts, in one place.

It stands here, where jobs become bytes, because no other room needs it. Public are two others:
`joblib.wrap_non_picklable_objects`, which gives back a wrapper and not the object, and cloudpickle itself, which came
inside joblib before 1.6 and comes beside it since.
"""

from __future__ import annotations

# Pickles functions and classes that a worker cannot import; the one name that holds for all joblib.
from joblib.externals.loky.cloudpickle_wrapper import dumps as dumps
