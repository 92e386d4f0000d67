"""
Who we are to AWS: credentials, Region and variant of the endpoints, each looked up when it is first needed.

Where the environment alone says it (keys, Region, no profile and no role to assume), it is read from there.  All else
is the SDK's: a child process asks it (aws_sdk.py), answers in JSON and ends.  Measured: the SDK with what it brings
is 23 of the 46 MB of an agent that waits; a child is half a second of CPU an hour.

Credentials that expire are fetched anew before they do: in their last quarter, at most 15 minutes, while everybody
goes on with the old ones; in their last sixth, at most 10 minutes, nobody goes on with them.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from agent.core.aws import AwsSettings  # noqa: TC001 - msgspec reads the annotation
from agent.core.errors import RetryError
from agent.runtime.aws_signature import Keys
from agent.runtime.host import ask_child

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: A local endpoint has no Region; the signature needs one.
LOCAL_REGION = "us-east-1"
#: Before credentials expire: others are asked for, and from when on nobody goes on with the old ones.  As in the SDK.
RENEW_S, MUST_RENEW_S = 900.0, 600.0
#: After a vain attempt that hurts nobody yet, or one that found the keys that were refused.
AGAIN_S = 60.0
#: A failure is everybody's for so long: each attempt is a child, and each route has a pace of its own.
FAILED_S = 10.0
#: STS and the metadata service have time-outs of their own, of seconds; this is for a child that hangs.
CHILD_TIMEOUT_S = 60.0
_STDERR_BYTES_MAX = 500


class Found(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """
    What the child answers.
    """

    access_key: str
    secret_key: str
    token: str | None
    expires_s: float  # seconds since the epoch; 0: never
    region: str
    fips: bool
    dual_stack: bool

    @property
    def keys(self) -> Keys:
        """
        The credentials as a signature needs them.
        """
        return Keys(self.access_key, self.secret_key, self.token)


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """
    Why there is no answer: a RetryError.
    """

    error: str
    code: str
    slow: bool


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the child is asked.
    """

    settings: AwsSettings
    skew_s: float  # what is to be added to our clock


class Identity:
    """
    The credentials of one identity: the chain's, or those of a role assumed with them.
    """

    def __init__(
        self,
        settings: AwsSettings,
        *,
        now_s: Callable[[], float],
        skew_s: Callable[[], float],
        child: asyncio.Semaphore,
    ) -> None:
        self._settings = settings
        self._now_s = now_s
        self._skew_s = skew_s
        self._child = child
        self._found: Found | None = None
        self._renew_at_s = self._must_renew_at_s = float("inf")
        self._asking: asyncio.Task[Found] | None = None
        #: Why there was no answer, and until when nobody asks again.
        self._failed: tuple[RetryError, float] | None = None
        #: Keys that were refused and have no successor, and until when nobody asks for one.
        self._refused: tuple[Keys, float] | None = None

    async def found(self) -> Found:  # network op
        """
        Return credentials that are valid now, and what goes with them.

        Raises RetryError: slow where somebody has to do something.
        """
        found, now_s = self._found, self._now_s()
        if found is None or now_s >= self._must_renew_at_s:
            return await self._ask()
        if now_s >= self._renew_at_s:
            _ = self._start()  # Meanwhile everybody goes on with the old ones.
        return found

    async def renewed(self, refused: Keys) -> Keys | None:  # network op
        """
        Return other credentials than *refused*, which the service did not accept; None if there are none.
        """
        found, now_s = self._found, self._now_s()
        if found is not None and found.keys != refused:
            return found.keys
        if self._refused is not None and self._refused[0] == refused and now_s < self._refused[1]:
            return None
        keys = (await self._ask()).keys
        if keys != refused:
            return keys
        self._refused = (refused, self._now_s() + AGAIN_S)
        return None

    def close(self) -> None:
        """
        Stop asking.
        """
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> Found:
        """
        Ask, or wait for the answer that somebody else has asked for.
        """
        if self._failed is not None and self._now_s() < self._failed[1]:
            error = self._failed[0]
            raise RetryError(str(error), code=error.code, slow=error.slow)
        return await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[Found]:
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._find())
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, asking: asyncio.Task[Found]) -> None:
        self._asking = self._failed = None
        if asking.cancelled():
            return
        now_s, error = self._now_s(), asking.exception()
        if error is not None:
            self._renew_at_s = now_s + AGAIN_S
            if isinstance(error, RetryError):
                self._failed = (error, now_s + FAILED_S)
            return
        found = self._found = asking.result()
        if found.expires_s:
            life_s = found.expires_s - now_s
            self._renew_at_s = found.expires_s - min(RENEW_S, life_s / 4)
            self._must_renew_at_s = found.expires_s - min(MUST_RENEW_S, life_s / 6)
        else:
            self._renew_at_s = self._must_renew_at_s = float("inf")

    async def _find(self) -> Found:
        found = of_environment(self._settings, os.environ)
        if found is not None:
            return found
        settings = self._settings
        if self._found is not None:
            # It does not change; to look it up anew could only fail.
            settings = replace(settings, region=self._found.region)
        async with self._child:
            return await _ask_child(Question(settings=settings, skew_s=self._skew_s()))


def of_environment(settings: AwsSettings, environ: Mapping[str, str]) -> Found | None:
    """
    Return what the environment alone says; None where the SDK has to be asked.
    """
    if settings.role_arn or any(
        environ.get(name)
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")
    ):
        return None
    access_key = environ.get("AWS_ACCESS_KEY_ID", "")
    secret_key = environ.get("AWS_SECRET_ACCESS_KEY", "")
    region = settings.region or environ.get("AWS_REGION", "")
    region = region or environ.get("AWS_DEFAULT_REGION", "")
    if not region and settings.endpoint_url:
        region = LOCAL_REGION
    config = os.path.expanduser(environ.get("AWS_CONFIG_FILE", "") or "~/.aws/config")
    # It may ask for FIPS or dual-stack endpoints.
    if not (access_key and secret_key and region) or os.path.isfile(config):  # disk
        return None
    return Found(
        access_key=access_key,
        secret_key=secret_key,
        token=environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN") or None,
        expires_s=0.0,
        region=region,
        fips=environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true",
        dual_stack=environ.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true",
    )


async def _ask_child(question: Question) -> Found:
    try:
        code, stdout, stderr = await ask_child(
            "credentials", question=msgspec.json.encode(question), timeout_s=CHILD_TIMEOUT_S
        )
    except TimeoutError as error:
        raise RetryError(
            f"cannot get AWS credentials: no answer from the SDK within {CHILD_TIMEOUT_S:g} s",
            code="timeout",
        ) from error
    except OSError as error:
        # The sinks take an OSError for one of their own.
        raise RetryError(
            f"cannot get AWS credentials: `tailrace credentials` cannot be started: {error}",
            code="child",
            slow=True,
        ) from error
    try:
        answer = msgspec.json.decode(stdout, type=Found | Failed)
    except msgspec.MsgspecError as error:
        # What it wrote may be half an answer, with a secret in it.
        said = stderr[-_STDERR_BYTES_MAX:].decode(errors="replace").strip()
        raise RetryError(
            f"cannot get AWS credentials: `tailrace credentials` ended with {code} and "
            f"{len(stdout)} bytes that are no answer: {said}",
            code="credentials",
            # Killed, for memory perhaps: the next one may live.
            slow=code is None or code >= 0,
        ) from error
    if isinstance(answer, Failed):
        raise RetryError(answer.error, code=answer.code, slow=answer.slow)
    return answer
