"""
What all measured programs are told alike.
"""

from __future__ import annotations

REGION = "us-east-1"
BUCKET = "bench"
GROUP = "/aws/containerinsights/bench/application"
#: Seconds that a line may wait for others before it is sent: Tailrace's default, and Container Insights'.
FLUSH_S = 5
