"""
How to reach AWS: the settings that every AWS sink shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsSettings:
    """
    Region, endpoint and identity.  Credentials come from the SDK's chain (environment, web identity, ECS, EKS, IMDS).
    """

    region: Annotated[str, Meta(description="AWS Region; empty: from the environment.")] = ""
    endpoint_url: Annotated[
        str, Meta(description="Endpoint instead of AWS's own, e.g. http://127.0.0.1:5000.")
    ] = ""
    fips: Annotated[bool, Meta(description="Use the FIPS endpoint.")] = False
    dual_stack: Annotated[bool, Meta(description="Use the dual-stack endpoint (IPv6).")] = False
    role_arn: Annotated[
        str, Meta(description="Role to assume with the credentials of the chain.")
    ] = ""
    external_id: Annotated[str, Meta(description="External id for role_arn.")] = ""
    role_session_name: Annotated[str, Meta(description="Session name for role_arn.")] = "tailrace"
    ca_bundle: Annotated[
        str,
        Meta(
            description="PEM file of certificate authorities; empty: the system's, or AWS_CA_BUNDLE."
        ),
    ] = ""
    proxy: Annotated[
        str, Meta(description="Proxy URL; empty: HTTPS_PROXY / NO_PROXY from the environment.")
    ] = ""
