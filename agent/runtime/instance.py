"""
Where the node runs: Region, Availability Zone and instance id.

Each is taken from the first that knows it: the configuration, the labels and the provider id of the Node, the
environment, the instance metadata service (IMDSv2).  What none of them knows is absent; off AWS
nobody waits longer than a second for each of at most two requests.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from agent import __version__
from agent.core.instance import Instance
from agent.core.kube_objects import decoded
from agent.runtime.http_connect import connect, place_of
from agent.runtime.http_connection import AnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.instance import InstanceSettings
    from agent.core.kube_objects import NodeObject
    from agent.runtime.http_connection import HttpConnection

IMDS_URL = "http://169.254.169.254"
IMDS_TIMEOUT_S = 1.0
TOKEN_LIFE_S = 60
#: A document has about 500 bytes; a token 56.
IMDS_BYTES_MAX = 16 * 1024

REGION_LABELS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_PROVIDER_ID = re.compile(r"aws:///(?:[^/]*/)?(?P<id>i-[0-9a-f]{8,17})")


class _Document(msgspec.Struct, rename="camel"):
    region: str = ""
    availability_zone: str = ""
    instance_id: str = ""


async def find_instance(
    settings: InstanceSettings,
    environ: Mapping[str, str],
    *,
    node: NodeObject | None = None,
    timeout_s: float = IMDS_TIMEOUT_S,
) -> Instance:  # network op
    """
    Return what is known; takes at most twice *timeout_s*, and never raises.
    """
    found = Instance(
        region=settings.region, zone=settings.zone, instance_id=settings.instance_id
    ).filled(of_node(node))
    disabled = environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
    if not found.complete and settings.imds and not disabled:
        url = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "") or IMDS_URL
        found = found.filled(await _ask(url.rstrip("/"), timeout_s))
    # Last: it can name the Region of the destination instead of the node's.
    region = environ.get("AWS_REGION", "") or environ.get("AWS_DEFAULT_REGION", "")
    return found.filled(Instance(region=region))


def of_node(node: NodeObject | None) -> Instance:
    """
    Return what a Node says about its machine.
    """
    if node is None:
        return Instance()
    labels = node.metadata.labels or {}
    provider = _PROVIDER_ID.fullmatch(node.spec.provider_id)
    return Instance(
        region=next((labels[key] for key in REGION_LABELS if labels.get(key)), ""),
        zone=next((labels[key] for key in ZONE_LABELS if labels.get(key)), ""),
        instance_id=provider["id"] if provider else "",
    )


async def _ask(url: str, timeout_s: float) -> Instance:
    try:
        token = await _text(
            "PUT",
            f"{url}/latest/api/token",
            f"x-aws-ec2-metadata-token-ttl-seconds: {TOKEN_LIFE_S}\r\ncontent-length: 0",
            timeout_s,
        )
        if not token or not token.isprintable():
            return Instance()
        body = await _text(
            "GET",
            f"{url}/latest/dynamic/instance-identity/document",
            f"x-aws-ec2-metadata-token: {token}",
            timeout_s,
        )
    except (AnswerError, OSError, ValueError):
        # Not on EC2, a hop limit of 1, or switched off: nothing to say about it.
        return Instance()
    return document_of(body.encode())


def document_of(body: bytes) -> Instance:
    """
    Return what the identity document *body* says; nothing where it is none.
    """
    document = decoded(body, _Document)
    if document is None:
        return Instance()
    return Instance(
        region=document.region, zone=document.availability_zone, instance_id=document.instance_id
    )


async def _text(method: str, url: str, header: str, timeout_s: float) -> str:
    # Link-local: no proxy.
    place = place_of(url)
    head = (
        f"{method} {urlsplit(url).path} HTTP/1.1\r\nhost: {place.header}\r\n"
        f"user-agent: tailrace/{__version__}\r\naccept-encoding: identity\r\n{header}\r\n\r\n"
    )
    context = ssl.create_default_context() if place.scheme == "https" else None  # disk
    connection: HttpConnection | None = None
    try:
        async with asyncio.timeout(timeout_s):
            connection = await connect(place, context)
            response = await connection.stream(method, head.encode(), b"")
            if response.status != 200:
                return ""
            body = await response.read(IMDS_BYTES_MAX)
            return (body or b"").decode("ascii", errors="replace").strip()
    finally:
        if connection is not None:
            connection.close()
