"""
Retry schedules and the limiter: bounded, jittered, and never giving up unless told to.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.retry import POLICIES, Backoff, Failure, Limiter, RetryPolicy


@given(
    failure=st.sampled_from(Failure), attempt=st.integers(1, 10**9), random=st.floats(0, 0.999999)
)
def test_a_delay_is_within_half_and_all_of_its_step_and_never_ends(failure, attempt, random):
    policy = POLICIES[failure]
    delay = policy.delay_s(attempt, random)
    step = min(policy.max_s, policy.first_s * policy.factor ** min(attempt - 1, 64))
    assert delay is not None
    assert step / 2 <= delay < step


def test_slow_failures_come_back_about_once_a_minute():
    assert POLICIES[Failure.SLOW].delay_s(1, 0.0) == 45
    assert 89 < (POLICIES[Failure.SLOW].delay_s(50, 0.999) or 0) < 90


def test_throttling_starts_slower_than_an_outage_and_both_are_bounded():
    assert POLICIES[Failure.THROTTLED].delay_s(1, 0.0) == 1.0
    assert POLICIES[Failure.OUTAGE].delay_s(1, 0.0) == 0.25
    assert POLICIES[Failure.THROTTLED].delay_s(99, 0.0) == 30.0
    assert POLICIES[Failure.OUTAGE].delay_s(99, 0.0) == 15.0


def test_a_policy_may_give_up():
    policy = RetryPolicy(first_s=1, max_s=8, attempts_max=3)
    assert [policy.delay_s(attempt, 0.0) for attempt in (1, 2, 3)] == [0.5, 1.0, None]


def test_another_class_of_failure_begins_its_own_schedule():
    backoff = Backoff()
    assert [backoff.failed(Failure.THROTTLED, 0.0) for _ in range(3)] == [1.0, 2.0, 4.0]
    assert backoff.failed(Failure.OUTAGE, 0.0) == 0.25
    assert backoff.failed(Failure.THROTTLED, 0.0) == 1.0
    backoff.reset()
    assert backoff.attempt == 0
    assert backoff.failed(Failure.THROTTLED, 0.0) == 1.0


def test_retry_after_is_a_minimum_but_not_beyond_the_schedule():
    assert Backoff().failed(Failure.THROTTLED, 0.0, retry_after_s=10) == 10
    assert Backoff().failed(Failure.THROTTLED, 0.0, retry_after_s=0.1) == 1.0
    assert Backoff().failed(Failure.THROTTLED, 0.0, retry_after_s=86_400) == 60


def _saturate(limiter: Limiter, answers: int) -> None:
    for _ in range(answers):
        while limiter.free:
            limiter.started()
        limiter.succeeded()
        limiter.finished()


def test_the_limit_grows_while_it_is_the_bottleneck_and_only_then():
    limiter = Limiter(start=4, maximum=16)
    for _ in range(100):
        limiter.started()
        limiter.succeeded()
        limiter.finished()
    assert limiter.limit == 4
    _saturate(limiter, 500)
    assert limiter.limit == 16


def test_throttling_halves_once_per_window_and_stretches_the_linger():
    limiter = Limiter(start=16, maximum=16)
    limiter.failed(Failure.THROTTLED, 100.0, 0.5)
    limiter.failed(Failure.THROTTLED, 100.5, 0.5)
    assert (limiter.limit, limiter.stretch) == (8, 2.0)
    limiter.failed(Failure.THROTTLED, 103.0, 0.5)
    assert (limiter.limit, limiter.stretch) == (4, 4.0)
    for second in range(110, 200, 3):
        limiter.failed(Failure.THROTTLED, float(second), 0.5)
    assert (limiter.limit, limiter.stretch) == (1, Limiter.STRETCH_MAX)
    _saturate(limiter, 100)
    assert limiter.stretch == 1.0


def test_an_outage_leaves_one_probe_and_does_not_stretch():
    limiter = Limiter(start=16, maximum=16)
    limiter.failed(Failure.OUTAGE, 0.0, 0.5)
    assert (limiter.limit, limiter.stretch) == (1, 1.0)


@pytest.mark.parametrize("failure", [Failure.SLOW, Failure.CONFLICT])
def test_what_is_not_about_load_leaves_the_limit_alone(failure):
    limiter = Limiter(start=4, maximum=16)
    limiter.failed(failure, 0.0, 0.5)
    assert limiter.limit == 4


@given(st.lists(st.sampled_from(["start", "ok", *Failure]), max_size=200))
def test_the_limiter_always_lets_somebody_through(steps):
    limiter = Limiter(start=4, maximum=8)
    now = 0.0
    for step in steps:
        now += 1
        if step == "start":
            if limiter.free:
                limiter.started()
        elif limiter.in_flight:
            if step == "ok":
                limiter.succeeded()
            else:
                limiter.failed(step, now, 0.5)
            limiter.finished()
        assert 1 <= limiter.limit <= 8
        assert limiter.free or limiter.in_flight
        assert 1.0 <= limiter.stretch <= Limiter.STRETCH_MAX


def test_a_service_that_is_down_is_asked_on_one_schedule():
    """
    One failure pauses nothing; failures in a row pause everything, longer and longer; an answer ends that.
    """
    limiter = Limiter(start=4, maximum=16)
    limiter.failed(Failure.OUTAGE, 100.0, 0.0)
    assert limiter.paused_until < 100.0
    pauses = []
    now = 100.0
    for _ in range(9):
        limiter.failed(Failure.OUTAGE, now, 0.0)
        # What was under way says nothing new.
        limiter.failed(Failure.OUTAGE, now, 0.0)
        pauses.append(limiter.paused_until - now)
        now = limiter.paused_until
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15]
    limiter.succeeded()
    assert limiter.paused_until < now
    limiter.failed(Failure.OUTAGE, now, 0.0)
    assert limiter.paused_until < now
    limiter.failed(Failure.SLOW, now, 0.0)
    assert limiter.paused_until < now, "what one destination may not do says nothing about others"
