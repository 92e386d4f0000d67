"""
Checks AWS Signature Version 4, from the specification and not from the SDK that made it.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

if TYPE_CHECKING:
    from collections.abc import Mapping

WINDOW_S = 300
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    method: str
    #: As it was on the wire.
    raw_path: str
    raw_query: str
    headers: Mapping[str, str]  # any case
    body: bytes


@dataclass(frozen=True, slots=True)
class SignatureError(Exception):
    code: str
    message: str


def check_signature(
    request: SignedRequest,
    *,
    service: str,
    region: str,
    keys: Mapping[str, tuple[str, str | None]],
    now: float,
) -> str:
    """
    Return the access key that signed *request*.

    *keys* maps access keys to (secret, session token).  Raises SignatureError with AWS's code.
    """
    headers = {name.lower(): " ".join(value.split()) for name, value in request.headers.items()}
    authorization = headers.get("authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        raise SignatureError("MissingAuthenticationTokenException", "Missing Authentication Token")
    fields = dict(item.strip().split("=", 1) for item in authorization.partition(" ")[2].split(","))
    access_key, date, *scope = fields["Credential"].split("/")
    if access_key not in keys:
        raise SignatureError("UnrecognizedClientException", "The security token is invalid.")
    secret, token = keys[access_key]
    if token is not None and headers.get("x-amz-security-token") != token:
        raise SignatureError("UnrecognizedClientException", "The security token is invalid.")
    stamp = headers.get("x-amz-date", "")
    signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    if abs(signed_at - now) > WINDOW_S:
        raise SignatureError("InvalidSignatureException", f"Signature expired: {stamp}")
    if scope != [region, service, "aws4_request"] or not stamp.startswith(date):
        raise SignatureError("InvalidSignatureException", f"Credential should be scoped: {scope}")
    payload = headers.get("x-amz-content-sha256", hashlib.sha256(request.body).hexdigest())
    if payload not in (UNSIGNED, hashlib.sha256(request.body).hexdigest()):
        raise SignatureError("XAmzContentSHA256Mismatch", "The payload does not match its hash.")
    signed = fields["SignedHeaders"].split(";")
    must_be_signed = {"host"} | {name for name in headers if name.startswith("x-amz-")}
    if not must_be_signed <= set(signed) or signed != sorted(signed):
        raise SignatureError("InvalidSignatureException", f"headers not signed: {signed}")
    expected = _signature(request, headers, signed, payload, secret, stamp, [date, *scope])
    if not hmac.compare_digest(expected, fields["Signature"]):
        raise SignatureError("InvalidSignatureException", "The signature does not match.")
    return access_key


def _signature(
    request: SignedRequest,
    headers: Mapping[str, str],
    signed: list[str],
    payload: str,
    secret: str,
    stamp: str,
    scope: list[str],
) -> str:
    query = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(request.raw_query, keep_blank_values=True)
    )
    canonical = "\n".join(
        [
            request.method,
            request.raw_path,
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{headers[name]}" for name in signed),
            "",
            ";".join(signed),
            payload,
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for item in (*scope, text):
        key = hmac.new(key, item.encode(), hashlib.sha256).digest()
    return key.hex()
