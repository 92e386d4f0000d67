"""
The checkpoint database: its schema and version, row by row.

`<state_dir>/tailrace.db` is one SQLite database in WAL mode.  It is written by one agent (lock.py) and
may be read by any number of `tailrace status` meanwhile.

**meta**: one row per key.

| column | example | meaning |
|---|---|---|
| key | `format_version` | `format_version`, `reader_version_min`, `created_ns`, `written_by`, and those below |
| value | `2` | integer or text |

`commits` counts them.  `rebuild` stands there while staging may know of more than the database and has not been read;
`lost` says that a database before this one was lost, `open` that it was not closed: then there must be a -wal.

A program can read a database whose `reader_version_min` is not above the format that it knows: migrations
only add (columns with defaults, tables), so the version before can still read what this one wrote.

**routes**: one row per route name that an agent ever ran with.

| column | example | meaning |
|---|---|---|
| id | `1` | what the other tables refer to; so a rename is one row |
| name | `cloudwatch` | from the configuration |
| sink_identity | `cloudwatch:eu-west-1:/apps` | where the cursors' rows went; empty: adopt that of the next start |
| first_seen_ns, last_seen_ns | `1795428000000000000` | first and last start with this route |
| committed_ns | `1795428060000000000` | last commit; NULL: none ever, the route's first start is still to come |
| removed_ns | NULL | first start without this route; 7 days later its rows are deleted |
| boot_id | `5c3f…` | boot of the machine in which it last committed |

**generations**: the identity of one file of a Log's chain (core/checkpoint.py, GenerationRow).

| column | example | meaning |
|---|---|---|
| log, number | `/var/log/pods/…/0.log`, `3` | the Log and the place in its chain |
| head, head_length | 16 bytes, `187` | blake2b-128 of the first line, and the length hashed |
| ordinal | `0` | earlier generations with the same head |
| file_id | `9f86d081884c7d65…` | 32 hex digits |
| device, inode, name, size | `2049`, `131`, `0.log.20261122-101500`, `10485760` | hints, when last seen |

**tails** (since format 2): how a file goes on whose first line may be that of others, too (core/identity.py).  A table
of its own, because the version before writes all columns of generations by position.

| column | example | meaning |
|---|---|---|
| log, number, file_id | as in generations | a row counts only where all three agree |
| offset, length, digest | `8192`, `1024`, 16 bytes | blake2b-128 of the *length* bytes before *offset* |

**cursors**: one row per route and Log; the three streams of core/cursor.py side by side, because they
are always written together (measured, 5,000 Logs in one commit: 28 ms; a row per stream: 52 ms).

| column | example | meaning |
|---|---|---|
| route_id, log | `1`, `/var/log/pods/…/0.log` | |
| other_generation, other_offset, other_mode | `3`, `4096`, `0` | place of stream 0 |
| stdout_generation, stdout_offset, stdout_mode | `3`, `4096`, `0` | place of stream 1 |
| stderr_generation, stderr_offset, stderr_mode | `3`, `2048`, `1` | place of stream 2 |

**sink_rows**: what a staging sink relies on: route_id, `window` (number of the open one),
`staging_length` (bytes fsynced).

**windows**: sealed stretches of staging: route_id, `number`, `staging_length`, `sealed_ns`.
**objects**: their manifest, in order: route_id, `window`, `position`, `key`, `path` (relative to the state
directory), `bytes`, `confirmed` (0 or 1).

**losses**: named byte ranges that will never be delivered, at most 10,000 a route, oldest first by id.

| column | example | meaning |
|---|---|---|
| id, route_id, at_ns | `17`, `1`, `1795428060000000000` | |
| log, file_id, generation | `/var/log/pods/…/0.log`, `9f86…`, `3` | |
| start, stop | `4096`, `8192` | bytes of that generation; adjacent losses are one row |
| reason, rows, detail | `too_old`, `12`, `` | rows is 0 where nobody could count them |

**losses_dropped**: what no longer fits, summed: route_id, `reason`, `records`, `bytes`, `rows`, `at_ns` of the latest.

Paths are text; one that is not UTF-8 is kept as a blob of its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DATABASE_NAME = "tailrace.db"
#: "Tail", so that `file tailrace.db` and we can tell the database from someone else's.
APPLICATION_ID = 0x5461696C
FORMAT_VERSION = 2
#: The oldest format that MIGRATIONS lead on from.
FORMAT_VERSION_OLDEST = 1
READER_VERSION_MIN = 1
TAILS = """
CREATE TABLE tails (
    log TEXT NOT NULL, number INTEGER NOT NULL, file_id TEXT NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (log, number)
) WITHOUT ROWID
"""
#: SQL that leads from the format in the key to the next one; additive only.
MIGRATIONS: Mapping[int, str] = {1: TAILS}

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE routes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sink_identity TEXT NOT NULL,
    first_seen_ns INTEGER NOT NULL,
    last_seen_ns INTEGER NOT NULL,
    committed_ns INTEGER,
    removed_ns INTEGER,
    boot_id TEXT NOT NULL DEFAULT ''
);
CREATE TABLE generations (
    log TEXT NOT NULL, number INTEGER NOT NULL,
    head BLOB NOT NULL, head_length INTEGER NOT NULL, ordinal INTEGER NOT NULL, file_id TEXT NOT NULL,
    device INTEGER NOT NULL, inode INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (log, number)
) WITHOUT ROWID;
{TAILS};
CREATE TABLE cursors (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, log TEXT NOT NULL,
    other_generation INTEGER NOT NULL, other_offset INTEGER NOT NULL, other_mode INTEGER NOT NULL,
    stdout_generation INTEGER NOT NULL, stdout_offset INTEGER NOT NULL, stdout_mode INTEGER NOT NULL,
    stderr_generation INTEGER NOT NULL, stderr_offset INTEGER NOT NULL, stderr_mode INTEGER NOT NULL,
    PRIMARY KEY (log, route_id)
) WITHOUT ROWID;
CREATE INDEX cursors_by_route ON cursors (route_id);
CREATE TABLE sink_rows (
    route_id INTEGER PRIMARY KEY REFERENCES routes ON DELETE CASCADE,
    window INTEGER NOT NULL, staging_length INTEGER NOT NULL
);
CREATE TABLE windows (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, number INTEGER NOT NULL,
    staging_length INTEGER NOT NULL, sealed_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, number)
) WITHOUT ROWID;
CREATE TABLE objects (
    route_id INTEGER NOT NULL, window INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL, confirmed INTEGER NOT NULL,
    PRIMARY KEY (route_id, window, position),
    FOREIGN KEY (route_id, window) REFERENCES windows (route_id, number) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE losses (
    id INTEGER PRIMARY KEY,
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, at_ns INTEGER NOT NULL,
    log TEXT NOT NULL, file_id TEXT NOT NULL, generation INTEGER NOT NULL,
    start INTEGER NOT NULL, stop INTEGER NOT NULL,
    reason TEXT NOT NULL, rows INTEGER NOT NULL, detail TEXT NOT NULL
);
CREATE INDEX losses_by_end ON losses (route_id, log, generation, stop);
CREATE TABLE losses_dropped (
    route_id INTEGER NOT NULL REFERENCES routes ON DELETE CASCADE, reason TEXT NOT NULL,
    records INTEGER NOT NULL, bytes INTEGER NOT NULL, rows INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    PRIMARY KEY (route_id, reason)
) WITHOUT ROWID;
"""


def path_in(path: str) -> str | bytes:
    """
    Return *path* as it is stored: text, or its bytes where they are not UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape")
    return path


def path_out(stored: str | bytes) -> str:
    """
    Return the path behind a stored one.
    """
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogateescape")
