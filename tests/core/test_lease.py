"""
When a Lease may be taken, and for how long its holder is one.
"""

from __future__ import annotations

import orjson

from agent.core.kube_objects import ObjectMeta
from agent.core.lease import Election, Lease, LeaseSpec


def lease(holder: str, version: str = "1", seconds: int = 10) -> Lease:
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=seconds, lease_transitions=3)
    return Lease(metadata=ObjectMeta(name="l", resource_version=version), spec=spec)


def test_when_a_lease_may_be_taken() -> None:
    """
    After it has not changed for its own duration, by the clock of whoever looks.
    """
    made = Election("me", duration_s=30)
    assert not made.may_write(0)
    made.saw(lease("other"), 100)
    assert not made.may_write(109.9)
    made.saw(lease("other", "2"), 109)
    assert not made.may_write(118.9)
    made.saw(lease("other", "2"), 118)
    assert made.may_write(119)
    body = orjson.loads(made.body(name="l", namespace="n", stamp="t", annotations={"k": "v"}))
    assert body["metadata"]["resourceVersion"] == "2"
    assert body["spec"]["leaseTransitions"] == 4
    assert not made.holds(119)


def test_how_long_a_holder_is_one() -> None:
    """
    From the sending of the last confirmed renewal on; an answer that is lost does not lengthen it.
    """
    made = Election("me", duration_s=30)
    made.saw(None, 0)
    assert made.may_write(0)
    made.wrote(lease("me"), sent_at=1, now=5)
    assert made.holds(20.9)
    assert not made.holds(21)
    made.refused()
    assert made.holds(20)
    assert made.must_look
    made.saw(lease("other", "2"), 6)
    assert not made.holds(7)
