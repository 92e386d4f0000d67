"""
`tailrace seal` as the agent runs it: a process, an exit code, a sentence.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.cli import seal, seal_window
from agent.sinks.parquet_manifest import MANIFEST_NAME, SealManifest
from tests.sinks.parquet_kit import START_NS
from tests.sinks.seal_kit import segment, spec_of

if TYPE_CHECKING:
    from pathlib import Path


def test_the_child_is_a_process_of_its_own(tmp_path: Path) -> None:
    """
    Run as the agent runs it, it leaves files, then a manifest, and says nothing.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS] * 5)])
    spec_path = tmp_path / "spec.json"
    spec_path.write_bytes(msgspec.json.encode(spec))
    command = [sys.executable, "-m", "agent", "seal", str(spec_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    encoded = (tmp_path / "sealed" / MANIFEST_NAME).read_bytes()
    manifest = msgspec.json.decode(encoded, type=SealManifest)
    assert manifest.rows == 5
    (item,) = manifest.objects
    assert os.path.getsize(tmp_path / "sealed" / item.key) == item.bytes


def test_the_child_does_without_numpy(tmp_path: Path) -> None:
    """
    It is 12 MiB and 0.2 s of every child, and pyarrow imports it where it is installed.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS] * 5)])
    spec_path = tmp_path / "spec.json"
    spec_path.write_bytes(msgspec.json.encode(spec))
    code = f"""
import sys
from agent.cli.main import main
assert main(["seal", {str(spec_path)!r}]) == 0
assert "pyarrow.parquet" in sys.modules
sys.exit(sys.modules.get("numpy") is not None)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=50)
    assert done.returncode == 0
    assert (tmp_path / "sealed" / MANIFEST_NAME).exists()


def test_what_cannot_be_done_is_an_exit_code_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    No directory: exit 1; a staging format of another version: exit 70.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS])])
    spec_path = tmp_path / "spec.json"
    broken = msgspec.structs.replace(spec, directory=str(tmp_path / "nowhere"))
    spec_path.write_bytes(msgspec.json.encode(broken))
    assert seal.main(argparse.Namespace(spec=str(spec_path))) == 1
    assert "cannot be sealed" in capsys.readouterr().err
    staged = bytearray((tmp_path / "0.staging").read_bytes())
    staged[7] = 9
    (tmp_path / "0.staging").write_bytes(staged)
    spec_path.write_bytes(msgspec.json.encode(spec))
    assert seal.main(argparse.Namespace(spec=str(spec_path))) == 70
    assert "version 9" in capsys.readouterr().err


def test_the_agent_never_imports_pyarrow() -> None:
    """
    The sink, its settings and the table's columns come without it.
    """
    code = (
        "import sys, agent.sinks.parquet, agent.sinks.parquet_settings, agent.cli.ddl;"
        "sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_children_never_work_in_one_directory(tmp_path: Path) -> None:
    """
    The child of an agent that was killed may still run: the next one waits for it.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS])])
    orphan = os.open(spec.directory, os.O_RDONLY)
    fcntl.flock(orphan, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seal_window.seal, spec)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        os.close(orphan)
        assert waiting.result(timeout=20).rows == 1
