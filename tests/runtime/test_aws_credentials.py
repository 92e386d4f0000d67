"""
Credentials: what the environment alone says, and what a child is asked for.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.core.aws import AwsSettings
from agent.core.errors import RetryError
from agent.runtime import aws_credentials
from agent.runtime.aws_credentials import Found, Identity, Question, of_environment
from agent.runtime.aws_signature import Keys

HOUR_S = 3600.0
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}
ALONE = {**KEYS, "AWS_REGION": "eu-central-1", "AWS_CONFIG_FILE": "/nonexistent"}


def settings(**fields: Any) -> AwsSettings:
    return AwsSettings(**fields)


def found(number: int = 1, *, expires_s: float = 0.0) -> Found:
    return Found(
        access_key=f"ASIA{number}",
        secret_key="secret",
        token=None,
        expires_s=expires_s,
        region="eu-central-1",
        fips=False,
        dual_stack=False,
    )


def test_the_environment_alone_says_it() -> None:
    """
    Then there is no child; an endpoint of our own needs no Region.
    """
    answer = of_environment(
        settings(), {**ALONE, "AWS_SESSION_TOKEN": "t", "AWS_USE_FIPS_ENDPOINT": "TRUE"}
    )
    assert answer is not None
    assert answer.keys == Keys("AKIA", "secret", "t")
    assert (answer.region, answer.fips, answer.dual_stack) == ("eu-central-1", True, False)
    without = {name: value for name, value in ALONE.items() if name != "AWS_REGION"}
    local = of_environment(settings(endpoint_url="http://127.0.0.1:1"), without)
    assert local is not None
    assert local.region == "us-east-1"


@pytest.mark.parametrize(
    "change",
    [
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_REGION": ""},
        {"AWS_PROFILE": "other"},
        {"AWS_CREDENTIAL_EXPIRATION": "2999-01-01T00:00:00Z"},
        {"AWS_CONFIG_FILE": __file__},
    ],
)
def test_the_sdk_is_asked_where_the_environment_does_not_say_all(change: dict[str, str]) -> None:
    """
    A profile, a configuration file (it may ask for FIPS endpoints), or no Region.
    """
    assert of_environment(settings(), {**ALONE, **change}) is None
    assert of_environment(settings(role_arn="arn:aws:iam::1:role/r"), ALONE) is None


class Asked:
    """
    An identity whose child is a script, and whose clock is set by hand.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.answers: list[Found | RetryError] = []
        self.asked = self.running = self.running_max = 0
        self.child = asyncio.Semaphore(1)
        self.questions: list[Question] = []
        monkeypatch.setattr(aws_credentials, "of_environment", lambda *_: None)
        monkeypatch.setattr(aws_credentials, "_ask_child", self._answer)
        self.identity = self.another()

    def another(self, **fields: Any) -> Identity:
        return Identity(
            settings(**fields),
            now_s=lambda: self.now_s,
            skew_s=lambda: 0.0,
            child=self.child,
        )

    async def _answer(self, question: Question) -> Found:
        self.questions.append(question)
        self.asked += 1
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        answer = self.answers.pop(0)
        if isinstance(answer, RetryError):
            raise answer
        return answer

    async def key(self) -> str:
        return (await self.identity.found()).access_key


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def test_whoever_comes_meanwhile_waits_for_the_same_answer(asked: Asked) -> None:
    """
    Ten routes that begin at once are one child, also where it finds nothing, and whoever comes soon after.
    """
    asked.answers = [RetryError("none", code="credentials", slow=True), found(2)]
    for _ in range(2):
        failed = await asyncio.gather(*(asked.key() for _ in range(10)), return_exceptions=True)
        assert {(str(error), getattr(error, "slow", None)) for error in failed} == {("none", True)}
    assert asked.asked == 1
    asked.now_s += aws_credentials.FAILED_S
    assert set(await asyncio.gather(*(asked.key() for _ in range(10)))) == {"ASIA2"}
    assert asked.asked == 2


async def test_many_roles_are_asked_for_one_after_the_other(asked: Asked) -> None:
    """
    Each child has 45 MB.
    """
    asked.answers = [found(number) for number in range(5)]
    identities = [asked.another(role_arn=f"r{number}") for number in range(5)]
    await asyncio.gather(*(identity.found() for identity in identities))
    assert (asked.asked, asked.running_max) == (5, 1)


async def test_one_that_is_cancelled_leaves_the_answer_to_the_others(asked: Asked) -> None:
    asked.answers = [found()]
    first = asyncio.ensure_future(asked.key())
    second = asyncio.ensure_future(asked.key())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "ASIA1"


async def test_expiring_credentials_are_renewed_while_they_are_good(asked: Asked) -> None:
    """
    In their last quarter of an hour, and nobody waits for it; where that fails, again a minute later.
    """
    end_s = asked.now_s + 6 * HOUR_S
    gone = RetryError("away", code="credentials", slow=True)
    asked.answers = [found(1, expires_s=end_s), gone, gone, gone]
    assert await asked.key() == "ASIA1"
    for left_s, count in ((901, 1), (900, 2), (870, 2), (840, 3)):
        asked.now_s = end_s - left_s
        assert await asked.key() == "ASIA1"
        await asyncio.sleep(0.01)
        assert asked.asked == count
    asked.now_s = end_s - 600
    with pytest.raises(RetryError, match="away"):
        await asked.key()
    asked.answers = [
        found(2, expires_s=end_s + 6 * HOUR_S),
        found(3, expires_s=end_s + 12 * HOUR_S),
    ]
    asked.now_s += aws_credentials.FAILED_S
    assert await asked.key() == "ASIA2"
    asked.now_s = end_s + 6 * HOUR_S - 900
    assert await asked.key() == "ASIA2"
    await asyncio.sleep(0.01)
    assert await asked.key() == "ASIA3"
    # The Region is not looked up again: that could only fail.
    assert [question.settings.region for question in asked.questions[1:]] == ["eu-central-1"] * 5


async def test_refused_credentials_are_looked_up_once_a_minute(asked: Asked) -> None:
    """
    Where the chain has no others, a refused request does not start a child each time; new ones are another matter.
    """
    asked.answers = [found(1), found(1), found(2), found(3)]
    assert await asked.key() == "ASIA1"
    refused = found(1).keys
    assert await asked.identity.renewed(refused) is None
    assert await asked.identity.renewed(refused) is None
    assert asked.asked == 2
    asked.now_s += aws_credentials.AGAIN_S
    assert await asked.identity.renewed(refused) == found(2).keys
    # Somebody else's request was refused before that: there are others already.
    assert await asked.identity.renewed(refused) == found(2).keys
    assert asked.asked == 3
    assert await asked.identity.renewed(found(2).keys) == found(3).keys


async def test_close_ends_the_question(asked: Asked) -> None:
    asked.answers = [found(1)]
    waiting = asyncio.ensure_future(asked.key())
    await asyncio.sleep(0)
    asked.identity.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def plain(**fields: Any) -> Identity:
    child = asyncio.Semaphore(1)
    return Identity(settings(**fields), now_s=lambda: 0.0, skew_s=lambda: 3.5, child=child)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE, errno.ENOMEM])
async def test_a_child_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """
    Python was replaced under the agent, or there are no descriptors left: a matter of waiting, as all of AWS.
    """

    async def start_child(*_: str, **__: bool) -> Any:
        raise OSError(number, "no")

    monkeypatch.setattr("agent.runtime.host.start_child", start_child)
    with pytest.raises(RetryError, match="cannot be started") as caught:
        await plain(role_arn="r").found()
    assert (caught.value.code, caught.value.slow) == ("child", True)


#: With a credential_process that hangs.
HANGS = """
import os, subprocess, sys, time
tool = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(os.path.join(os.environ["PYTHONPATH"], "tool"), "w").write(str(tool.pid))
tool.wait()
"""
CHILDREN = {
    "ends": ("import sys; sys.exit('no such module')", "no such module", "credentials"),
    "garbage": ("print('Traceback')", "10 bytes that are no answer", "credentials"),
    "hangs": (HANGS, "within 2 s", "timeout"),
}


@pytest.mark.parametrize("case", CHILDREN)
async def test_a_child_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    """
    The message says what it said, and nothing is left running.
    """
    program, text, code = CHILDREN[case]
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__main__.py").write_text(program)
    monkeypatch.setattr("agent.runtime.host.CODE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(aws_credentials, "CHILD_TIMEOUT_S", 2.0 if case == "hangs" else 20.0)
    with pytest.raises(RetryError, match=text) as caught:
        await plain(role_arn="r").found()
    assert caught.value.code == code
    if case == "hangs":
        tool = int((tmp_path / "tool").read_text())
        async with asyncio.timeout(20):
            while is_running(tool):
                await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_secrets_are_neither_in_arguments_nor_in_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A proxy's password goes by stdin: arguments can be read by everybody; half an answer with a key in it is not shown.
    """
    seen: list[tuple[str, ...]] = []

    async def start_child(*arguments: str, answers: bool) -> asyncio.subprocess.Process:
        assert answers
        seen.append(arguments)
        script = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdin=pipe, stdout=pipe, stderr=pipe
        )

    monkeypatch.setattr("agent.runtime.host.start_child", start_child)
    told = {"role_arn": "r", "proxy": "http://me:pass@proxy"}
    question = Question(settings=settings(**told), skew_s=3.5)
    identity = plain(**told)
    with pytest.raises(RetryError, match=f"{len(msgspec.json.encode(question))} bytes") as caught:
        await identity.found()
    assert seen == [("credentials",)]
    assert "pass" not in str(caught.value)
    assert msgspec.json.decode(msgspec.json.encode(question), type=Question) == question
