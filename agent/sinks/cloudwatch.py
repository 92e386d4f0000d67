"""
Delivers segments to CloudWatch Logs.

Contract:

- a row counts as delivered only after a 200 that carries `x-amzn-RequestId`, and as rejected only with a
  loss record; everything else is tried again for ever (core/retry.py says when);
- a lost answer may duplicate a request, never lose one;
- per stream one request in flight and the order kept; many streams in parallel under an adaptive limit;
- a permanent refusal costs the event that is at fault, not its neighbours.

How it works: `accept` files a segment under its destination.  The pump starts a task for every destination
that is due (full, old, memory short, draining, or its retry time has come) while the limiter has room.  The
task encodes what waits, but for what would not fill a request, which waits for more; it sends payload after
payload and ends.  A failure leaves the payload where it is, with the time of its next attempt.  So a task can
be cancelled at any await: what it was sending is simply not resolved.  Rows are resolved by
cloudwatch_outcomes.py alone, which has no await.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.core import counters as metric
from agent.core.batcher import Batcher
from agent.core.errors import RetryError
from agent.core.retry import Limiter
from agent.sinks.cloudwatch_destinations import (
    FAILURES,
    Creator,
    Destination,
    new_destination,
    options_of,
)
from agent.sinks.cloudwatch_names import Names
from agent.sinks.cloudwatch_outcomes import CloudWatchSayings, Outcomes
from agent.sinks.cloudwatch_payloads import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, ROW_BYTES, Encoder
from agent.sinks.cloudwatch_requests import PUT, Action, Answer, headers_for, understand
from agent.sinks.cloudwatch_settings import CloudWatchSettings
from agent.sinks.protocol import Sink

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.batch import Resource, Segment
    from agent.core.budget import Share
    from agent.core.checkpoint import SinkRows
    from agent.core.counters import Counters
    from agent.core.host import AwsClient, Clock, Tasks
    from agent.sinks.cloudwatch_payloads import Payload
    from agent.sinks.protocol import Resolve

__all__ = ["CloudWatchSettings", "CloudWatchSink"]

TICK_S = 0.1
REQUESTS_START = 4
#: Past this part of the guaranteed memory nothing lingers: the reader is about to wait.
PRESSURE = 0.5
#: How long the sink rests at most while something lingers: this, and this part of `linger_s`, of which a segment that
#: has waited in its file still has 0.6 but for a tick (sources/gather.py).
REST_MAX_S = 0.5
REST = 0.5
#: How long rows wait for more that are left of a segment whose others are on their way.
REST_WAITS_S = 1.0


class CloudWatchSink(Sink):
    """
    The sink of one route.
    """

    def __init__(
        self,
        settings: CloudWatchSettings,
        *,
        route: str,
        client: AwsClient,
        clock: Clock,
        tell: Callable[..., None],
        tasks: Tasks,
        resolve: Resolve,
        share: Share,
        counters: Counters,
    ) -> None:
        self.share = share
        self._settings = settings
        self._route = route
        self._client = client
        self._clock = clock
        self._tasks = tasks
        self._counters = counters
        self._sayings = CloudWatchSayings(route=route, clock=clock, tell=tell)
        self._outcomes = Outcomes(
            route=route, resolve=resolve, counters=counters, share=share, sayings=self._sayings
        )
        self._names = Names(settings, absent=self._absent)
        self._encoder = Encoder(
            format=settings.format,
            metrics_bare=settings.emf == "passthrough",
            gzip=settings.gzip,
            share=share,
        )
        self._batcher: Batcher[tuple[str, str]] = Batcher(
            bytes_max=BATCH_BYTES_MAX, events_max=BATCH_EVENTS_MAX, linger_s=settings.linger_s
        )
        self._limiter = Limiter(
            start=min(REQUESTS_START, settings.requests_max), maximum=settings.requests_max
        )
        self._creator = Creator(options_of(settings), clock=clock, call=self._call)
        #: Destinations that something is under way for; the others are only names.
        self._destinations: dict[tuple[str, str], Destination] = {}
        #: Those among them that wait for their next attempt, oldest failure first.
        self._retrying: dict[Destination, None] = {}
        #: No request before this (monotonic): nobody knows us.
        self._paused_until = float("-inf")
        self._draining = False
        self._closed = False
        self._accepted = asyncio.Event()

    async def open(self) -> None:
        """
        Do nothing: nothing is kept between runs, and nothing is looked up.
        """

    def accept(self, segment: Segment) -> None:
        """
        File *segment*, or each of its parts, under its destination.
        """
        row_bytes = ROW_BYTES[self._settings.format] + len(self._names.json(segment.resource))
        now = self._clock.monotonic() - segment.waited_s
        for part in segment.by_name:
            assert part.columns is not None
            key = self._names.of(part.resource, part.values)
            size = part.columns.message_bytes + part.rows * row_bytes
            self._batcher.add(key, part, bytes=size, events=part.rows, now=now)
        # They know the segment, which need not know them any more.
        segment.parts = ()
        self._accepted.set()
        self._pump()

    async def run(self) -> None:
        """
        Deliver until cancelled.
        """
        try:
            while True:
                if self.idle:
                    # Quiet pods cost nothing: nobody wakes up until something is accepted.
                    self._accepted.clear()
                    await self._accepted.wait()
                self._pump()
                await self._clock.sleep(self._rest_s())
        finally:
            self._cancel()

    async def drain(self, timeout_s: float) -> None:
        """
        Send everything at once, within *timeout_s*; what is left stays unresolved.
        """
        self._draining = True
        until = self._clock.monotonic() + timeout_s
        while not self.idle:
            self._pump()
            left = until - self._clock.monotonic()
            if left <= 0:
                return
            await self._clock.sleep(min(TICK_S / 4, left))

    def committed(self, rows: SinkRows) -> None:
        """
        Do nothing: `confirm` returns no rows.
        """

    async def finish(self, timeout_s: float) -> None:
        """
        Do nothing: nothing is staged.
        """

    async def close(self) -> None:
        """
        Give back the memory of everything that was not delivered; answers that still come are ignored.
        """
        self._closed = True
        self._cancel()
        for segment in self._batcher.clear():
            segment.release()
        for destination in self._destinations.values():
            for segment in destination.segments:
                segment.release()
            for payload in (*destination.payloads, *destination.held):
                payload.charge.release()
        self._destinations.clear()
        self._retrying.clear()

    @property
    def idle(self) -> bool:
        """
        Whether everything accepted has its outcome.
        """
        return not self._destinations and not self._batcher

    def _absent(self, setting: str, variable: str, resource: Resource) -> None:
        self._counters.add(metric.NAME_FALLBACKS, 1, self._route, variable)
        self._sayings.absent(setting, variable, resource)

    def _cancel(self) -> None:
        for destination in self._destinations.values():
            if destination.task is not None:
                destination.task.cancel()

    def _pump(self) -> None:
        """
        Start what is due, while there is room.
        """
        now = self._clock.monotonic()
        paused_until = max(self._paused_until, self._limiter.paused_until)
        if self._closed or now < paused_until or not self._limiter.free:
            return
        ready = [destination for destination in self._retrying if destination.ready_at <= now]
        for destination in ready[: self._limiter.free]:
            self._start(destination)
        due = self._batcher.due(
            now,
            count_max=self._limiter.free,
            busy=self._destinations.__contains__,
            stretch=self._limiter.stretch,
            everything=self._draining or self.share.held > self.share.guaranteed * PRESSURE,
        )
        for key in due:
            destination = self._destinations[key] = new_destination(*key)
            self._start(destination)

    @property
    def _linger_s(self) -> float:
        return self._settings.linger_s * self._limiter.stretch

    def _rest_s(self) -> float:
        """
        Return how long to rest: what is accepted and what ends pump themselves, the rest is a matter of time.

        A retry or a pause that begins meanwhile ends up to REST_MAX_S late.
        """
        short = self.share.short or self.share.held > self.share.guaranteed * PRESSURE / 2
        oldest = self._batcher.oldest()
        if self._destinations or short or oldest is None:
            return TICK_S
        left_s = oldest + self._linger_s - self._clock.monotonic()
        return max(TICK_S, min(left_s, self._linger_s * REST, REST_MAX_S))

    def _start(self, destination: Destination) -> None:
        self._retrying.pop(destination, None)
        self._limiter.started()
        destination.task = self._tasks.start(self._work_on(destination), name=f"{self._route}.send")

    async def _work_on(self, destination: Destination) -> None:
        try:
            if not destination.payloads:
                await self._fill(destination)
            going = True
            while going and destination.payloads:
                going = await self._send(destination)
                if going and not destination.payloads and not self._outcomes.finished(destination):
                    going = self._refuses_everything(destination)
        finally:
            destination.task = None
            self._limiter.finished()
        if destination.payloads or destination.held:
            self._retrying[destination] = None
        else:
            self._destinations.pop(destination.key, None)
        self._pump()

    async def _fill(self, destination: Destination) -> None:
        """
        Encode what waits, but for what would not fill a request; where nothing does, try once more what was set aside.
        """
        if destination.key not in self._batcher:
            destination.payloads, destination.held = destination.held, []
            return
        waiting = self._batcher.take(destination.key)
        segments = destination.segments = [item.segment for item in waiting]
        resources = [self._names.json(segment.resource) for segment in segments]
        now_ms = self._clock.now_ns() // 1_000_000
        rest_waits = self._batcher.fills(waiting) and not self._draining
        for payload in self._encoder.encode(
            destination.head, segments, resources, now_ms=now_ms, rest_waits=rest_waits
        ):
            destination.payloads.append(payload)
            # A body takes milliseconds: let others have the loop.
            await self._clock.sleep(0)
        soon = self._clock.monotonic() + REST_WAITS_S - self._linger_s
        rest = [item.rest(soon) for item in waiting if item.segment.rows_left]
        self._batcher.put_back(destination.key, rest)
        for segment in segments:
            if not segment.rows_left:
                segment.release()
        destination.segments = []

    async def _send(self, destination: Destination) -> bool:
        """
        Send the first payload; return whether to go on with this destination at once.
        """
        payload = destination.payloads[0]
        if self._creator.retention_due(destination.group):
            answer = await self._creator.put_retention(destination.group)
            self._sayings.failed(destination, "PutRetentionPolicy", answer)
        if not payload.events:
            # Rows that make no event (empty lines in format `message`): there is nothing to confirm.
            answer = Answer(Action.DELIVERED, "", "")
        else:
            answer = await self._call(
                PUT, payload.wire(), events=payload.events, gzipped=payload.gzipped
            )
        if self._closed:
            return False
        if answer.action is Action.DELIVERED:
            self._outcomes.taken(destination, answer)
            self._limiter.succeeded()
            self._note_gzip(payload)
            return True
        if answer.action is Action.CREATE:
            return await self._create(destination, answer)
        if answer.action is Action.PLAIN:
            payload.gzipped = False
            return True
        if answer.action is Action.REFUSED:
            return self._outcomes.refused(destination, answer) or self._refuses_everything(
                destination
            )
        return self._failed(destination, PUT, answer)

    async def _create(self, destination: Destination, answer: Answer) -> bool:
        if destination.created:
            # It was created a moment ago and is not visible yet, or gone again.
            destination.created = False
            return self._failed(destination, PUT, answer._replace(action=Action.CONFLICT))
        operation, answer = await self._creator.create(destination.group, destination.stream)
        if answer.action is Action.DELIVERED:
            destination.created = True
            return True
        if answer.action not in FAILURES:
            answer = answer._replace(action=Action.UNKNOWN)
        return self._failed(destination, operation, answer)

    async def _call(
        self, operation: str, body: bytes, *, events: int = 0, gzipped: bool = False
    ) -> Answer:
        """
        Send one request and understand its answer; errors of the way are answers too.
        """
        try:
            response = await self._client.request(
                "POST",
                "/",
                headers=headers_for(operation, gzipped=gzipped),
                body=body,
                timeout_s=self._settings.request_timeout_s,
            )  # network op
        except RetryError as error:
            action = Action.CREDENTIALS if error.slow else Action.OUTAGE
            action = Action.THROTTLED if error.throttled else action
            answer = Answer(action, error.code or "connection", str(error), error.retry_after_s)
        else:
            answer = understand(response, events=events, gzipped=gzipped)
        outcome = "partly_rejected" if answer.rejected else answer.action.name.lower()
        self._counters.add(metric.REQUESTS, 1, self._route, outcome)
        self._counters.add(metric.WIRE_BYTES, len(body), self._route)
        return answer

    def _note_gzip(self, payload: Payload) -> None:
        if self._encoder.gzip and payload.events and not payload.gzipped:
            self._encoder.gzip = False
            text = "the endpoint refuses gzip; requests are sent plain from now on"
            self._sayings.say("cloudwatch_gzip_refused", text)

    def _refuses_everything(self, destination: Destination) -> bool:
        answer = Answer(
            Action.UNKNOWN, "refused", f"event after event is refused: {destination.detail}"
        )
        return self._failed(destination, PUT, answer)

    def _failed(self, destination: Destination, operation: str, answer: Answer) -> bool:
        """
        Note when to try again.
        """
        failure = FAILURES[answer.action]
        now = self._clock.monotonic()
        delay_s = destination.backoff.failed(
            failure, self._clock.random(), retry_after_s=answer.retry_after_s
        )
        assert delay_s is not None, "what is still in its file is retried for ever"
        destination.ready_at = now + delay_s
        self._limiter.failed(failure, now, self._clock.random())
        self._counters.add(metric.RETRIES, 1, self._route, failure.value)
        if answer.action is Action.CREDENTIALS:
            self._paused_until = max(self._paused_until, destination.ready_at)
        self._sayings.failed(destination, operation, answer)
        return False
