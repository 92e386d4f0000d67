"""
Our signature beside botocore's, header by header.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from hypothesis import example, given
from hypothesis import strategies as st

from agent.runtime.aws_endpoints import Endpoint, request_url
from agent.runtime.aws_signature import KEYS_KEPT_MAX, Keys, Signer
from agent.runtime.http_connect import place_of

AT_S = 1_795_900_000.75
REGION = "eu-central-1"
KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF), max_size=30)
names = st.from_regex(r"x-amz-meta-[a-z][a-z0-9-]{0,8}", fullmatch=True)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


class Theirs(SigV4Auth):  # type: ignore[misc]
    """
    botocore's signer for a path that is encoded already, at a moment that a test chooses.
    """

    def sign(self, request: Any) -> None:
        request.context["timestamp"] = datetime.fromtimestamp(int(AT_S), tz=UTC).strftime(
            "%Y%m%dT%H%M%SZ"
        )
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))

    def _normalize_url_path(self, path: str) -> str:
        return path


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    key=texts,
    query=st.dictionaries(texts.filter(bool), texts, max_size=4),
    headers=st.dictionaries(names, values, max_size=4),
    token=st.none() | st.just("t0ken/+="),
    service=st.sampled_from(["logs", "s3", "sts"]),
)
@example("PUT", "date=2026-11-23/hour=07/a b+c~ä%", {"b": "", "a": "2 1"}, {}, None, "s3")
@example("GET", "", {"0": "", "00": ""}, {}, None, "logs")
def test_it_is_botocores(
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    token: str | None,
    service: str,
) -> None:
    """
    For any path, query and headers.
    """
    url = request_url(Endpoint("https://x.test:8443", custom=True), service, f"/{key}", query)
    ready = {
        "host": place_of(url).header,
        "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
        **headers,
    }
    keys = KEYS._replace(token=token)
    ours = Signer(service, REGION).signed(keys, method=method, url=url, headers=ready, at_s=AT_S)
    request = AWSRequest(method=method, url=url)
    request.headers = HTTPHeaders()
    for name, value in ready.items():
        request.headers[name] = value
    Theirs(keys, service, REGION).sign(request)
    assert ours == {name.lower(): value for name, value in request.headers.items()}


def test_the_key_of_the_day() -> None:
    """
    It follows the day and the secret, and old ones are not kept for ever.
    """
    kept, headers = Signer("logs", REGION), {"host": "h", "x-amz-content-sha256": "e3b0"}
    for number in range(3 * KEYS_KEPT_MAX):
        keys = KEYS._replace(secret_key=f"secret{number % 70}")
        asked: Any = {"method": "POST", "url": "https://h/", "headers": headers}
        at_s = AT_S + number % 3 * 86_400
        fresh = Signer("logs", REGION).signed(keys, at_s=at_s, **asked)
        assert kept.signed(keys, at_s=at_s, **asked) == fresh
    assert len(kept._derived) <= KEYS_KEPT_MAX
