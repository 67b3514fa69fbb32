"""The unit tests, and how many examples hypothesis tries: few in each run, since runs are many and each tries others; more in the soak.

How long an example takes is the machine's business: no test asserts a time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

OFTEN = 40
SOAK_TIMES = 20


def examples(count: int = OFTEN) -> int:
    """So many examples; in the soak (M2MAPP_SOAK=1) twenty times as many."""
    return count * SOAK_TIMES if os.environ.get("M2MAPP_SOAK") == "1" else count


settings.register_profile("m2mapp", max_examples=examples(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("m2mapp")
