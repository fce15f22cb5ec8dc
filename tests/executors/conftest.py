"""Worker processes that tests share."""

from collections.abc import Iterator

import pytest

from stackfeat.executors import Executor, make_executor


@pytest.fixture(scope="module")
def shared_loky() -> Iterator[Executor]:
    """Two workers, for tests that leave them usable."""
    with make_executor("loky", 2, 1, 2) as executor:
        yield executor
