"""The engine of the caller's joblib: whatever `joblib.parallel_config` says, results come back by value.

In:  a function and keys; `keep`, which takes each key and what the function returned.
Out: outcomes in the order of the keys. An error ends everything and is raised as it is, which is what
     users of scikit-learn expect of a `fit`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from stackfeat.executors.job import Order, Outcome


class JoblibExecutor:
    """Runs jobs in at most `n_jobs` workers of the joblib backend in use (None: one, or the context's).

    Parameters
    ----------
    n_jobs : int or None
    keep : callable
        Called in this process with every key and its result.
    verbose : int
        As in joblib.
    """

    def __init__(self, n_jobs: int | None, keep: Callable[[str, Any], None], *, verbose: int = 0) -> None:
        self.n_jobs = n_jobs
        self.keep = keep
        self.verbose = verbose
        self._stopped = False

    def submit(self, function: Callable[[str], Any], keys: Sequence[str] | Order) -> Iterator[Outcome]:
        """Run the function on every key; scikit-learn's configuration goes along."""
        assert isinstance(keys, Sequence), "joblib takes jobs as they are listed"
        from joblib import effective_n_jobs
        from sklearn.utils.parallel import Parallel, delayed

        if effective_n_jobs(self.n_jobs) == 1 and not self.verbose:
            done = (_timed(function, key) for key in keys)
        else:
            run = Parallel(n_jobs=self.n_jobs, verbose=self.verbose)
            done = iter(run(delayed(_timed)(function, key) for key in keys))
        for key, (seconds, value) in zip(keys, done, strict=True):
            self.keep(key, value)
            yield Outcome(key, None, seconds, None)
            if self._stopped:
                return

    def stop(self) -> None:
        """Hand on no more outcomes."""
        self._stopped = True

    def close(self) -> None:
        """Hand on no more outcomes; workers belong to joblib."""
        self._stopped = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _timed(function: Callable[[str], Any], key: str) -> tuple[float, Any]:
    started = time.perf_counter()
    value = function(key)
    return time.perf_counter() - started, value
