"""
Who we are to AWS: the SDK's credentials chain, without the SDK's clients.

aiobotocore finds credentials (environment, web identity, profile, process, ECS, EKS Pod Identity, IMDS), keeps
them fresh (15 minutes before they expire at the earliest, 10 at the latest) and re-reads token files.  Where a provider
calls STS, it gets the small client below: a stock STS client loads 12 MB of models for a request of one line.

Nothing is looked up before the first request.  Failures are RetryError(slow=True) that say what to do.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Self
from xml.etree import ElementTree as ET

from agent.core.errors import RetryError, shown
from agent.runtime.aws_signature import Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from agent.core.aws import AwsSettings

    #: (region or None, credentials or None to send unsigned, parameters) → body of the answer
    StsCall = Callable[[str | None, "Keys | None", Mapping[str, str]], Awaitable[bytes]]

STS_VERSION = "2011-06-15"
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


def create_session(call: StsCall) -> Any:
    """
    Return an aiobotocore session whose STS clients are small.
    """
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED

    class Session(AioSession):  # type: ignore[misc]
        def create_client(
            self, service_name: str, region_name: str | None = None, **rest: Any
        ) -> Any:
            if service_name != "sts":
                return super().create_client(service_name, region_name=region_name, **rest)
            config = rest.get("config")
            unsigned = config is not None and config.signature_version is UNSIGNED
            access_key, secret_key = (
                rest.get("aws_access_key_id"),
                rest.get("aws_secret_access_key"),
            )
            keys = (
                Keys(access_key, secret_key, rest.get("aws_session_token"))
                if access_key and secret_key
                else None
            )
            assert keys is not None or unsigned
            return StsClient(call, region_name, None if unsigned else keys)

    return Session()


class Identity:
    """
    The credentials of one identity: the chain's, or those of a role assumed with them.
    """

    def __init__(self, settings: AwsSettings, call: StsCall) -> None:
        self._settings = settings
        self._call = call
        self._lock = asyncio.Lock()
        self._sdk: Any = None
        self._source: Any = None

    def sdk(self) -> Any:
        """
        Return the SDK session, made on first use.
        """
        if self._sdk is None:
            self._sdk = create_session(self._call)
        return self._sdk

    async def keys(self) -> Keys:  # network op
        """
        Return credentials that are valid now.

        Raises RetryError(slow=True) where there are none.
        """
        try:
            async with self._lock:
                if self._source is None:
                    self._source = await self._load()
            frozen = await self._source.get_frozen_credentials()
        except RetryError as error:
            # A slow error of STS is a matter of permissions; the others are the network's.
            code = "credentials" if error.slow else error.code
            raise RetryError(
                f"cannot get AWS credentials: {error}", code=code, slow=error.slow
            ) from error
        except Exception as error:
            # botocore has some twenty classes here, most without a common base; all mean the same to us.
            raise RetryError(
                f"cannot get AWS credentials: {error}", code="credentials", slow=True
            ) from error
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    async def renewed(self, refused: Keys) -> Keys | None:
        """
        Return other credentials than *refused*, which the service did not accept; None if there are none.
        """
        keys = await self.keys()
        if keys != refused:
            return keys
        # The chain starts again, and re-reads environment, files and endpoints.
        self._source = self._sdk = None
        keys = await self.keys()
        return keys if keys != refused else None

    async def _load(self) -> Any:
        session = self.sdk()
        # Not session.get_credentials(), which keeps what it once found: a replaced key must not stick.
        source = await session.get_component("credential_provider").load_credentials()
        if source is None:
            raise RetryError(_LACKING, code="credentials", slow=True)
        if not self._settings.role_arn:
            return source
        from aiobotocore.credentials import (
            AioAssumeRoleCredentialFetcher,
            AioDeferredRefreshableCredentials,
        )

        extra = {"RoleSessionName": self._settings.role_session_name}
        if self._settings.external_id:
            extra["ExternalId"] = self._settings.external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            client_creator=session.create_client,
            source_credentials=source,
            role_arn=self._settings.role_arn,
            extra_args=extra,
            cache={},
        )
        return AioDeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )


async def find_region(settings: AwsSettings, identity: Identity) -> str:
    """
    Return the Region: configured, from the environment or profile, from the instance.
    """
    region = (
        settings.region
        or os.environ.get("AWS_REGION", "")
        or identity.sdk().get_config_variable("region")
        or ""
    )
    if not region and settings.endpoint_url:
        # A local endpoint has no Region; the signature needs one.
        region = "us-east-1"
    if not region:
        from aiobotocore.utils import AioInstanceMetadataRegionFetcher

        try:
            region = (
                await AioInstanceMetadataRegionFetcher(timeout=1, num_attempts=1).retrieve_region()
                or ""
            )
        except Exception:
            # Not on EC2, or the metadata service is closed to pods: the error below says what to do.
            region = ""
    if not region:
        raise RetryError(
            "no AWS Region: set `region` or the variable AWS_REGION", code="region", slow=True
        )
    return str(region)
