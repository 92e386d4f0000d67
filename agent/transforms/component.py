"""
`parse: component`: what each component of a node or of its control plane writes (core/components.py).

The format is that of the Log's container, so one route reads all of them.  Of what a component writes in several
forms (klog's text and JSON, an audit log on stdout), each row has its own.

| kind | level | time, where no container runtime has written one |
|---|---|---|
| klog | the letter; in JSON error with `err` or without `v`, else info | `time`, or `ts` in JSON |
| logfmt, etcd | `level` | `time`, `ts` |
| audit | none | `stageTimestamp`; `latency_ms` is what passed since `requestReceivedTimestamp` |
| syslog, dmesg | none | `time`; none |

etcd before 3.5 writes text, `2026-11-22 19:00:01.123456 W | etcdserver: …`, and its raft library in the form of Go's
`log`.

Times without a zone are UTC.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from agent import _fastfields
from agent._fastlayout import extract_groups
from agent._fastobject import extract_json
from agent._fastpairs import extract_klog, extract_logfmt, klog_levels
from agent.core import counters as metric
from agent.core import regex
from agent.core.components import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent._fastfields import Wanted
    from agent._fastparse import Columns
    from agent._fastregex import Regex
    from agent.transforms.stage import Work

#: Looked at of every component, because the container is not known before the first row.
FIELDS = ("time", "ts", "stageTimestamp", "requestReceivedTimestamp")
LEVEL_FIELDS = ("level", "v", "err", "msg")
LATENCY = "latency_ms"
_TIMES: dict[Kind, tuple[str, ...]] = {
    "klog": ("time", "ts"),
    "logfmt": ("time",),
    "etcd": ("ts",),
    "audit": ("stageTimestamp",),
    "syslog": ("time",),
    "dmesg": (),
}
_KERNELS: dict[Kind, tuple[Callable[[Columns, Wanted], int], ...]] = {
    "klog": (extract_klog, extract_json),
    "logfmt": (extract_logfmt, extract_json, extract_klog),
    "audit": (extract_json,),
    "etcd": (extract_json,),
}
#: For what no kernel takes.
_PATTERNS: dict[Kind, str] = {
    "syslog": (
        r"^(?P<time>[A-Z][a-z][a-z] [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) (?P<host>[^ ]+) "
        r"(?P<ident>[^\[: ]+)(?:\[(?P<pid>[0-9]+)\])?: ?(?P<message>.*)"
    ),
    "etcd": (
        r"^(?:raft ?)?(?P<ts>[0-9]{4}[-/][0-9]{2}[-/][0-9]{2} [0-9:]{8}(?:\.[0-9]{1,9})?) (?P<level>[A-Z]+)(?: \||:) "
        r"(?:(?P<logger>[a-z0-9/]+): )?(?P<msg>[^\x00]*)"
    ),
    # Some kernels name the thread or the processor as well.
    "dmesg": r"^\[ *(?P<uptime>[0-9]+\.[0-9]+)\](?:\[ *[TC][0-9]+\])? (?P<message>.*)",
}
#: Where an event of a component begins that writes some over several lines: klog, its JSON, what the runtime
#: of Go says at the end, what a flag says at the beginning.  Whatever else there is goes on with the event before.
EVENT_START = (
    r'^(?:[IWEF][0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6} |\{"|panic: |fatal error: |Flag --|'
    r"(?:raft ?)?[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ]|\[WARNING\] )"
)
_JOINED: frozenset[Kind] = frozenset({"klog", "etcd"})


def joins(container: str) -> Regex | None:
    """
    Return what begins an event of *container*; None where every line is one.
    """
    return regex.compile_pattern(EVENT_START) if kind_of(container) in _JOINED else None


def extract(work: Work) -> int:
    """
    Extract what is wanted of the rows of a component; return how many are not what it writes.
    """
    container = work.resource.container
    kind = kind_of(container)
    if kind is None:
        _tell_unknown(work, container)
        return 0
    unparsed = _fields(work, kind)
    if unparsed:
        work.tell(
            "unparsed_lines",
            f"route {work.route}: {unparsed} rows of {container} ({work.resource.path}) are not its {kind}: they are "
            "delivered as they are, without fields; look at them with `tailrace explain --line`, or put another parse "
            "behind this one",
            level="warning",
        )
    if work.level_used:
        _levels(work, kind)
    _times(work, kind)
    return unparsed


def _tell_unknown(work: Work, container: str) -> None:
    work.counters.add(metric.UNKNOWN_COMPONENT_ROWS, work.columns.rows, work.route)
    work.tell(
        "unknown_component",
        f"route {work.route}: nobody knows what {container or 'the component'} of {work.resource.path} writes: its "
        "rows are delivered without fields; select other containers, put its files into the source's `more_paths`, or "
        "put another parse behind this one",
        level="warning",
    )


def _fields(work: Work, kind: Kind) -> int:
    columns, wanted = work.columns, work.wanted
    unparsed = columns.rows
    for kernel in _KERNELS.get(kind, ()):
        if unparsed:
            unparsed = kernel(columns, wanted)
    if unparsed and kind in _PATTERNS:
        compiled = _pattern(kind)
        fields = tuple(work.indices.get(name, -1) for name in compiled.names)
        unparsed = extract_groups(columns, wanted, compiled, fields)
    return unparsed


def _levels(work: Work, kind: Kind) -> None:
    level, verbosity, error, message = (work.indices[name] for name in LEVEL_FIELDS)
    if kind == "klog":
        klog_levels(work.columns, verbosity, error, message)
    elif kind in ("logfmt", "etcd"):
        strange = _fastfields.take_levels(work.columns, (level,), _fastfields.SCALE_PINO)
        _count_misfits(work, "level", strange)


def _times(work: Work, kind: Kind) -> None:
    columns, indices = work.columns, work.indices
    for name in _TIMES[kind]:
        _count_misfits(work, name, _fastfields.take_times(columns, indices[name], unread=True))
    if LATENCY in indices and kind in ("audit", "klog"):
        start, stop = (indices[name] for name in ("requestReceivedTimestamp", "stageTimestamp"))
        _fastfields.take_spans(columns, start, stop, indices[LATENCY])


def _count_misfits(work: Work, name: str, count: int) -> None:
    if count:
        work.counters.add(metric.MISFIT_VALUES, count, work.route, name)


@cache
def _pattern(kind: Kind) -> Regex:
    return regex.compile_pattern(_PATTERNS[kind])
