"""
The wire of CloudWatch Logs: what is asked, and what every answer means.

Protocol AWS JSON 1.1 (facts: wire protocol): `POST /`, header `x-amz-target: Logs_20140328.<Operation>`.
An error is a JSON body `{"__type": "…#Code", "message": …}` or the header `x-amzn-errortype`.

`ACTIONS` is the only place where codes are matched; what it does not know is decided by the status:

| status | action |
|---|---|
| 200 with x-amzn-RequestId | delivered; without it some proxy answered: outage |
| 401 | credentials |
| 403 | denied |
| 408, 5xx, 1xx | outage |
| 413, 415 | plain, while the body is gzipped; then 413 is refused and 415 is unknown |
| 429 | throttled |
| other | unknown: retried slowly and said loudly, because nobody may call lines lost on a guess |
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from agent.core.batch import LossReason

if TYPE_CHECKING:
    from agent.core.host import Response

TARGET_PREFIX = "Logs_20140328."
CONTENT_TYPE = "application/x-amz-json-1.1"
PUT = "PutLogEvents"
DETAIL_LENGTH_MAX = 300


class Action(Enum):
    """
    What the sender does about an answer.
    """

    #: It worked.
    DELIVERED = auto()
    #: The stream (or its group) does not exist: create it, then send again.
    CREATE = auto()
    #: The service asks for less.
    THROTTLED = auto()
    #: The service, or the way to it, does not work.
    OUTAGE = auto()
    #: Somebody else is changing the same thing: try again soon.
    CONFLICT = auto()
    #: Nobody knows us: renew credentials; every destination waits.
    CREDENTIALS = auto()
    #: We may not do this: a person must give the permission; other destinations go on.
    DENIED = auto()
    #: An account limit, or something that this table does not know: a person must look.
    UNKNOWN = auto()
    #: The body is refused as gzip: send it plain.
    PLAIN = auto()
    #: These bytes will never be taken: isolate the event that is at fault.
    REFUSED = auto()


#: facts: response handling.
ACTIONS: dict[str, Action] = {
    "ResourceAlreadyExistsException": Action.DELIVERED,
    # Old endpoints and fakes: the batch is already there.
    "DataAlreadyAcceptedException": Action.DELIVERED,
    "ResourceNotFoundException": Action.CREATE,
    "BandwidthLimitExceeded": Action.THROTTLED,
    "RequestLimitExceeded": Action.THROTTLED,
    "RequestThrottled": Action.THROTTLED,
    "RequestThrottledException": Action.THROTTLED,
    "SlowDown": Action.THROTTLED,
    "ThrottledException": Action.THROTTLED,
    "Throttling": Action.THROTTLED,
    "ThrottlingException": Action.THROTTLED,
    "TooManyRequests": Action.THROTTLED,
    "TooManyRequestsException": Action.THROTTLED,
    "InternalFailure": Action.OUTAGE,
    "InternalServerError": Action.OUTAGE,
    "InternalServerException": Action.OUTAGE,
    "RequestTimeout": Action.OUTAGE,
    "RequestTimeoutException": Action.OUTAGE,
    "ServiceUnavailable": Action.OUTAGE,
    "ServiceUnavailableException": Action.OUTAGE,
    "OperationAbortedException": Action.CONFLICT,
    # Old endpoints and fakes: the token is ignored, sending again helps.
    "InvalidSequenceTokenException": Action.CONFLICT,
    "ExpiredToken": Action.CREDENTIALS,
    "ExpiredTokenException": Action.CREDENTIALS,
    "IncompleteSignature": Action.CREDENTIALS,
    "IncompleteSignatureException": Action.CREDENTIALS,
    "InvalidClientTokenId": Action.CREDENTIALS,
    "InvalidSignatureException": Action.CREDENTIALS,
    "MissingAuthenticationToken": Action.CREDENTIALS,
    "MissingAuthenticationTokenException": Action.CREDENTIALS,
    "RequestExpired": Action.CREDENTIALS,
    "SignatureDoesNotMatch": Action.CREDENTIALS,
    "UnrecognizedClientException": Action.CREDENTIALS,
    "AccessDenied": Action.DENIED,
    "AccessDeniedException": Action.DENIED,
    # Of CreateLogGroup: an account has all the groups it may have.  Not a throttle.
    "LimitExceededException": Action.UNKNOWN,
    "InvalidParameterException": Action.REFUSED,
    "ValidationException": Action.REFUSED,
    # The parser of the service gave up on the body: gzip, or an event.
    "SerializationException": Action.REFUSED,
}
STATUSES: dict[int, Action] = {
    401: Action.CREDENTIALS,
    403: Action.DENIED,
    408: Action.OUTAGE,
    413: Action.REFUSED,
    429: Action.THROTTLED,
}


class Answer(NamedTuple):
    """
    A response, understood.
    """

    action: Action
    code: str
    message: str
    retry_after_s: float | None = None
    #: Of a delivered PutLogEvents: which events [start, stop) were refused, and why.
    rejected: tuple[tuple[int, int, LossReason], ...] = ()


def understand(response: Response, *, events: int = 0, gzipped: bool = False) -> Answer:
    """
    Return what *response* means for a request of *events* events.
    """
    if response.status == 200:
        return _understand_success(response, events)
    code, message = _error_of(response)
    action = ACTIONS.get(code)
    if action is None:
        outage = response.status >= 500 or response.status < 200
        action = Action.OUTAGE if outage else STATUSES.get(response.status, Action.UNKNOWN)
    if gzipped and (response.status in (413, 415) or code == "SerializationException"):
        action = Action.PLAIN
    if action is Action.REFUSED and ("'logGroupName'" in message or "'logStreamName'" in message):
        # It is the destination that is refused, not its events.
        action = Action.UNKNOWN
    return Answer(action, code or f"http_{response.status}", message, _retry_after_s(response))


def headers_for(operation: str, *, gzipped: bool = False) -> dict[str, str]:
    """
    Return the headers of a request, without the signature's.
    """
    headers = {"content-type": CONTENT_TYPE, "x-amz-target": TARGET_PREFIX + operation}
    if gzipped:
        headers["content-encoding"] = "gzip"
    return headers


def put_head(group: str, stream: str) -> bytes:
    """
    Return the beginning of a PutLogEvents body, up to its first event.
    """
    names = orjson.dumps({"logGroupName": group, "logStreamName": stream})
    return names[:-1] + b',"logEvents":['


def _understand_success(response: Response, events: int) -> Answer:
    # Proxies and captive portals answer 200 to anything; Fluent Bit checks the same header.
    if "x-amzn-requestid" not in response.headers:
        return Answer(Action.OUTAGE, "untrusted_reply", "200 without x-amzn-RequestId")
    try:
        body = orjson.loads(response.body) if response.body else {}
    except orjson.JSONDecodeError:
        return Answer(Action.OUTAGE, "untrusted_reply", "200 with a body that is not JSON")
    if not isinstance(body, dict):
        return Answer(Action.OUTAGE, "untrusted_reply", "200 with a body that is not an object")
    entity = body.get("rejectedEntityInfo") or {}
    message = f"entity rejected: {entity.get('errorType')}" if entity else ""
    info = body.get("rejectedLogEventsInfo") or {}
    return Answer(Action.DELIVERED, "", message, rejected=_rejected_of(info, events))


def _rejected_of(info: dict[str, Any], events: int) -> tuple[tuple[int, int, LossReason], ...]:
    """
    Return the refused ranges of events, disjoint and in order.

    tooOldLogEventEndIndex and expiredLogEventEndIndex are exclusive, tooNewLogEventStartIndex is inclusive.
    """
    rejected: list[tuple[int, int, LossReason]] = []
    start = 0
    ends = [
        (info.get("tooOldLogEventEndIndex"), LossReason.TOO_OLD),
        (info.get("expiredLogEventEndIndex"), LossReason.EXPIRED),
    ]
    # Events are in order of time, so both are prefixes, and the shorter one comes first; of two
    # equal ones, "too old" says more.
    prefixes = [(min(end, events), reason) for end, reason in ends if isinstance(end, int)]
    for end, reason in sorted(prefixes, key=lambda prefix: prefix[0]):
        if end > start:
            rejected.append((start, end, reason))
            start = end
    new = info.get("tooNewLogEventStartIndex")
    if isinstance(new, int) and max(new, start) < events:
        rejected.append((max(new, start), events, LossReason.TOO_NEW))
    return tuple(rejected)


def _error_of(response: Response) -> tuple[str, str]:
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = str(
        body.get("__type") or body.get("code") or response.headers.get("x-amzn-errortype", "")
    )
    code = code.rpartition("#")[2].partition(":")[0].strip()
    message = (
        body.get("message")
        or body.get("Message")
        or response.body[:DETAIL_LENGTH_MAX].decode(errors="replace")
    )
    return code, str(message)[:DETAIL_LENGTH_MAX]


def _retry_after_s(response: Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
