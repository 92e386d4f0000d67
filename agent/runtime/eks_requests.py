"""
FilterLogEvents in one Region: how fast it is asked, and what its answers mean for a query; DescribeLogStreams.

| answer | what follows |
|---|---|
| 200 with `x-amzn-RequestId` | a page |
| throttled | every query of the Region waits, and the rate is halved; it grows back with every page |
| InvalidParameterException for a token | the token expired: the query begins again at once; several in a row: waits |
| no such group, not allowed, anything unknown | this query waits about a minute, and it is said once a minute |
| no answer, 5xx | this query waits, longer each time |
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import fields
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from agent.core import counters as metric
from agent.core.aws import AwsSettings
from agent.core.errors import RetryError
from agent.core.retry import Backoff, Failure
from agent.core.sayings import Sayings
from agent.runtime.producers import Pace
from agent.sinks.cloudwatch_requests import Action, Answer, headers_for, understand

if TYPE_CHECKING:
    from agent.core.host import Response
    from agent.core.pull import Query, Span
    from agent.runtime.producers import World
    from agent.sources.eks_settings import EksControlPlaneSettings

FILTER = "FilterLogEvents"
DESCRIBE = "DescribeLogStreams"
#: Under throttling at least this many requests a second.
RATE_MIN = 0.1
#: Tokens refused in a row, with none taken between, after which it is no expiry any more.
REFUSED_MAX = 3
#: Pages after which a rate that was halved is what it was.
RATE_PAGES = 60
_FAILURES = {
    Action.THROTTLED: Failure.THROTTLED,
    Action.OUTAGE: Failure.OUTAGE,
    Action.CONFLICT: Failure.CONFLICT,
}


class Page(NamedTuple):
    """
    What one request brought.
    """

    events: list[Any]
    token: str | None


class Asking:
    """
    The requests of one source in one Region.
    """

    def __init__(
        self, region: str, settings: EksControlPlaneSettings, world: World, *, source: str
    ) -> None:
        self._region = region
        self._settings = settings
        self._source = source
        self._host = world.host
        self._clock = world.host.clock
        self._counters = world.counters
        plain = {field.name: getattr(settings, field.name) for field in fields(AwsSettings)}
        self._client = world.aws.client("logs", AwsSettings(**(plain | {"region": region})))
        # The quota is the account's: sources of one Region share it, and so do runs after a change of the Lease.
        self._pace = world.paces.setdefault(region, Pace(settings.requests_per_s_max))
        self._pace.rate = min(self._pace.rate, settings.requests_per_s_max)
        #: By query, tokens that were refused since one was taken.
        self._tokens_refused: Counter[str] = Counter()
        self._backoffs: dict[str, Backoff] = {}
        self._sayings = Sayings(clock=self._clock, tell=world.host.tell, source=source)
        #: The service's clock less the monotonic one; None before its first answer.
        self._offset_ms: int | None = None

    def now_ms(self) -> int:
        """
        Return the service's time; ours, before it has answered once.
        """
        if self._offset_ms is None:
            return self._clock.now_ns() // 1_000_000
        return int(self._clock.monotonic() * 1000) + self._offset_ms

    async def page(self, span: Span) -> tuple[Page | None, float]:  # network op
        """
        Ask for the next page of *span*; without one, return the seconds to wait.
        """
        query = span.query
        try:
            response = await self._send(FILTER, span.body())
        except RetryError as error:
            failure = Failure.SLOW if error.slow else Failure.OUTAGE
            return None, self._failed(query, failure, error.code or "connection", str(error))
        page = _page_of(response) if response.status == 200 else None
        if page is not None:
            self._count("ok")
            if not self._tokens_refused[query.key] or span.token:
                self._tokens_refused[query.key] = 0
                self._backoffs.pop(query.key, None)
            top = self._settings.requests_per_s_max
            self._pace.rate = min(top, self._pace.rate + top / RATE_PAGES)
            return page, 0.0
        return None, self._refused(span, understand(response))

    async def streams(self, query: Query) -> list[Any]:  # network op
        """
        Return the streams of a query's group that were written to last; none where that cannot be found out.

        What is wrong with the group, its queries say.
        """
        body = {"logGroupName": query.group, "orderBy": "LastEventTime", "descending": True}
        try:
            response = await self._send(DESCRIBE, body)
            streams = orjson.loads(response.body).get("logStreams") or []
        except (RetryError, orjson.JSONDecodeError, AttributeError):
            return []
        if response.status == 200:
            return streams if isinstance(streams, list) else []
        answer = understand(response)
        self._count(answer.code)
        if answer.action is Action.DENIED:
            self._sayings.say(
                "eks_streams_denied",
                f"source {self._source}: {query.group}: streams that nobody knows are not noticed: the role needs "
                f"logs:{DESCRIBE} on the log group (config/iam/eks-control-plane.json); everything else goes on",
                cause=query.group,
            )
        return []

    async def _send(self, operation: str, body: dict[str, Any]) -> Response:  # network op
        await self._turn()
        response = await self._client.request(
            "POST",
            "/",
            headers=headers_for(operation),
            body=orjson.dumps(body),
            timeout_s=self._settings.request_timeout_s,
        )
        self._read_clock(response)
        return response

    async def _turn(self) -> None:
        now = self._clock.monotonic()
        wait_s = self._pace.next_at - now
        self._pace.next_at = max(now, self._pace.next_at) + 1 / self._pace.rate
        if wait_s > 0:
            await self._clock.sleep(wait_s)

    def _read_clock(self, response: Response) -> None:
        try:
            seconds = parsedate_to_datetime(response.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError):
            return
        # The header has whole seconds: the service's clock is at least that.
        self._offset_ms = int(seconds * 1000) - int(self._clock.monotonic() * 1000)

    def _refused(self, span: Span, answer: Answer) -> float:
        query = span.query
        if answer.action is Action.REFUSED and span.token:
            span.restart()
            self._tokens_refused[query.key] += 1
            if self._tokens_refused[query.key] < REFUSED_MAX:
                self._count("token")
                return 0.0
        if answer.action is Action.DELIVERED:
            return self._failed(query, Failure.OUTAGE, "untrusted_reply", "200 that is no page")
        failure = _FAILURES.get(answer.action, Failure.SLOW)
        text = f"{answer.code}: {answer.message}{_remedy(answer, query)}"
        delay_s = self._failed(
            query, failure, answer.code, text, retry_after_s=answer.retry_after_s
        )
        if failure is Failure.THROTTLED:
            self._pace.rate = max(RATE_MIN, self._pace.rate / 2)
            self._pace.next_at = max(self._pace.next_at, self._clock.monotonic() + delay_s)
        return delay_s

    def _failed(
        self,
        query: Query,
        failure: Failure,
        code: str,
        text: str,
        *,
        retry_after_s: float | None = None,
    ) -> float:
        self._count(code)
        backoff = self._backoffs.setdefault(query.key, Backoff())
        delay_s = backoff.failed(failure, self._clock.random(), retry_after_s=retry_after_s)
        assert delay_s is not None
        self._sayings.say(
            "eks_fetch_failed",
            f"source {self._source}: {query.group} in {self._region or 'the default Region'}: {text}; "
            "everything else goes on",
            cause=f"{query.group} {code}",
            code=code,
        )
        return delay_s

    def _count(self, outcome: str) -> None:
        self._counters.add(metric.PULL_REQUESTS, 1, self._source, self._region, outcome)


def _page_of(response: Response) -> Page | None:
    """
    Return the page in *response*; None where it is none.
    """
    # Proxies answer 200 to anything.
    if "x-amzn-requestid" not in response.headers:
        return None
    try:
        body = _decoded(response.body)
        events, token = body.get("events") or [], body.get("nextToken") or None
        usable = all(
            isinstance(item["eventId"], str) and isinstance(item["timestamp"], int)
            for item in events
        )
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return Page(events, token) if usable else None


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Half a surrogate pair, or bytes that are not UTF-8, in one message: what is around it is wanted.
        return json.loads(body.decode(errors="replace"))


def _remedy(answer: Answer, query: Query) -> str:
    if answer.action is Action.CREATE:
        types = ",".join(f'"{kind}"' for kind in sorted(query.types))
        return (
            "; turn the control plane's logs on: aws eks update-cluster-config --name "
            f'{query.cluster} --logging \'{{"clusterLogging":[{{"types":[{types}],"enabled":true}}]}}\''
        )
    if answer.action is Action.DENIED:
        return (
            f"; the role needs logs:{FILTER} on the log group (config/iam/eks-control-plane.json)"
        )
    return ""
