"""
What arrived at both destinations, and whether it is what was written.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pyarrow import parquet

from tests.fakes.cloudwatch import FakeCloudWatch
from tests.fakes.s3 import FakeS3

if TYPE_CHECKING:
    from tests.e2e.pods import Line, Pod

#: The columns that say which row it is.
IDENTITY = ("node", "file_id", "offset", "row_kind")


class Arrivals:
    """
    Fakes of both destinations, and what is in them.
    """

    def __init__(self) -> None:
        self.cloudwatch = FakeCloudWatch()
        self.s3 = FakeS3()
        #: What was looked at of the streams in CloudWatch, and what was in them.
        self._seen: dict[tuple[str, str], int] = {}
        self._events: Counter[Line] = Counter()
        #: Objects that were read, with what was in them.
        self._tables: dict[str, tuple[object, Any]] = {}

    def forget(self) -> None:
        """
        Empty both destinations.
        """
        self.s3.objects.clear()
        self.cloudwatch.groups.clear()
        self._seen.clear()
        self._events.clear()

    def heal(self) -> None:
        """
        Forget what was still to go wrong.
        """
        self.cloudwatch._faults.clear()
        self.s3._scripts.clear()

    def events(self) -> Counter[Line]:
        """
        Return the lines in CloudWatch.
        """
        for name, group in self.cloudwatch.groups.items():
            for stream, events in group.streams.items():
                seen = self._seen.get((name, stream), 0)
                self._seen[name, stream] = len(events)
                for _, message in events[seen:]:
                    record = json.loads(message)
                    line = (record["kubernetes"]["pod_name"], record["stream"], record["log"])
                    self._events[line] += 1
        return self._events

    def tables(self) -> list[tuple[str, Any]]:
        """
        Return (key, table) of every object in S3.
        """
        for key, stored in self.s3.objects.items():
            # Read once: a test polls this while the fakes have to answer on the same loop.
            known = self._tables.get(key)
            if known is None or known[0] is not stored:
                table = parquet.ParquetFile(io.BytesIO(stored.body)).read()
                self._tables[key] = (stored, table)
        return [(key, self._tables[key][1]) for key in self.s3.objects]

    def columns(self, *names: str) -> list[tuple[Any, ...]]:
        """
        Return the rows in Parquet, of the columns *names*.
        """
        rows: list[tuple[Any, ...]] = []
        for _, table in self.tables():
            rows += zip(*(table.column(name).to_pylist() for name in names), strict=True)
        return rows

    def rows(self) -> Counter[Line]:
        """
        Return the lines in Parquet.
        """
        return Counter(self.columns("pod", "stream", "message"))

    def assert_parquet_exact(self, *pods: Pod) -> None:
        """
        Every written line is one row; `(node, file_id, offset, row_kind)` is unique.
        """
        written = Counter(line for pod in pods for line in pod.written)
        rows = self.rows()
        assert not written - rows, f"missing in Parquet: {some(written - rows)}"
        assert not rows - written, f"twice or invented in Parquet: {some(rows - written)}"
        keys = Counter(self.columns(*IDENTITY))
        assert not keys or max(keys.values()) == 1

    def assert_cloudwatch_complete(self, *pods: Pod) -> None:
        """
        Every written line is an event at least once, and nothing else is there.
        """
        written = Counter(line for pod in pods for line in pod.written)
        events = self.events()
        assert not set(written) - set(events), f"missing: {some(set(written) - set(events))}"
        assert not set(events) - set(written), f"invented: {some(set(events) - set(written))}"

    def assert_exact(self, *pods: Pod) -> None:
        """
        Every written line is one event and one row.
        """
        self.assert_parquet_exact(*pods)
        self.assert_cloudwatch_exact(*pods)

    def assert_cloudwatch_exact(self, *pods: Pod) -> None:
        """
        Every written line is one event.
        """
        self.assert_cloudwatch_complete(*pods)
        more = self.events() - Counter(line for pod in pods for line in pod.written)
        assert not more, f"twice in CloudWatch: {some(more)}"


def some(lines: Counter[Line] | set[Line]) -> list[tuple[str, str, str]]:
    return [(pod, stream, text[:200]) for pod, stream, text in list(lines)[:5]]
