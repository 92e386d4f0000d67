"""
What runs beside a measured program: the counting server, and the API server that knows the corpus's pods.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from bench.kube import kube_api
from bench.measure import pinned
from bench.paths import Endpoints
from bench.pods import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "out")
AGENT_CORE, SERVER_CORE = 0, 1
COUNTS_TIMEOUT_S = 60


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """
    Make a directory for one measurement, for the length of the block.
    """
    os.makedirs(OUT_DIRECTORY, exist_ok=True)
    directory = tempfile.mkdtemp(dir=OUT_DIRECTORY)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def program_files(directory: str) -> Iterator[tuple[str, IO[bytes]]]:
    """
    Make a directory for one run of a program, and the file that it logs to.
    """
    made = tempfile.mkdtemp(dir=directory)
    with open(os.path.join(made, "program.log"), "wb") as log:
        yield made, log
    shutil.rmtree(made)


@contextlib.contextmanager
def counting_server(directory: str, *options: str) -> Iterator[Endpoints]:
    """
    Run bench/servers.py beside, for the length of the block.
    """
    command = [sys.executable, "-m", "bench.servers", "--directory", directory, *options]
    with subprocess.Popen(pinned(command, SERVER_CORE), stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            urls = json.loads(server.stdout.readline())
            yield Endpoints(plain=urls["plain"], tls=urls["tls"], authority=urls["ca"])
        finally:
            server.terminate()
            server.communicate()  # Its last counts; without a reader it could not end in order.


@contextlib.contextmanager
def servers(directory: str, tree: str, *options: str, labels: int = LABELS) -> Iterator[Endpoints]:
    """
    Run both servers beside; the API server knows the pods below *tree*.
    """
    with (
        counting_server(directory, *options) as endpoints,
        kube_api(os.path.join(directory, "kube"), tree, core=SERVER_CORE, labels=labels) as access,
    ):
        yield replace(endpoints, kube=access)


def ask(endpoints: Endpoints, target: str) -> dict[str, Any]:
    """
    Ask the counting server: `/counts`, or `/reset`.
    """
    method = "POST" if target == "/reset" else "GET"
    request = urllib.request.Request(endpoints.plain + target, method=method)
    with urllib.request.urlopen(request, timeout=COUNTS_TIMEOUT_S) as answer:
        parsed: dict[str, Any] = json.load(answer)
        return parsed


def ask_bytes(endpoints: Endpoints, target: str) -> bytes:
    """
    Ask the counting server for what is no JSON: `/bodies`.
    """
    with urllib.request.urlopen(endpoints.plain + target, timeout=COUNTS_TIMEOUT_S) as answer:
        content: bytes = answer.read()
        return content


def last_lines(path: str, count: int = 15) -> str:
    """
    Return the end of a program's log.
    """
    with open(path, errors="replace") as lines:
        return "".join(lines.readlines()[-count:])
