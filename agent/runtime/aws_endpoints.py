"""
Where an AWS service is: host names by Region, partition and variant.  Pure.

The patterns are those of the SDK's endpoint rule sets for `logs`, `s3` and `sts` (a test compares them with
botocore's resolver, Region by Region).  They are written out here because the SDK's own data costs 7 MB of
memory as soon as it is loaded.

| service | plain | dual-stack | FIPS | both |
|---|---|---|---|---|
| logs, sts | `S.R.dns` | `S.R.dual` | `S-fips.R.dns` | `S-fips.R.dual` |
| s3 | `s3.R.dns` | `s3.dualstack.R.dns` | `s3-fips.R.dns` | `s3-fips.dualstack.R.dns` |

In GovCloud the plain hosts of `logs` and `sts` are the FIPS ones.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

#: (prefix of the Region, DNS suffix, DNS suffix of dual-stack hosts); the first that fits.
PARTITIONS = (
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("", "amazonaws.com", "api.aws"),
)
#: A bucket that can be a host name under AWS's wildcard certificate: no dots.
_BUCKET_HOST = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class Endpoint(NamedTuple):
    """
    The base URL of a service, without a path at its end.
    """

    url: str
    #: Given by the user: S3 buckets stay in the path.
    custom: bool


def endpoint_for(
    service: str,
    region: str,
    *,
    endpoint_url: str = "",
    fips: bool = False,
    dual_stack: bool = False,
) -> Endpoint:
    """
    Return the endpoint of *service* in *region*; *endpoint_url* wins over everything.
    """
    if endpoint_url:
        return Endpoint(endpoint_url.rstrip("/"), custom=True)
    dns, dual = next((dns, dual) for prefix, dns, dual in PARTITIONS if region.startswith(prefix))
    if service == "s3":
        host = "s3-fips" if fips else "s3"
        return Endpoint(
            f"https://{host}{'.dualstack' if dual_stack else ''}.{region}.{dns}", custom=False
        )
    plain_is_fips = region.startswith("us-gov-") and not dual_stack
    host = f"{service}-fips" if fips and not plain_is_fips else service
    return Endpoint(f"https://{host}.{region}.{dual if dual_stack else dns}", custom=False)


def request_url(
    endpoint: Endpoint, service: str, path: str, query: Mapping[str, str] | None = None
) -> str:
    """
    Return the encoded URL for *path* (of S3: `/bucket/key`) and *query*, which are not encoded.
    """
    assert path.startswith("/"), path
    base = endpoint.url
    if service == "s3" and not endpoint.custom:
        bucket, _, key = path[1:].partition("/")
        if _BUCKET_HOST.fullmatch(bucket):
            scheme, _, host = base.partition("://")
            base, path = f"{scheme}://{bucket}.{host}", f"/{key}"
    # S3 signs the path with everything but these encoded, `=` of a partition included.
    path = quote(path, safe="/-_.~")
    if not query:
        return base + path
    return f"{base}{path}?{urlencode(query, quote_via=quote, safe='-_.~')}"
