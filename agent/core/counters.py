"""
Every observable number, once: name, kind, unit, help, labels.

Stages add to them per segment or request, never per line.  The admin endpoint renders them; the
tests assert that for every route: events read = delivered + rejected + filtered + in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Metric(NamedTuple):
    """
    One name on the metrics endpoint.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


READ_BYTES = Metric(
    "tailrace_read_bytes", "counter", "Bytes of log files read and parsed.", ("route",)
)
READ_LINES = Metric("tailrace_read_lines", "counter", "Physical lines parsed.", ("route",))
READ_ROWS = Metric(
    "tailrace_read_rows", "counter", "Rows parsed: lines after joining P and F pieces.", ("route",)
)
FILTERED_ROWS = Metric(
    "tailrace_filtered_rows", "counter", "Rows read and not wanted by the route.", ("route",)
)
JOINED_ROWS = Metric(
    "tailrace_joined_rows",
    "counter",
    "Rows that became part of the row before them: multiline.",
    ("route",),
)
SPLIT_GROUPS = Metric(
    "tailrace_split_groups",
    "counter",
    "Multiline events that were longer than lines_max or bytes_max, and became several rows.",
    ("route",),
)
REDACTED = Metric(
    "tailrace_redacted",
    "counter",
    "Secrets and personal data that were replaced in messages, by kind.",
    ("route", "kind"),
)
LIMITED_ROWS = Metric(
    "tailrace_limited_rows",
    "counter",
    "Rows dropped by a limit; a row in their stream says how many.",
    ("route",),
)
UNPARSED_ROWS = Metric(
    "tailrace_unparsed_rows",
    "counter",
    "Rows that are not of the format of a parse; they are kept.",
    ("route", "format"),
)
JOURNAL_ENTRIES = Metric(
    "tailrace_journal_entries",
    "counter",
    "Entries of systemd's journal that were put into the spool.",
    ("source",),
)
JOURNAL_GAPS = Metric(
    "tailrace_journal_gaps",
    "counter",
    "Times that the journal had deleted the entry that was read last, and perhaps others behind it.",
    ("source",),
)
JOURNAL_MISSING = Metric(
    "tailrace_journal_missing",
    "counter",
    "Entries of all units that the journal had deleted between the one that was read last and the oldest it has; "
    "nothing is added where their number is unknown.",
    ("source",),
)
JOURNAL_UNREAD = Metric(
    "tailrace_journal_unread",
    "counter",
    "Lines of journalctl that are no entries, or too long; they are left out.",
    ("source",),
)
UNKNOWN_COMPONENT_ROWS = Metric(
    "tailrace_unknown_component_rows",
    "counter",
    "Rows of containers that `parse: component` does not know; they are kept.",
    ("route",),
)
MISFIT_VALUES = Metric(
    "tailrace_misfit_values",
    "counter",
    "Values of fields that are not of their type; they read NULL, and stay in the message.",
    ("route", "field"),
)
METADATA_MISSING = Metric(
    "tailrace_metadata_missing",
    "counter",
    "Logs whose pod was not known in time, by what was done: deliver, hold or drop.",
    ("route", "action"),
)
ROWS_ODD = Metric(
    "tailrace_odd_rows",
    "counter",
    "Rows that are kept although something is odd about them: invalid, truncated, unterminated, empty.",
    ("route", "kind"),
)
DISCARDED_BYTES = Metric(
    "tailrace_discarded_bytes", "counter", "Bytes behind the cut of over-long lines.", ("route",)
)
FILE_ERRORS = Metric(
    "tailrace_file_errors",
    "counter",
    "Files that could not be opened or read, by errno name.",
    ("error",),
)
DELIVERED_ROWS = Metric(
    "tailrace_delivered_rows", "counter", "Rows confirmed by the destination.", ("route",)
)
DELIVERED_EVENTS = Metric(
    "tailrace_delivered_events",
    "counter",
    "Events or rows as the destination counts them.",
    ("route",),
)
SENT_BYTES = Metric(
    "tailrace_sent_bytes", "counter", "Bytes of events before compression.", ("route",)
)
WIRE_BYTES = Metric(
    "tailrace_wire_bytes",
    "counter",
    "Bytes of request bodies as sent, retries included.",
    ("route",),
)
REQUESTS = Metric(
    "tailrace_requests", "counter", "Requests sent, by outcome.", ("route", "outcome")
)
RETRIES = Metric(
    "tailrace_retries", "counter", "Requests sent again, by reason.", ("route", "reason")
)
NAME_FALLBACKS = Metric(
    "tailrace_name_fallbacks",
    "counter",
    "Names in which a variable that is not known, and has no default, reads unknown; by variable.",
    ("route", "variable"),
)
NAME_OTHERS = Metric(
    "tailrace_name_other_rows",
    "counter",
    "Rows that went to the name for other values: too many different values of fields, or too long ones.",
    ("route",),
)
REJECTED_ROWS = Metric(
    "tailrace_rejected_rows",
    "counter",
    "Rows that the destination refused for ever.",
    ("route", "reason"),
)
LOST_BYTES = Metric(
    "tailrace_lost_bytes", "counter", "Bytes that were never read.", ("route", "reason")
)
LOSSES = Metric("tailrace_losses", "counter", "Loss records written.", ("route", "reason"))
DEAD_LETTER_BYTES = Metric(
    "tailrace_dead_letter_bytes",
    "counter",
    "Bytes of lines that were kept as dead letters.",
    ("route", "reason"),
)
DEAD_LETTERS_DROPPED = Metric(
    "tailrace_dead_letters_dropped",
    "counter",
    "Losses whose lines could not be kept as dead letters.",
    ("route", "reason"),
)
ROUTE_RESTARTS = Metric(
    "tailrace_route_restarts", "counter", "Restarts of a route after an error.", ("route",)
)
COMMITS = Metric("tailrace_commits", "counter", "Checkpoint transactions.", ("route",))
CHECKPOINT_FAILURES = Metric(
    "tailrace_checkpoint_failures",
    "counter",
    "Checkpoints that could not be written, by cause; each is tried again.",
    ("route", "error"),
)
BUDGET_BYTES = Metric("tailrace_budget_bytes", "gauge", "Size of the memory budget.")
BUDGET_HELD_BYTES = Metric("tailrace_budget_held_bytes", "gauge", "Bytes in flight.", ("route",))
UNRESOLVED_BYTES = Metric(
    "tailrace_unresolved_bytes", "gauge", "Bytes read and not yet confirmed.", ("route",)
)
LOG_LAG_BYTES = Metric(
    "tailrace_log_lag_bytes", "gauge", "Bytes of a Log that are not confirmed.", ("route", "log")
)
LOG_LAG_SECONDS = Metric(
    "tailrace_log_lag_seconds",
    "gauge",
    "Age of the oldest unconfirmed bytes of a Log.",
    ("route", "log"),
)
HELD_DELETED_BYTES = Metric(
    "tailrace_held_deleted_bytes",
    "gauge",
    "Bytes of disk of deleted files that only Tailrace holds open.",
)
HELD_DELETED_FILES = Metric(
    "tailrace_held_deleted_files", "gauge", "Deleted files that Tailrace holds open."
)
LOG_DISK_FREE_BYTES = Metric(
    "tailrace_log_disk_free_bytes",
    "gauge",
    "Free bytes on the file system of a source's logs.",
    ("source",),
)
LOGS = Metric("tailrace_logs", "gauge", "Logs known, by state (active or idle).", ("state",))
STAGED_BYTES = Metric(
    "tailrace_staged_bytes", "gauge", "Bytes in staging that are not sealed.", ("route",)
)
SEALED_BYTES = Metric(
    "tailrace_sealed_bytes", "gauge", "Bytes of Parquet files that are not confirmed.", ("route",)
)
SPOOL_BYTES = Metric(
    "tailrace_spool_bytes",
    "gauge",
    "Bytes in the spool of a source that reads no files: what waits for the slowest route.",
    ("source",),
)
SPOOL_FILES = Metric(
    "tailrace_spool_files", "gauge", "Files in the spool of a source.", ("source",)
)
PULLED_EVENTS = Metric(
    "tailrace_pulled_events",
    "counter",
    "Events of control planes that were fetched and are in the spool.",
    ("source", "cluster", "log_type"),
)
PULL_LATE_EVENTS = Metric(
    "tailrace_pull_late_events",
    "counter",
    "Events of control planes that arrived later than overlap_s and were found all the same.",
    ("source", "cluster"),
)
PULL_UNKNOWN_STREAMS = Metric(
    "tailrace_pull_unknown_streams",
    "gauge",
    "Streams of a control plane's log group that were written to within a day and that nobody knows.",
    ("source", "cluster"),
)
PULL_REQUESTS = Metric(
    "tailrace_pull_requests",
    "counter",
    "Requests for events and names of streams, by outcome.",
    ("source", "region", "outcome"),
)
PULL_BEHIND_SECONDS = Metric(
    "tailrace_pull_behind_seconds",
    "gauge",
    "How far the events of a control plane that were fetched are behind the clock of the service.",
    ("source", "cluster", "streams"),
)
LEASE_HELD = Metric(
    "tailrace_lease_held", "gauge", "1 where this agent is the one that fetches.", ("source",)
)
KUBERNETES_REQUESTS = Metric(
    "tailrace_kubernetes_requests",
    "counter",
    "Requests to the API server, by kind of object and status (0: no answer).",
    ("kind", "status"),
)
KUBERNETES_EVENTS = Metric(
    "tailrace_kubernetes_events", "counter", "Objects and bookmarks received.", ("kind",)
)
KUBERNETES_BAD_FRAMES = Metric(
    "tailrace_kubernetes_bad_frames",
    "counter",
    "Frames and objects of the API server that could not be read, or were too long.",
    ("kind",),
)
KUBERNETES_RELISTS = Metric(
    "tailrace_kubernetes_relists",
    "counter",
    "Complete views made anew: history was compacted, or a view was doubtful.",
    ("kind",),
)
KUBERNETES_HEARD_SECONDS = Metric(
    "tailrace_kubernetes_heard_seconds",
    "gauge",
    "Seconds since the API server was last heard of.",
    ("kind",),
)
KUBERNETES_PODS = Metric(
    "tailrace_kubernetes_pods",
    "gauge",
    "Pods with metadata, by state (live or deleted).",
    ("state",),
)
KUBERNETES_DROPPED = Metric(
    "tailrace_kubernetes_dropped",
    "gauge",
    "Objects, labels, annotations and containers not kept because of a limit.",
)


#: Combinations of labels of a metric that is made of lines: several for each container of a full node.
TALLIED_MAX = 2048


class Counters:
    """
    The values of all metrics of the process.
    """

    __slots__ = ("_tallied", "_values")

    def __init__(self) -> None:
        self._values: dict[Metric, dict[tuple[str, ...], float]] = {}
        #: By metric: series by combination of labels, without a histogram's bound; what was added to last comes last.
        self._tallied: dict[Metric, dict[tuple[str, ...], set[tuple[str, ...]]]] = {}

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """
        Add *amount* to a counter.
        """
        series = self._values.setdefault(metric, {})
        series[labels] = series.get(labels, 0) + amount

    def tally(self, metric: Metric, amount: float, *labels: str) -> None:
        """
        Add *amount* to a metric whose labels can be pods: those that nothing was added to for longest go.

        One that comes back begins at zero, as after a restart.
        """
        known = self._tallied.setdefault(metric, {})
        own = labels[:-1] if metric.kind == "histogram" else labels
        series = known[own] = known.pop(own, set())
        series.add(labels)
        self.add(metric, amount, *labels)
        if len(known) > TALLIED_MAX:
            for gone in known.pop(next(iter(known))):
                del self._values[metric][gone]

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """
        Set a gauge.
        """
        self._values.setdefault(metric, {})[labels] = value

    def clear(self, metric: Metric) -> None:
        """
        Forget every series of a gauge, before it is filled anew.
        """
        self._values.pop(metric, None)

    def get(self, metric: Metric, *labels: str) -> float:
        """
        Return a value; 0 where nothing was added.
        """
        return self._values.get(metric, {}).get(labels, 0)

    def total(self, metric: Metric, *labels: str) -> float:
        """
        Return the sum over all series whose first labels are *labels*.
        """
        series = self._values.get(metric, {})
        return sum(value for key, value in series.items() if key[: len(labels)] == labels)

    def samples(self) -> Iterator[tuple[Metric, dict[tuple[str, ...], float]]]:
        """
        Yield every metric with its series.
        """
        yield from self._values.items()
