"""
A real journal, made by systemd-journal-remote.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

REMOTE = Path("/lib/systemd/systemd-journal-remote")

real = pytest.mark.skipif(
    not (REMOTE.exists() and shutil.which("journalctl")),
    reason="makes a journal with systemd-journal-remote, which is not installed",
)


class Journal:
    """
    A journal in a directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        #: Time of the first entry.
        self.began_us = time.time_ns() // 1000
        self._count = 0
        self._boot = os.urandom(16).hex()

    def write(
        self,
        *messages: str | bytes,
        unit: str = "kubelet.service",
        file: str = "system",
        **more: str | int,
    ) -> None:
        """
        Append an entry for each of *messages*, with the fields *more*, to one of the journal's files.
        """
        text = b""
        for message in messages:
            self._count += 1
            data = message.encode() if isinstance(message, str) else message
            fields = {
                "__REALTIME_TIMESTAMP": self.began_us + self._count,
                "__MONOTONIC_TIMESTAMP": 1_000 + self._count,
                "_BOOT_ID": self._boot,
                "_HOSTNAME": "ip-1",
                "PRIORITY": 6,
                **({"_SYSTEMD_UNIT": unit} if unit else {}),
                **more,
            }
            text += "".join(f"{name}={value}\n" for name, value in fields.items()).encode()
            # The form for bytes of any kind: its length as eight bytes, the smallest first.
            text += b"MESSAGE\n" + len(data).to_bytes(8, "little") + data + b"\n\n"
        path = self.directory / f"{file}.journal"
        subprocess.run(
            [REMOTE, "-o", path, "-"], input=text, check=True, timeout=60, capture_output=True
        )

    def reboot(self) -> None:
        """
        Let what is written from now on be of another boot.
        """
        self._boot = os.urandom(16).hex()

    def vacuum(self, file: str = "*") -> None:
        """
        Delete every entry, or those of a file.
        """
        for path in self.directory.glob(f"{file}.journal"):
            path.unlink()
