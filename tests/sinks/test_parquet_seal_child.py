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
from pathlib import Path

import msgspec
import pytest

from agent.cli import seal, seal_window
from agent.core.checkpoint import Window
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.parquet_child import SealChild
from agent.sinks.parquet_manifest import MANIFEST_NAME, SealManifest, read_manifest
from agent.sinks.parquet_recovery import StagingPaths
from agent.sinks.parquet_settings import ParquetSettings
from tests.sinks.parquet_kit import START_NS, TestHost
from tests.sinks.seal_kit import segment, spec_of


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
    assert seal.main(argparse.Namespace(specs=[str(spec_path)])) == 1
    assert "cannot be sealed" in capsys.readouterr().err
    staged = bytearray((tmp_path / "0.staging").read_bytes())
    staged[7] = 9
    (tmp_path / "0.staging").write_bytes(staged)
    spec_path.write_bytes(msgspec.json.encode(spec))
    assert seal.main(argparse.Namespace(specs=[str(spec_path)])) == 70
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


def test_a_child_that_comes_late_leaves_what_is_made(tmp_path: Path) -> None:
    """
    Its agent was killed, the next one's child was faster: the files are on their way to S3 by now.
    """
    spec = spec_of(tmp_path, [segment(pod="p", file=1, start=0, times=[START_NS] * 5)])
    made = seal_window.seal(spec)
    (path,) = (Path(spec.directory, item.key) for item in made.objects)
    inode = path.stat().st_ino
    assert seal_window.seal(spec) == made
    assert path.stat().st_ino == inode
    path.unlink()  # Uploaded, and recorded.
    assert seal_window.seal(spec) == made
    assert not path.exists()
    # A manifest of another part of staging is not about this window.
    manifest = Path(spec.directory, MANIFEST_NAME)
    other = msgspec.structs.replace(made, staging_length=made.staging_length - 1)
    manifest.write_bytes(msgspec.json.encode(other))
    assert seal_window.seal(spec) == made
    assert path.exists()


def test_several_windows_are_sealed_by_one_child(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    One after the other; one that cannot be sealed is named, and those before it are.
    """
    paths, specs = [], []
    for number in range(3):
        place = tmp_path / str(number)
        place.mkdir()
        rows = segment(pod="p", file=1, start=0, times=[START_NS] * (number + 1))
        specs.append(spec_of(place, [rows], window=number))
        paths.append(str(place / "spec.json"))
        Path(paths[-1]).write_bytes(msgspec.json.encode(specs[-1]))
    os.rename(specs[1].directory, f"{specs[1].directory}-away")
    assert seal.main(argparse.Namespace(specs=paths)) == 1
    assert f"the window of {paths[1]} cannot be sealed" in capsys.readouterr().err
    assert Path(specs[0].directory, MANIFEST_NAME).exists()
    assert not Path(specs[2].directory, MANIFEST_NAME).exists()
    os.rename(f"{specs[1].directory}-away", specs[1].directory)
    assert seal.main(argparse.Namespace(specs=paths[1:])) == 0
    manifests = [read_manifest(OsStateDisk(), spec.directory) for spec in specs]
    assert [manifest and manifest.rows for manifest in manifests] == [1, 2, 3]


def test_how_many_windows_one_child_takes(tmp_path: Path) -> None:
    """
    As many as have 64 MiB of staging, or a quarter of what may be staged; always the first one.
    """

    def takes(staging_bytes_max: int, *mebibytes: int) -> int:
        settings = ParquetSettings(url="file:///x", staging_bytes_max=staging_bytes_max << 20)
        paths = StagingPaths(str(tmp_path), "archive")
        child = SealChild(settings, paths=paths, node="n", host=TestHost())  # type: ignore[arg-type]
        return child.takes([Window("archive", 0, size << 20, 0) for size in mebibytes])

    assert [takes(1024, *sizes) for sizes in ([65, 1], [40, 30], [64, 1], [32, 32, 1])] == [
        1,
        1,
        1,
        2,
    ]
    assert takes(16, 2, 2, 2) == 2
    assert takes(1024, *[0] * 100) == 64
