"""
Staged windows to seal, made of rows that say where they come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent._fastparse import Columns
from agent.core.batch import Resource, Segment
from agent.core.budget import Budget
from agent.core.cursor import cursor_at
from agent.runtime.state_disk import OsStateDisk
from agent.sinks.parquet_manifest import SealSpec
from agent.sinks.parquet_staging import StagingFile
from agent.sinks.staging import encode_frame
from tests.fakes.metadata import metadata

if TYPE_CHECKING:
    from pathlib import Path

SHARE = Budget(1 << 20, ("r",)).shares["r"]


def segment(
    *,
    pod: str,
    file: int,
    start: int,
    times: list[int],
    flags: list[int] | None = None,
    cluster: str = "prod",
    earlier: tuple[int, int, int] | None = None,
    earlier_file_ids: dict[int, str] | None = None,
    region: str = "",
    **known: Any,
) -> Segment:
    """
    Return a segment whose rows say where they come from; *known* is said by the API server.
    """
    data, rows = b"", []
    for index, time_ns in enumerate(times):
        message = f"{pod} {file} {start + index}".encode()
        flag = flags[index] if flags else 1
        rows.append((time_ns, start + index, 0, 0, len(data), len(message), flag))
        data += message
    columns = Columns.build(data, rows) if earlier is None else Columns.build(data, rows, earlier)
    return Segment(
        log=f"/l/{pod}/{file}.log",
        generation=0,
        file_id=f"{file:032x}",
        start=start,
        stop=start + len(times),
        resource=Resource(
            path=f"/l/{pod}/{file}.log",
            cluster=cluster,
            node="n",
            namespace="shop",
            pod=pod,
            container="c",
            region=region,
            metadata=metadata(labels=(("app", pod),), **known) if pod else None,
        ),
        columns=columns,
        cursor_after=cursor_at(0, 0),
        read_ns=0,
        charge=SHARE.take(0),  # type: ignore[arg-type]
        earlier_file_ids=earlier_file_ids or {},
        rows=len(times),
    )


def spec_of(tmp_path: Path, *frames: list[Segment], **changes: Any) -> SealSpec:
    """
    Stage *frames* and return the order to seal them.
    """
    path = tmp_path / "0.staging"
    file = StagingFile(str(path), disk=OsStateDisk(), window=0, length=0, created_ns=1)
    for frame in frames:
        file.append(encode_frame(frame).encoded)
    file.sync()
    file.close()
    directory = tmp_path / "sealed"
    directory.mkdir(exist_ok=True)
    spec = SealSpec(
        route="archive",
        node="n",
        window=0,
        staging_path=str(path),
        staging_length=file.length,
        directory=str(directory),
        compression_level=3,
        row_group_rows_max=1000,
        row_group_bytes_max=1 << 20,
        pending_bytes_max=2 << 20,
    )
    return msgspec.structs.replace(spec, **changes)
