"""
Hypothesis: few examples by default, many with TAILRACE_SLOW=1.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = os.environ.get("TAILRACE_SLOW", "") not in {"", "0"}
_QUICK = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("transforms-quick", _QUICK)
settings.register_profile("transforms-slow", _QUICK, max_examples=3_000)
settings.load_profile("transforms-slow" if _SLOW else "transforms-quick")
