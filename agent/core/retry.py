"""
When to try again, and how much to try at once.

Pure decisions: the time and the random number are arguments, the waiting is the caller's.

| class of failure | schedule | concurrency |
|---|---|---|
| throttled: the service asks for less | 2 s, 4 s, 8 s … 60 s | halved, at most once in 2 s; linger doubles |
| outage: 5xx, connection, time-out, no answer | 0.5 s, 1 s, 2 s … 30 s | falls to 1, grows back as answers come |
| slow: a person must act (credentials, permissions, a missing bucket) | about once a minute | unchanged |
| conflict: another node creates the same thing | 0.2 s, 0.4 s … 5 s | unchanged |

The schedule is that of one destination.  Where failure follows failure with no success between, it is the service
that is down, and then all destinations together keep to one schedule of the class: a node with a thousand streams
asks as rarely as one with a single stream, and when the answer is good again they go on with one request, then two.

A delay d is drawn from [d/2, d), as the CloudWatch agent does, so that a fleet does not come back in step.
Retrying never gives up unless a policy says so: what is retried is still in its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """
    Classes of failure that are tried again; also the label of the retry metric.
    """

    THROTTLED = "throttled"
    OUTAGE = "outage"
    SLOW = "slow"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    An exponential schedule with jitter.
    """

    first_s: float
    max_s: float
    factor: float = 2.0
    #: None: for ever.
    attempts_max: int | None = None

    def delay_s(self, attempt: int, random: float) -> float | None:
        """
        Return the seconds to wait after failure number *attempt* (from 1); None to give up.

        *random* is in [0, 1).
        """
        assert attempt >= 1
        if self.attempts_max is not None and attempt >= self.attempts_max:
            return None
        # The exponent is bounded: an outage of weeks must not overflow a float.
        full = min(self.max_s, self.first_s * self.factor ** min(attempt - 1, 64))
        return full * (0.5 + random / 2)


#: The CloudWatch agent's "long" schedule (facts: throttling and 5xx).
THROTTLED_POLICY = RetryPolicy(first_s=2.0, max_s=60.0)
OUTAGE_POLICY = RetryPolicy(first_s=0.5, max_s=30.0)
#: [45, 90) s: about once a minute.
SLOW_POLICY = RetryPolicy(first_s=90.0, max_s=90.0)
#: The CloudWatch agent's "short" schedule.
CONFLICT_POLICY = RetryPolicy(first_s=0.2, max_s=5.0)

POLICIES: dict[Failure, RetryPolicy] = {
    Failure.THROTTLED: THROTTLED_POLICY,
    Failure.OUTAGE: OUTAGE_POLICY,
    Failure.SLOW: SLOW_POLICY,
    Failure.CONFLICT: CONFLICT_POLICY,
}


class Backoff:
    """
    How often one thing has failed in a row, by class.
    """

    __slots__ = ("_attempt", "_failure")

    def __init__(self) -> None:
        self._failure: Failure | None = None
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """
        Failures in a row, of the last class.
        """
        return self._attempt

    def failed(
        self, failure: Failure, random: float, *, retry_after_s: float | None = None
    ) -> float | None:
        """
        Note a failure and return the seconds to wait, at least *retry_after_s*; None to give up.
        """
        # Another class begins its own schedule: a minute of throttling says nothing about an outage.
        self._attempt = self._attempt + 1 if failure is self._failure else 1
        self._failure = failure
        delay_s = POLICIES[failure].delay_s(self._attempt, random)
        if delay_s is None or retry_after_s is None:
            return delay_s
        return max(delay_s, min(retry_after_s, POLICIES[failure].max_s))

    def reset(self) -> None:
        """
        Forget the failures: it worked.
        """
        self._failure = None
        self._attempt = 0


class Limiter:
    """
    How many requests may be in flight, and how much longer than usual to linger.

    Additive increase while the limit is the bottleneck, multiplicative decrease on throttling.
    """

    __slots__ = ("_cut_at", "_in_a_row", "_limit", "_max", "in_flight", "paused_until", "stretch")

    #: Requests that were in flight together fail together: they count as one sign.
    CUT_EVERY_S = 2.0
    STRETCH_MAX = 12.0
    STRETCH_DECAY = 0.9

    def __init__(self, *, start: int, maximum: int) -> None:
        assert 1 <= start <= maximum
        self._limit = float(start)
        self._max = maximum
        self._cut_at = float("-inf")
        self._in_a_row = 0
        self.in_flight = 0
        #: Nothing is started before this (monotonic).
        self.paused_until = float("-inf")
        #: Factor on the linger: fewer, fuller requests under throttling.
        self.stretch = 1.0

    @property
    def limit(self) -> int:
        """
        Requests that may be in flight.
        """
        return int(self._limit)

    @property
    def free(self) -> int:
        """
        Requests that may be started now.
        """
        return max(0, self.limit - self.in_flight)

    def started(self) -> None:
        """
        Count a request that begins.
        """
        self.in_flight += 1

    def finished(self) -> None:
        """
        Count a request that ended, however it ended.
        """
        assert self.in_flight > 0
        self.in_flight -= 1

    def succeeded(self) -> None:
        """
        Note an answer while the request still counts as in flight.
        """
        self._in_a_row = 0
        self.paused_until = float("-inf")
        if self.in_flight >= self.limit:
            self._limit = min(self._max, self._limit + 1 / self._limit)
        self.stretch = max(1.0, self.stretch * self.STRETCH_DECAY)

    def failed(self, failure: Failure, now: float, random: float) -> None:
        """
        Note a failure at *now* (monotonic seconds); *random* is in [0, 1).
        """
        if failure in (Failure.SLOW, Failure.CONFLICT):
            return
        if now >= self.paused_until:
            # One failure is an accident of its request.
            if self._in_a_row:
                self.paused_until = now + (POLICIES[failure].delay_s(self._in_a_row, random) or 0.0)
            self._in_a_row += 1
        if now - self._cut_at < self.CUT_EVERY_S:
            return
        self._cut_at = now
        if failure is Failure.THROTTLED:
            self._limit = max(1.0, self._limit / 2)
            self.stretch = min(self.STRETCH_MAX, self.stretch * 2)
        else:
            self._limit = 1.0
