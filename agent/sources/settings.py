"""
Settings of the files source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """
    Which log files to follow, and how.
    """

    type: Literal["files"] = "files"
    paths: Annotated[
        tuple[str, ...],
        Meta(
            description="Globs of live files, absolute; `**` matches any directories. "
            "Rotated files belong to their live one."
        ),
    ] = ("/var/log/pods/*/*/*.log",)
    rotated: Annotated[
        bool,
        Meta(
            description="Rotated files belong to the Log of their live one; "
            "false: every file that a glob matches is a Log of its own."
        ),
    ] = True
    exclude: Annotated[tuple[str, ...], Meta(description="Globs of files not to follow.")] = ()
    format: Annotated[
        Literal["auto", "cri", "docker", "raw"],
        Meta(description="Format of the lines; auto decides per file by its path and first line."),
    ] = "auto"
    line_bytes_max: Annotated[
        int,
        Meta(description="A longer line is cut here, marked and counted.", ge=1024, le=64 << 20),
    ] = 1 << 20
    start: Annotated[
        Literal["beginning", "end"],
        Meta(
            description="Where to begin in files that exist when a route starts for the first "
            "time. Later ones are read from their beginning."
        ),
    ] = "beginning"
    ignore_older_s: Annotated[
        float,
        Meta(
            description="At first sight skip what is in files not modified for longer; Logs with "
            "a cursor always resume. 0: off.",
            ge=0,
        ),
    ] = 0
    piece_timeout_s: Annotated[
        float,
        Meta(description="A partial row whose end does not come is released after this.", gt=0),
    ] = 60.0
    poll_interval_s: Annotated[
        float, Meta(description="Tick on which active files are looked at.", gt=0)
    ] = 0.2
    idle_after_s: Annotated[
        float,
        Meta(description="A quiet file leaves the tick after this and gets a watch.", gt=0),
    ] = 10.0
    rescan_interval_s: Annotated[
        float, Meta(description="Rescan of directories that changed.", gt=0)
    ] = 5.0
    rescan_full_interval_s: Annotated[
        float, Meta(description="Rescan of all directories.", gt=0)
    ] = 60.0
    rotate_grace_s: Annotated[
        float,
        Meta(
            description="Quiet time after which a renamed or deleted file counts as finished, and "
            "for which a copy of a truncated one is waited for.",
            ge=0,
        ),
    ] = 5.0
    chunk_bytes: Annotated[int, Meta(description="Bytes read at once.", ge=4096, le=16 << 20)] = (
        256 << 10
    )
    open_files_max: Annotated[
        int,
        Meta(
            description="Descriptors held; past it, files that are read to their end are closed, "
            "and opened again when they grow.",
            ge=8,
        ),
    ] = 8192
