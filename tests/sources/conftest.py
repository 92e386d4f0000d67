"""
A pods directory, a container in it, and the settings that follow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.sources.files import FilesSettings
from tests.fakes.kubelet import Container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """
    The pods directory.
    """
    path = tmp_path / "pods"
    path.mkdir()
    return path


@pytest.fixture
def settings(root: Path) -> FilesSettings:
    """
    The source's settings for that directory.
    """
    return FilesSettings(paths=(f"{root}/*/*/*.log",))


@pytest.fixture
def container(root: Path) -> Iterator[Container]:
    """
    One running container.
    """
    running = Container(root, namespace="shop", pod="cart-0", uid=UID, name="app")
    yield running
    running.stop()
