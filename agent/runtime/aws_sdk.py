"""
What the SDK knows of us: the child that `tailrace run` asks for credentials (`tailrace credentials`).

aiobotocore finds credentials (environment, web identity, profile, process, SSO, ECS, EKS Pod Identity, IMDS) and reads
its configuration.  Where a provider calls STS, it gets the small client below: a stock STS client loads 12 MB of models
for a request of one line.

Only the child imports this module: the SDK costs 23 MB with what it brings, for ever, in a process that needs it
once an hour.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioDeferredRefreshableCredentials,
)
from aiobotocore.session import AioSession
from aiobotocore.utils import AioInstanceMetadataRegionFetcher
from botocore import UNSIGNED

from agent.core.errors import RetryError, shown
from agent.runtime.aws import CODES_SKEW, Aws, request_headers
from agent.runtime.aws_credentials import LOCAL_REGION, Found
from agent.runtime.aws_endpoints import endpoint_for, request_url
from agent.runtime.aws_http import where
from agent.runtime.aws_signature import Keys, Signer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from agent.core.aws import AwsSettings

    #: (region or None, credentials or None to send unsigned, parameters) → body of the answer
    StsCall = Callable[[str | None, "Keys | None", Mapping[str, str]], Awaitable[bytes]]

STS_VERSION = "2011-06-15"
STS_TIMEOUT_S = 15.0
ERROR_CHARACTERS_MAX = 500
_LACKING = (
    "no AWS credentials found; give the pod an IAM role (EKS Pod Identity or IRSA), the task or instance a role, "
    "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


class StsClient:
    """
    The two operations of STS that credential providers call, with our own signatures.
    """

    def __init__(self, call: StsCall, region: str | None, keys: Keys | None) -> None:
        self._call = call
        self._region = region
        self._keys = keys

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    async def assume_role(self, **parameters: Any) -> dict[str, Any]:
        """
        AssumeRole with the credentials of the client.
        """
        return await self._assume("AssumeRole", parameters)

    async def assume_role_with_web_identity(self, **parameters: Any) -> dict[str, Any]:
        """
        AssumeRoleWithWebIdentity, which is not signed.
        """
        return await self._assume("AssumeRoleWithWebIdentity", parameters)

    async def _assume(self, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        query = {"Action": action, "Version": STS_VERSION}
        query |= {name: str(value) for name, value in parameters.items()}
        body = await self._call(self._region, self._keys, query)  # network op
        return parse_assumed(body)


def parse_assumed(body: bytes) -> dict[str, Any]:
    """
    Return the answer of an AssumeRole operation as botocore's fetchers read it.
    """
    try:
        # The answer comes from STS over TLS; expat refuses to expand entities without end.
        root = ET.fromstring(body)  # noqa: S314
    except ET.ParseError as error:
        raise RetryError(
            f"STS answered with something that is not XML: {shown(body)}", code="sts"
        ) from error
    found = {element.tag.rpartition("}")[2]: element.text or "" for element in root.iter()}
    try:
        names = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        credentials = {name: found[name] for name in names}
    except KeyError as error:
        raise RetryError(
            f"STS answered without {error.args[0]}: {shown(body)}", code="sts"
        ) from error
    return {"Credentials": credentials, "AssumedRoleUser": {"Arn": found.get("Arn", "")}}


class Session(AioSession):  # type: ignore[misc]
    """
    An SDK session whose STS clients are small.
    """

    def __init__(self, call: StsCall) -> None:
        super().__init__()
        self._call = call

    def create_client(self, service_name: str, region_name: str | None = None, **rest: Any) -> Any:
        """
        Return a client of the SDK, or the small one.
        """
        if service_name != "sts":
            return super().create_client(service_name, region_name=region_name, **rest)
        config = rest.get("config")
        unsigned = config is not None and config.signature_version is UNSIGNED
        access_key, secret_key = rest.get("aws_access_key_id"), rest.get("aws_secret_access_key")
        keys = (
            Keys(access_key, secret_key, rest.get("aws_session_token"))
            if access_key and secret_key
            else None
        )
        assert keys is not None or unsigned
        return StsClient(self._call, region_name, None if unsigned else keys)


class Chain:
    """
    The SDK's chain of credential providers, for one way to reach AWS.
    """

    def __init__(self, settings: AwsSettings, aws: Aws) -> None:
        self._settings = settings
        self._aws = aws
        self._session = Session(self._call_sts)

    async def find(self) -> Found:  # network op
        """
        Return credentials that are valid now, and what the SDK's configuration says.

        Raises RetryError.
        """
        try:
            region = await self._region()
            source = await self._source()
            frozen = await source.get_frozen_credentials()
        except RetryError as error:
            if error.code == "region":
                raise
            # A slow error of STS is a matter of permissions; the others are the network's.
            code = "credentials" if error.slow else error.code
            raise RetryError(
                f"cannot get AWS credentials: {error}", code=code, slow=error.slow
            ) from error
        except Exception as error:
            # botocore has some twenty classes here, most without a common base; all mean the same to us.
            # One brings along all that a credential_process said.
            text = f"cannot get AWS credentials: {str(error)[:ERROR_CHARACTERS_MAX]}"
            raise RetryError(text, code="credentials", slow=True) from error
        # The SDK keeps it to itself; those that never expire have none.
        expires = getattr(source, "_expiry_time", None)
        return Found(
            access_key=frozen.access_key,
            secret_key=frozen.secret_key,
            token=frozen.token,
            expires_s=expires.timestamp() if expires is not None else 0.0,
            region=region,
            fips=bool(self._session.get_config_variable("use_fips_endpoint")),
            dual_stack=bool(self._session.get_config_variable("use_dualstack_endpoint")),
        )

    async def _source(self) -> Any:
        session, settings = self._session, self._settings
        source = await session.get_component("credential_provider").load_credentials()
        if source is None:
            raise RetryError(_LACKING, code="credentials", slow=True)
        if not settings.role_arn:
            return source
        extra = {"RoleSessionName": settings.role_session_name}
        if settings.external_id:
            extra["ExternalId"] = settings.external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=session.create_client,
            source_credentials=source,
            role_arn=settings.role_arn,
            extra_args=extra,
            cache={},
        )
        return AioDeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )

    async def _region(self) -> str:
        """
        Return the Region: configured, from the environment or profile, from the instance.
        """
        region = (
            self._settings.region
            or os.environ.get("AWS_REGION", "")
            or self._session.get_config_variable("region")
            or ""
        )
        if not region and self._settings.endpoint_url:
            region = LOCAL_REGION
        if not region:
            fetcher = AioInstanceMetadataRegionFetcher(timeout=1, num_attempts=1)
            try:
                region = await fetcher.retrieve_region() or ""
            except Exception:
                # Not on EC2, or the metadata service is closed to pods: the error below says what to do.
                region = ""
        if not region:
            raise RetryError(
                "no AWS Region: set `region` or the variable AWS_REGION", code="region", slow=True
            )
        return str(region)

    async def _call_sts(
        self, region: str | None, keys: Keys | None, query: Mapping[str, str]
    ) -> bytes:
        aws, settings = self._aws, self._settings
        region = region or await self._region()
        custom = os.environ.get("AWS_ENDPOINT_URL_STS") or os.environ.get("AWS_ENDPOINT_URL") or ""
        endpoint = endpoint_for(
            "sts", region, endpoint_url=custom, fips=settings.fips, dual_stack=settings.dual_stack
        )
        url = request_url(endpoint, "sts", "/")
        body = urlencode(query).encode()
        for _ in range(2):
            headers = request_headers(
                url, {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
            )
            if keys is not None:
                headers["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
                headers = Signer("sts", region).signed(
                    keys, method="POST", url=url, headers=headers, at_s=aws.now_s()
                )
            response = await aws.http.send(
                "POST", url, headers=headers, body=body, settings=settings, timeout_s=STS_TIMEOUT_S
            )
            code = response.error_code()
            if response.status == 200 or code not in CODES_SKEW or not aws.correct_skew(response):
                break
        if response.status != 200:
            detail = response.body[:300].decode(errors="replace")
            raise RetryError(
                f"{where(url)}: {query['Action']} of {query.get('RoleArn')} answered "
                f"{response.status} {code}: {detail}; "
                "check the role's trust policy (and external_id)",
                code=code or str(response.status),
                slow=True,
            )
        return response.body
