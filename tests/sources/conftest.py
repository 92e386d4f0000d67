"""
A pods directory, a container in it, and the settings that follow it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.sources.settings import FilesSettings
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


@pytest.fixture
def raw_settings(tmp_path: Path) -> FilesSettings:
    """
    Plain application logs.
    """
    return FilesSettings(paths=(f"{tmp_path}/app/*.log",))


@pytest.fixture
def app_log(tmp_path: Path) -> Path:
    """
    The path of a plain log.
    """
    (tmp_path / "app").mkdir()
    return tmp_path / "app" / "app.log"


def append(path: Path, data: bytes) -> None:
    """
    Append to a file that nobody keeps open.
    """
    with path.open("ab") as file:
        file.write(data)
