"""
The formats of `parse`: for each a kernel, and where its level is.

attrs
    of a line in the spool of a source that reads no files: attrs.NAME, what the source knows of it beside its message
json
    members; `a.b` for the member `b` of the object `a`
logfmt
    keys
klog
    level, time, thread, caller, file, line, msg and the pairs of a structured line; of its JSON the members
regex
    named groups
nginx
    remote_addr, remote_user, time, request, status, bytes, referer, user_agent, forwarded_for
envoy
    start_time, method, path, protocol, response_code, response_flags, bytes_received, bytes_sent, duration,
    upstream_service_time, x_forwarded_for, user_agent, request_id, authority, upstream_host; of JSON the members
component
    those of what the component writes: see component.py
syslog
    priority, timestamp, hostname, app_name, proc_id, msg_id, structured_data, message
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent._fastlayout import Layout, extract_groups, extract_layout
from agent._fastobject import extract_attrs, extract_json
from agent._fastpairs import extract_klog, extract_logfmt, klog_levels
from agent.core import regex
from agent.transforms import component

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.transforms.stage import Work

#: In klog's JSON, lines of errors have `err`, or have no verbosity.
_KLOG_LEVEL = ("v", "err")


class Kernel(NamedTuple):
    """
    What reads a format; `level_fields` is None where the settings name them, `fields` are always extracted.
    """

    extract: Callable[[Work], int]
    level_fields: tuple[str, ...] | None = None
    fields: tuple[str, ...] = ()


def kernel_for(name: str, pattern: str) -> Kernel:
    """
    Return the kernel of the format *name*.
    """
    if name == "regex":
        return _groups(pattern)
    if name == "component":
        return Kernel(component.extract, component.LEVEL_FIELDS, component.FIELDS)
    if name == "nginx":
        layout = _nginx()
        return Kernel(lambda work: extract_layout(work.columns, work.wanted, layout), ())
    if name == "syslog":
        layout = _syslog()
        return Kernel(lambda work: extract_layout(work.columns, work.wanted, layout), ())
    if name == "envoy":
        layout = _envoy()
        return Kernel(
            lambda work: _or_json(work, extract_layout(work.columns, work.wanted, layout))
        )
    if name == "attrs":
        return Kernel(lambda work: extract_attrs(work.columns, work.wanted), ())
    if name == "klog":
        return Kernel(_klog, _KLOG_LEVEL)
    extract = {"json": extract_json, "logfmt": extract_logfmt}[name]
    return Kernel(lambda work: extract(work.columns, work.wanted))


def _or_json(work: Work, unparsed: int) -> int:
    return extract_json(work.columns, work.wanted) if unparsed else 0


def _klog(work: Work) -> int:
    unparsed = _or_json(work, extract_klog(work.columns, work.wanted))
    if work.level_used:
        verbosity, error = (work.indices[name] for name in _KLOG_LEVEL)
        klog_levels(work.columns, verbosity, error)
    return unparsed


def _groups(pattern: str) -> Kernel:
    compiled = regex.compile_pattern(pattern)

    def extract(work: Work) -> int:
        fields = tuple(work.indices.get(name, -1) for name in compiled.names)
        return extract_groups(work.columns, work.wanted, compiled, fields)

    return Kernel(extract)


def _nginx() -> Layout:
    parts = (
        (b"remote_addr", b" - "),
        (b"remote_user", b" ["),
        (b"time", b'] "'),
        (b"request", b'" '),
        (b"status", b" "),
        (b"bytes", b' "'),
        (b"referer", b'" "'),
        (b"user_agent", b'"'),
        (b"", b' "'),
        (b"forwarded_for", b'"'),
    )
    return Layout(b"", parts, required=8)


def _envoy() -> Layout:
    parts = (
        (b"start_time", b'] "'),
        (b"method", b" "),
        (b"path", b" "),
        (b"protocol", b'" '),
        *(
            (name, b" ")
            for name in (
                b"response_code",
                b"response_flags",
                b"bytes_received",
                b"bytes_sent",
                b"duration",
            )
        ),
        (b"upstream_service_time", b' "'),
        (b"x_forwarded_for", b'" "'),
        (b"user_agent", b'" "'),
        (b"request_id", b'" "'),
        (b"authority", b'" "'),
        (b"upstream_host", b'"'),
    )
    return Layout(b"[", parts, required=15)


def _syslog() -> Layout:
    names = (b"timestamp", b"hostname", b"app_name", b"proc_id", b"msg_id")
    parts = ((b"priority", b">1 "), *((name, b" ") for name in names), (b"", b""))
    return Layout(b"<", parts, required=7, syslog=True)
