"""
FilterLogEvents as AWS does it, at its meanest: what moto leaves out (facts: pulling from CloudWatch).

Events have an id, a time and a moment at which they arrive; before it nobody sees them.  Pages are in the order of
(time, arrival, id) from where the token stands, so an event that arrives behind a token's place is missed by that
query.  A page has at most 1 MB and 10,000 events, can be short, and can be empty with a token.  DescribeLogStreams
has the streams of the same groups.

| knob | effect |
|---|---|
| `page_events` | events in a page at most |
| `empty_pages` | pages without an event before every page with some |
| `tps` | requests a second for the account, as a bucket of one second's worth |
| `missing`, `denied` | groups that do not exist, or may not be read |
| `describe_denied` | DescribeLogStreams is not allowed |
| `expire_tokens()` | every token that was given is too old; each is after 24 h |
"""

from __future__ import annotations

import bisect
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.fakes.cloudwatch_rules import RefusalError, check_group_name, invalid

if TYPE_CHECKING:
    from tests.fakes.cloudwatch import FakeCloudWatch

PAGE_BYTES_MAX = 1_048_576
EVENTS_MAX = 10_000
EVENT_OVERHEAD = 26
TOKEN_S = 24 * 3600
KEYS = {
    *("logGroupName", "logStreamNamePrefix", "startTime", "endTime", "nextToken", "limit"),
}


class Stored(NamedTuple):
    time_ms: int
    arrival_ms: int
    event_id: str
    stream: str
    message: str


class FilterEvents:
    def __init__(self, server: FakeCloudWatch) -> None:
        self._server = server
        self.page_events = EVENTS_MAX
        self.empty_pages = 0
        self.tps: float | None = None
        self.throttled = 0
        self.missing: set[str] = set()
        self.denied: set[str] = set()
        self.describe_denied = False
        self._bucket = (0.0, 0.0)
        self._events: dict[str, list[Stored]] = {}
        self._tokens: dict[str, tuple[float, dict[str, Any], list[Any]]] = {}
        self._count = 0

    def add(
        self, group: str, stream: str, message: str, *, time_ms: int, arrival_ms: int | None = None
    ) -> str:
        """
        Store an event that can be seen from *arrival_ms* on; return its id.
        """
        self._count += 1
        event_id = f"{self._count * 7919:056d}"
        item = Stored(
            time_ms, time_ms if arrival_ms is None else arrival_ms, event_id, stream, message
        )
        bisect.insort(self._events.setdefault(group, []), item)
        return event_id

    def describe(self, body: dict[str, Any]) -> dict[str, Any]:
        """
        Answer a request for the streams of a group, of which the last event is known within the hour.
        """
        group = check_group_name(body.get("logGroupName"))
        if self.describe_denied or group in self.denied:
            raise RefusalError("AccessDeniedException", "not authorized: logs:DescribeLogStreams")
        if group in self.missing or group not in self._events:
            raise RefusalError(
                "ResourceNotFoundException", "The specified log group does not exist."
            )
        if body.keys() - {"logGroupName", "orderBy", "descending", "limit", "nextToken"}:
            raise invalid("unknown parameters, or a prefix in the order of LastEventTime")
        now_ms = int(self._server.now() * 1000)
        last: dict[str, int] = {}
        for item in self._events[group]:
            if item.arrival_ms <= now_ms:
                last[item.stream] = item.time_ms
        order = sorted(last.items(), key=lambda pair: -pair[1])
        return {
            "logStreams": [
                {"logStreamName": name, "creationTime": 0, "lastEventTimestamp": time_ms}
                for name, time_ms in order[: body.get("limit", 50)]
            ]
        }

    def expire_tokens(self) -> None:
        self._tokens.clear()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        """
        Answer one request.
        """
        self._take_token()
        group = check_group_name(body.get("logGroupName"))
        if group in self.denied:
            raise RefusalError("AccessDeniedException", "not authorized: logs:FilterLogEvents")
        if group in self.missing or group not in self._events:
            raise RefusalError(
                "ResourceNotFoundException", "The specified log group does not exist."
            )
        if unknown := body.keys() - KEYS:
            raise invalid(f"unknown parameters {unknown}")
        start, stop = body.get("startTime", 0), body.get("endTime", 1 << 62)
        limit = body.get("limit", EVENTS_MAX)
        if not (isinstance(start, int) and isinstance(stop, int) and 0 <= start <= stop):
            raise invalid("startTime and endTime")
        if not (isinstance(limit, int) and 1 <= limit <= EVENTS_MAX):
            raise invalid("limit")
        place, empty = self._place(body)
        now_ms = int(self._server.now() * 1000)
        found = [
            item
            for item in self._events[group]
            if start <= item.time_ms <= stop
            and item.arrival_ms <= now_ms
            and item.stream.startswith(body.get("logStreamNamePrefix", ""))
            and list(item[:3]) > place
        ]
        if found and empty < self.empty_pages:
            return self._page([], place, empty + 1, body)
        size = 0
        page: list[Stored] = []
        for item in found[: min(limit, self.page_events)]:
            size += len(item.message.encode(errors="replace")) + EVENT_OVERHEAD
            if page and size > PAGE_BYTES_MAX:
                break
            page.append(item)
        more = len(page) < len(found)
        return self._page(page, list(page[-1][:3]) if page else place, 0, body if more else None)

    def _place(self, body: dict[str, Any]) -> tuple[list[Any], int]:
        token = body.get("nextToken")
        if token is None:
            return [], 0
        known = self._tokens.get(token)
        rest = {key: value for key, value in body.items() if key != "nextToken"}
        if known is None or self._server.now() - known[0] > TOKEN_S or known[1] != rest:
            raise invalid("The specified nextToken is invalid.")
        place, empty = known[2]
        return place, empty

    def _page(
        self, page: list[Stored], place: list[Any], empty: int, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "events": [
                {
                    "logStreamName": item.stream,
                    "timestamp": item.time_ms,
                    "message": item.message,
                    "ingestionTime": item.arrival_ms,
                    "eventId": item.event_id,
                }
                for item in page
            ],
            "searchedLogStreams": [],
        }
        if body is not None:
            token = json.dumps([*place, empty, len(self._tokens), self._server.now()])
            rest = {key: value for key, value in body.items() if key != "nextToken"}
            self._tokens[token] = (self._server.now(), rest, [place, empty])
            answer["nextToken"] = token
        return answer

    def _take_token(self) -> None:
        if self.tps is None:
            return
        now = self._server.rate_now()
        tokens, at = self._bucket
        tokens = min(max(1.0, self.tps), tokens + (now - at) * self.tps)
        self._bucket = (max(0.0, tokens - 1), now)
        if tokens < 1:
            self.throttled += 1
            raise RefusalError("ThrottlingException", "Rate exceeded")
