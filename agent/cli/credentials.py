"""
`tailrace credentials`: asks the AWS SDK who we are, in a process of its own.

Reads a `Question` from stdin and writes `Found` or `Failed` to stdout, as JSON.  The agent runs it; an operator may, to
see what the chain finds: `echo '{"settings": {}, "skew_s": 0}' | tailrace credentials`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import msgspec

from agent.core.errors import RetryError
from agent.runtime.aws import Aws
from agent.runtime.aws_credentials import Failed, Found, Question
from agent.runtime.aws_sdk import Chain
from agent.runtime.host import SystemClock

if TYPE_CHECKING:
    import argparse


def main(_args: argparse.Namespace) -> int:
    """
    Run the command; returns its exit code.
    """
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    answer = asyncio.run(answer_to(question))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


async def answer_to(question: Question) -> Found | Failed:
    """
    Ask the chain.
    """
    aws = Aws(clock=SystemClock())
    aws.skew_s = question.skew_s
    try:
        return await Chain(question.settings, aws).find()
    except RetryError as error:
        return Failed(error=str(error), code=error.code, slow=error.slow)
    finally:
        await aws.close()
