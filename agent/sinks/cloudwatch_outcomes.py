"""
What became of a payload: the one place of this sink that resolves rows, and the one that speaks to people.

Nothing here waits, so a cancellation finds a payload either resolved whole or not at all.

A payload that the service refuses for ever is halved until a single row stands alone.  A row refused alone is set
aside until the rest of what waits is through: its destination may refuse everything (a disabled key, a
group that takes no events), and then nobody may call its lines lost.

| rows set aside | taken from the destination meanwhile | then |
|---|---|---|
| fewer than REFUSED_ALONE_MAX | anything or nothing | recorded as lost |
| more | something | tried once more on their own; refused again: recorded as lost |
| more | nothing | tried again about once a minute, for ever, and said so |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batch import LossReason
from agent.core.sayings import Sayings
from agent.core.templates import UNKNOWN
from agent.sinks.cloudwatch_refusals import halves_of, losses_of
from agent.sinks.cloudwatch_requests import Action, Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Resource
    from agent.core.budget import Share
    from agent.core.counters import Counters
    from agent.core.host import Clock
    from agent.sinks.cloudwatch_destinations import Destination
    from agent.sinks.cloudwatch_payloads import Payload
    from agent.sinks.protocol import Resolve

#: So many rows refused one by one, and none taken: it may be the destination that refuses.
REFUSED_ALONE_MAX = 8

#: Own log lines: (event, what to do).
SAYINGS: dict[Action, tuple[str, str]] = {
    Action.THROTTLED: (
        "cloudwatch_throttled",
        "backing off; ask for a higher {operation} quota if this stays",
    ),
    Action.OUTAGE: (
        "cloudwatch_unavailable",
        "trying again; nothing is lost while the files exist",
    ),
    Action.CREDENTIALS: (
        "cloudwatch_credentials",
        "trying again about once a minute; check credentials, Region and clock",
    ),
    Action.DENIED: (
        "cloudwatch_denied",
        "trying again about once a minute; allow logs:{operation} on log-group:{group}:*",
    ),
    Action.UNKNOWN: (
        "cloudwatch_refused",
        "trying again about once a minute; correct the group, the account or the configuration",
    ),
}


class CloudWatchSayings(Sayings):
    """
    Tailrace's own log lines about this sink.
    """

    def __init__(self, *, route: str, clock: Clock, tell: Callable[..., None]) -> None:
        super().__init__(route=route, clock=clock, tell=tell)
        self._absent: set[tuple[str, str]] = set()

    def absent(self, setting: str, variable: str, resource: Resource) -> None:
        """
        Say once that *variable* of the template of *setting* is not known; the counter says how often.
        """
        if (setting, variable) in self._absent:
            return
        self._absent.add((setting, variable))
        text = (
            f"{setting}: {{{variable}}} is not known of {resource.path} and reads {UNKNOWN}; "
            f"write {{{variable}|…}} for another word"
        )
        fields = {"variable": variable, "path": resource.path}
        self._tell("name_fallback", text, level="warning", **self._about, **fields)

    def failed(self, destination: Destination, operation: str, answer: Answer) -> None:
        """
        Say that *operation* failed, and what to do about it.
        """
        if answer.action not in SAYINGS:
            return
        event, hint = SAYINGS[answer.action]
        text = f"{operation} to group {destination.group} stream {destination.stream}: {answer.code}: {answer.message}"
        hint = hint.format(operation=operation, group=destination.group)
        self.say(event, f"{text}; {hint}", code=answer.code, group=destination.group)


class Outcomes:
    """
    Settles payloads.
    """

    def __init__(
        self,
        *,
        route: str,
        resolve: Resolve,
        counters: Counters,
        share: Share,
        sayings: CloudWatchSayings,
    ) -> None:
        self._route = route
        self._resolve = resolve
        self._counters = counters
        self._share = share
        self._sayings = sayings

    def taken(self, destination: Destination, answer: Answer) -> None:
        """
        Resolve every row of the first payload, which the service took but for the events it names.
        """
        payload = destination.payloads.pop(0)
        left = list(payload.part_rows)
        refused = 0
        for start, stop, reason in answer.rejected:
            refused += stop - start
            self._reject(payload, start, stop, reason, left)
        self._deliver(payload, left)
        self._counters.add(metric.DELIVERED_EVENTS, payload.events - refused, self._route)
        self._counters.add(metric.SENT_BYTES, payload.event_bytes, self._route)
        payload.charge.release()
        destination.backoff.reset()
        if payload.events:
            destination.created = False
            destination.proven = True
            destination.refused_alone = 0
        if refused:
            reasons = ", ".join(
                f"{stop - start} {reason}" for start, stop, reason in answer.rejected
            )
            where = f"group {destination.group} stream {destination.stream}"
            text = f"{where}: events refused and recorded as lost: {reasons}"
            self._sayings.say("cloudwatch_events_rejected", text, group=destination.group)

    def refused(self, destination: Destination, answer: Answer) -> bool:
        """
        Divide the first payload, which is refused for ever; a single row is set aside.

        Returns:
            Whether to go on at once; False where it looks as if the destination refuses everything.
        """
        payload = destination.payloads[0]
        halves = halves_of(payload, self._share)
        if halves:
            destination.payloads[:1] = halves
            return True
        destination.detail = f"{answer.code}: {answer.message}"
        destination.held.append(destination.payloads.pop(0))
        destination.refused_alone += 1
        if destination.second_try or destination.refused_alone % REFUSED_ALONE_MAX:
            return True
        destination.proven = False
        destination.suspect = True
        return False

    def finished(self, destination: Destination) -> bool:
        """
        Decide about the rows set aside, now that nothing else waits.

        Returns:
            Whether to go on at once; False where the destination refuses everything.
        """
        held = destination.held
        many = destination.suspect or len(held) >= REFUSED_ALONE_MAX
        if held and many and not destination.second_try:
            if not destination.proven:
                destination.suspect = True
                return False
            destination.second_try = True
            destination.payloads, destination.held = held, []
            return True
        if held:
            for payload in held:
                left = list(payload.part_rows)
                self._reject(
                    payload, 0, payload.events, LossReason.REFUSED, left, destination.detail
                )
                self._deliver(payload, left)
                payload.charge.release()
            where = f"group {destination.group} stream {destination.stream}"
            text = f"{where}: {len(held)} rows refused and recorded as lost"
            self._sayings.say(
                "cloudwatch_events_refused",
                f"{text}: {destination.detail}",
                group=destination.group,
            )
        destination.held = []
        destination.second_try = destination.suspect = False
        return True

    def _reject(
        self,
        payload: Payload,
        start: int,
        stop: int,
        reason: LossReason,
        left: list[int],
        detail: str = "",
    ) -> None:
        for index, losses in losses_of(payload, start, stop, reason, detail):
            for loss in losses:
                # A row whose last event is in another payload is counted there.
                rows = min(loss.rows, left[index])
                left[index] -= rows
                self._resolve.rejected(payload.parts[index].segment, rows, loss)

    def _deliver(self, payload: Payload, rows: list[int]) -> None:
        for part, delivered in zip(payload.parts, rows, strict=True):
            if delivered:
                self._resolve.delivered(part.segment, delivered)
