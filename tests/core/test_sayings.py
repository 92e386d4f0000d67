"""
Lasting trouble is said once a minute, whatever it happens to.
"""

from __future__ import annotations

from agent.core.sayings import TELL_EVERY_S, Sayings


class Clock:
    """
    A clock that stands.
    """

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_an_event_is_said_once_a_minute_and_cause() -> None:
    said: list[tuple[str, str]] = []
    clock = Clock()
    sayings = Sayings(
        route="archive",
        clock=clock,  # type: ignore[arg-type]
        tell=lambda event, text, **fields: said.append((event, text)),
    )
    for text in ("first object", "second object"):
        sayings.say("upload_failed", text, cause="NoSuchBucket")
    assert said == [("upload_failed", "first object")]
    sayings.say("upload_failed", "another trouble", cause="AccessDenied")
    sayings.say("seal_failed", "another event")
    assert len(said) == 3
    clock.now += TELL_EVERY_S
    sayings.say("upload_failed", "still", cause="NoSuchBucket")
    assert said[-1] == ("upload_failed", "still")
