"""
A pool of connections, and certificates for servers that it connects to.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from agent.runtime.aws_http import Http
from tests.fakes.kube_certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def http(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Http]:
    """
    Return a pool that no proxy of the environment is in the way of.
    """
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = Http()
    yield made
    await made.close()


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """
    Return what a server needs, and the path of its authority's certificate.
    """
    authority = Authority(tmp_path)
    pair = authority.issue("server", "127.0.0.1", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    return context, str(authority.path)
