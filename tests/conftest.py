"""What holds for all tests: none depends on the speed of the machine, and none waits for threads.

The arrays are so small that a second thread only spins; what a test says of threads it sets itself.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when numpy and torch are imported

from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
