"""
Who of several agents does a thing that one alone may do: an election through a Kubernetes Lease.

The rules, as in client-go, with nothing of them on the wall clock:

- whoever holds the Lease renews it every `renew_s`; once `deadline_s` have passed since the *sending* of the last
  renewal that was confirmed, it is no longer the holder to itself, whatever the Lease says;
- somebody else may take it when it has not changed for its whole duration, by the monotonic clock of whoever
  looks; so nobody is the holder for `duration_s - deadline_s` in between, however far clocks are apart;
- every write names the version that was read: of two that take it, or of one that is late, one is refused.

What the holder has done is written into the same object by the same writes, so a holder that has been replaced can
never set it back (the fence).

No I/O and no clock: `now` is in monotonic seconds, `stamp` is the wall clock's text for people who read the Lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from agent.core.kube_objects import ObjectMeta  # noqa: TC001 - msgspec resolves it

if TYPE_CHECKING:
    from collections.abc import Mapping

#: One less than what fits the field, an int32.
TRANSITIONS_MAX = 2**31 - 2
API_VERSION = "coordination.k8s.io/v1"
#: Of the duration, as client-go's 15, 10 and 2 seconds.
DEADLINE_PART = 2 / 3
RENEW_PART = 1 / 6


class LeaseSpec(msgspec.Struct, rename="camel"):
    """
    What a Lease says of its holder.
    """

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(msgspec.Struct):
    """
    A Lease.
    """

    metadata: ObjectMeta
    spec: LeaseSpec


class Election:
    """
    One candidate.
    """

    def __init__(self, identity: str, *, duration_s: float) -> None:
        self.identity = identity
        self.duration_s = duration_s
        self.deadline_s = duration_s * DEADLINE_PART
        self.renew_s = duration_s * RENEW_PART
        #: The Lease as it was read or written last; None: there is none, or nobody knows.
        self.lease: Lease | None = None
        self._known = False
        self._changed_at = 0.0
        self._until = float("-inf")

    def holds(self, now: float) -> bool:
        """
        Whether this candidate is the holder.
        """
        return now < self._until

    def left_s(self, now: float) -> float:
        """
        Return for how long it is, without another renewal.
        """
        return max(0.0, self._until - now)

    @property
    def holder(self) -> str:
        """
        Who holds the Lease, as far as is known; empty: nobody.
        """
        return (self.lease.spec.holder_identity or "") if self.lease is not None else ""

    @property
    def annotations(self) -> Mapping[str, str]:
        """
        What the last holder left.
        """
        return (self.lease.metadata.annotations or {}) if self.lease is not None else {}

    @property
    def must_look(self) -> bool:
        """
        Whether the Lease has to be read before anything is decided.
        """
        return not self._known or self.holder != self.identity

    def saw(self, lease: Lease | None, now: float) -> None:
        """
        Note what was read; None: there is no Lease.
        """
        before = self.lease
        if not self._known or _mark(lease) != _mark(before):
            self._changed_at = now
        self.lease, self._known = lease, True
        if self.holder != self.identity:
            self._until = float("-inf")

    def may_write(self, now: float) -> bool:
        """
        Whether the Lease is to be taken or renewed now.
        """
        if not self._known:
            return False
        if self.lease is None or self.holder in ("", self.identity):
            return True
        duration_s = self.lease.spec.lease_duration_seconds or self.duration_s
        return now - self._changed_at >= max(duration_s, 1)

    def body(
        self, *, name: str, namespace: str, stamp: str, annotations: Mapping[str, str]
    ) -> bytes:
        """
        Return the Lease to be written, with this candidate as its holder.
        """
        lease = self.lease
        spec = lease.spec if lease is not None else LeaseSpec()
        mine = self.holder == self.identity
        metadata: dict[str, object] = {
            "name": name,
            "namespace": namespace,
            "annotations": {**self.annotations, **annotations},
        }
        if lease is not None:
            metadata["resourceVersion"] = lease.metadata.resource_version
            metadata["labels"] = lease.metadata.labels or {}
        transitions = min(max(spec.lease_transitions or 0, 0), TRANSITIONS_MAX)
        return orjson.dumps(
            {
                "apiVersion": API_VERSION,
                "kind": "Lease",
                "metadata": metadata,
                "spec": {
                    "holderIdentity": self.identity,
                    "leaseDurationSeconds": max(1, int(self.duration_s)),
                    "acquireTime": (spec.acquire_time if mine else None) or stamp,
                    "renewTime": stamp,
                    "leaseTransitions": transitions + (not mine and lease is not None),
                },
            }
        )

    def released(self, body: bytes) -> bytes:
        """
        Return *body* without a holder: whoever looks next takes it at once.
        """
        fields = orjson.loads(body)
        fields["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        self._until = float("-inf")
        return orjson.dumps(fields)

    def wrote(self, lease: Lease, *, sent_at: float, now: float) -> None:
        """
        Note that a write was confirmed; it was sent at *sent_at*, and the deadline counts from there.
        """
        self.lease, self._known = lease, True
        self._changed_at = now
        if self.holder == self.identity:
            self._until = max(self._until, sent_at + self.deadline_s)

    def refused(self) -> None:
        """
        Note that the version was not the last one, or that nobody knows whether a write happened: look again.

        A holder whose renewal has no answer stays the holder until its deadline.
        """
        self._known = False

    def resign(self) -> None:
        """
        Be no holder any more.
        """
        self._until = float("-inf")


def _mark(lease: Lease | None) -> tuple[object, ...]:
    if lease is None:
        return ()
    return (lease.spec.holder_identity, lease.spec.renew_time, lease.metadata.resource_version)
