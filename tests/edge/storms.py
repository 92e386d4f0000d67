"""
What can go wrong with the destinations, one storm at a time.

| storm | what a client sees |
|---|---|
| away | connections are cut, new ones refused, for up to two seconds |
| reset before, reset after | the connection is cut before, or after the request had its effect |
| late | the request has its effect, the answer comes after the client's time-out |
| throttled, unavailable, internal, conflict | the service says so |
| impostor | a proxy answers 200 without having asked CloudWatch |
| mixed | any of them, request by request |
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.fakes import cloudwatch, s3

if TYPE_CHECKING:
    import random
    from collections import deque

    from tests.e2e.world import World

#: Longer than the agent's time-outs in an ordeal (2 s).
LATE_S = 3.0
#: A storm that the agent has not met within this is over: it backs off.
STORM_S = 10.0

CLOUDWATCH = {
    "reset before": cloudwatch.RESET_BEFORE,
    "reset after": cloudwatch.RESET_AFTER,
    "late": cloudwatch.LATE,
    "throttled": cloudwatch.THROTTLED,
    "unavailable": cloudwatch.UNAVAILABLE,
    "internal": cloudwatch.INTERNAL,
    "impostor": cloudwatch.IMPOSTOR,
}
S3: dict[str, str | tuple[int, str]] = {
    "reset before": s3.RESET_BEFORE,
    "reset after": s3.RESET_AFTER,
    "late": s3.LATE,
    "throttled": s3.SLOW_DOWN,
    "internal": s3.INTERNAL_ERROR,
    "conflict": s3.CONFLICT,
}
KINDS = [
    *(("cloudwatch", kind) for kind in ("away", *CLOUDWATCH, "mixed")),
    *(("s3", kind) for kind in ("away", *S3, "mixed")),
]


async def one(world: World, destination: str, kind: str, rng: random.Random) -> int:
    """
    Let *destination* fail in the way *kind* until the agent has met it.

    Returns:
        How many faults the agent met.
    """
    if kind == "away":
        return await away(world, destination, rng.uniform(0.2, 2))
    known = CLOUDWATCH if destination == "cloudwatch" else S3
    kinds = rng.choices(list(known), k=3) if kind == "mixed" else [kind] * rng.choice((1, 2, 3))
    fake = world.cloudwatch if destination == "cloudwatch" else world.s3
    fake.late_s = LATE_S
    left: deque[Any]
    if destination == "cloudwatch":
        world.cloudwatch.script(*(CLOUDWATCH[item] for item in kinds))
        left = world.cloudwatch._faults["PutLogEvents"]
    else:
        world.s3.script("PutObject", *(S3[item] for item in kinds))
        left = world.s3._scripts["PutObject"]
    deadline = asyncio.get_running_loop().time() + STORM_S
    while left and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    met = len(kinds) - len(left)
    left.clear()
    return met


async def away(world: World, destination: str, seconds: float) -> int:
    """
    Take the endpoint away for *seconds*.
    """
    fake = world.cloudwatch if destination == "cloudwatch" else world.s3
    await fake.go_away()
    await asyncio.sleep(seconds)
    await fake.come_back()
    return 1
