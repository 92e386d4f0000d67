"""
What CloudWatch Logs accepts, rule by rule: limits, names, tags, retention, entity, refused events.

Pure: a request's JSON and the time in, a RefusalError or an answer out.  It does not share a line with the agent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

BATCH_BYTES_MAX = 1_048_576
EVENT_OVERHEAD = 26
EVENT_BYTES_MAX = 1_048_576
EVENTS_MAX = 10_000
SPAN_MS_MAX = 24 * 3_600_000
PAST_MS_MAX = 14 * 24 * 3_600_000
FUTURE_MS_MAX = 2 * 3_600_000
DAY_MS = 24 * 3_600_000
RETENTIONS = {
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
}
CLASSES = {"STANDARD", "INFREQUENT_ACCESS", "DELIVERY"}
GROUP_NAME = re.compile(r"[\.\-_/#A-Za-z0-9]{1,512}")
STREAM_NAME = re.compile(r"[^:*]{1,512}")
TAG = re.compile(r"[\w \u00a0.:/=+\-@]*")
ENTITY_TYPES = {
    "Service": {"Type", "Name", "Environment"},
    "Resource": {"Type", "ResourceType", "Identifier"},
    "AWS::Resource": {"Type", "ResourceType", "Identifier"},
}


class RefusalError(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass(slots=True)
class Group:
    streams: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    retention_days: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    log_group_class: str = "STANDARD"
    kms_key_id: str | None = None


def invalid(message: str) -> RefusalError:
    return RefusalError("InvalidParameterException", message)


def check_group_name(name: Any) -> str:
    if not isinstance(name, str) or not GROUP_NAME.fullmatch(name):
        raise invalid(f"1 validation error: Value {str(name)[:40]!r} at 'logGroupName' failed")
    if name.startswith("aws/"):
        raise invalid("Log groups starting with aws/ are reserved: 'logGroupName'")
    return name


def check_stream_name(name: Any) -> str:
    if not isinstance(name, str) or not STREAM_NAME.fullmatch(name):
        raise invalid(f"1 validation error: Value {str(name)[:40]!r} at 'logStreamName' failed")
    return name


def new_group(body: dict[str, Any]) -> Group:
    tags = body.get("tags", {})
    if len(tags) > 50:
        raise invalid("more than 50 tags")
    for key, value in tags.items():
        if not (1 <= len(key) <= 128 and len(value) <= 256):
            raise invalid(f"tag {key!r}: length")
        if not (TAG.fullmatch(key) and TAG.fullmatch(value)):
            raise invalid(f"tag {key!r}: characters")
    log_group_class = body.get("logGroupClass", "STANDARD")
    if log_group_class not in CLASSES:
        raise invalid(f"logGroupClass {log_group_class!r}")
    return Group(tags=tags, log_group_class=log_group_class, kms_key_id=body.get("kmsKeyId"))


def check_retention(days: Any) -> int:
    if days not in RETENTIONS:
        raise invalid(f"retentionInDays {days!r}")
    return int(days)


def check_events(events: Any, now_ms: int) -> None:
    """
    Raise for what makes the whole call fail.
    """
    if not isinstance(events, list) or not 1 <= len(events) <= EVENTS_MAX:
        raise invalid("logEvents: 1 to 10000 events")
    total = 0
    previous = -1
    for index, event in enumerate(events):
        timestamp, message = event.get("timestamp"), event.get("message")
        if set(event) != {"timestamp", "message"}:
            raise RefusalError("SerializationException", f"event {index} has other members")
        if not isinstance(timestamp, int) or timestamp < 0:
            raise invalid(f"event {index}: timestamp {timestamp!r}")
        if not isinstance(message, str) or not message:
            raise invalid(f"event {index}: empty message")
        size = len(message.encode())
        if size > EVENT_BYTES_MAX:
            raise invalid(f"Log event too large: {size} bytes exceeds limit of {EVENT_BYTES_MAX}")
        total += size + EVENT_OVERHEAD
        if timestamp < previous:
            raise invalid("Log events in a single PutLogEvents request must be in order")
        previous = timestamp
    if total > BATCH_BYTES_MAX:
        raise invalid(f"Upload too large: {total} bytes exceeds limit of {BATCH_BYTES_MAX}")
    valid = [
        event["timestamp"]
        for event in events
        if now_ms - PAST_MS_MAX <= event["timestamp"] <= now_ms + FUTURE_MS_MAX
    ]
    if valid and valid[-1] - valid[0] > SPAN_MS_MAX:
        raise invalid("The batch of log events spans more than 24 hours")


def refused_events(
    events: list[dict[str, Any]], group: Group, now_ms: int
) -> tuple[list[tuple[int, str]], dict[str, int]]:
    """
    Return (events to store, rejectedLogEventsInfo).
    """
    stamps = [event["timestamp"] for event in events]
    too_old = sum(stamp < now_ms - PAST_MS_MAX for stamp in stamps)
    expired = 0
    if group.retention_days is not None:
        expired = sum(stamp < now_ms - group.retention_days * DAY_MS for stamp in stamps)
    too_new = sum(stamp > now_ms + FUTURE_MS_MAX for stamp in stamps)
    start, stop = max(too_old, expired), len(stamps) - too_new
    info: dict[str, int] = {}
    if too_old:
        info["tooOldLogEventEndIndex"] = too_old  # exclusive
    if expired:
        info["expiredLogEventEndIndex"] = expired  # exclusive
    if too_new:
        info["tooNewLogEventStartIndex"] = stop  # inclusive
    return [(event["timestamp"], event["message"]) for event in events[start:stop]], info


def refused_entity(entity: Any) -> str | None:
    """
    Return rejectedEntityInfo.errorType; the events are stored all the same.
    """
    if entity is None:
        return None
    keys, attributes = entity.get("keyAttributes", {}), entity.get("attributes", {})
    known = ENTITY_TYPES.get(keys.get("Type", ""))
    if "Type" not in keys:
        return "MissingRequiredFields"
    if known is None:
        return "InvalidTypeValue"
    if not known <= set(keys):
        return "MissingRequiredFields"
    if not 2 <= len(keys) <= 4 or any(len(key) > 32 or len(keys[key]) > 512 for key in keys):
        return "InvalidKeyAttributes"
    if len(attributes) > 10 or any(
        len(key) > 256 or len(attributes[key]) > 512 for key in attributes
    ):
        return "InvalidAttributes"
    return None
