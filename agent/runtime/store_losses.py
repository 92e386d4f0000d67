"""
Loss records in the checkpoint database: adjacent ones joined, the oldest summed when there are too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import LossRow
from agent.runtime.store_schema import path_in, path_out

if TYPE_CHECKING:
    import sqlite3

    from agent.core.checkpoint import Transaction

#: Records a route; a disk that loses files by the thousand must not fill the state directory as well.
LOSSES_KEPT_MAX = 10_000
LOSS_DETAIL_CHARS_MAX = 500
#: `log` of the records that stand for those that were dropped.
LOSSES_OLDER = "(older records)"


def read_losses(connection: sqlite3.Connection, route: str | None) -> list[LossRow]:
    """
    Return losses by route and age; the sums of dropped records come first in each route.
    """
    dropped = connection.execute(
        "SELECT name, at_ns, reason, records, bytes, rows FROM losses_dropped JOIN routes ON routes.id = route_id"
        " WHERE ?1 IS NULL OR name = ?1 ORDER BY name, reason",
        (route,),
    ).fetchall()
    kept = connection.execute(
        "SELECT name, at_ns, log, file_id, generation, start, stop, reason, rows, detail FROM losses"
        " JOIN routes ON routes.id = route_id WHERE ?1 IS NULL OR name = ?1 ORDER BY name, losses.id",
        (route,),
    ).fetchall()
    losses = [
        dropped_losses(name, at_ns, _reason(reason), records=records, size=size, rows=rows)
        for name, at_ns, reason, records, size, rows in dropped
    ]
    losses += [
        LossRow(
            name,
            at_ns,
            Loss(path_out(log), file_id, generation, start, stop, _reason(reason), rows, detail),
        )
        for name, at_ns, log, file_id, generation, start, stop, reason, rows, detail in kept
    ]
    losses.sort(key=lambda row: row.route)  # Stable: dropped ones stay in front.
    return losses


def _reason(stored: str) -> LossReason:
    try:
        return LossReason(stored)
    except ValueError:
        # Written by a newer version: people can still read it.
        return cast("LossReason", stored)


def dropped_losses(
    route: str, at_ns: int, reason: LossReason, *, records: int, size: int, rows: int
) -> LossRow:
    """
    Return the record that stands for *records* dropped ones of *size* bytes together.
    """
    return LossRow(
        route,
        at_ns,
        Loss(LOSSES_OLDER, "", 0, 0, size, reason, rows, f"{records} older records, summed"),
    )


def write_losses(connection: sqlite3.Connection, route_id: int, changes: Transaction) -> None:
    """
    Add the losses of *changes* to the route's; part of its transaction.
    """
    for loss in changes.losses:
        log, detail = path_in(loss.log), clean_detail(loss.detail)
        # A file that is refused segment by segment is one loss, not thousands.  Rows add up only where
        # both were counted.
        before = connection.execute(
            "SELECT id FROM losses WHERE route_id = ? AND log = ? AND generation = ? AND stop = ? AND file_id = ?"
            " AND reason = ? AND detail = ? AND (rows = 0) = ? ORDER BY id DESC LIMIT 1",
            (
                route_id,
                log,
                loss.generation,
                loss.start,
                loss.file_id,
                loss.reason.value,
                detail,
                loss.rows == 0,
            ),
        ).fetchone()
        if before is not None:
            connection.execute(
                "UPDATE losses SET stop = ?, rows = rows + ?, at_ns = ? WHERE id = ?",
                (loss.stop, loss.rows, changes.at_ns, before[0]),
            )
            continue
        connection.execute(
            "INSERT INTO losses (route_id, at_ns, log, file_id, generation, start, stop, reason, rows, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(route_id, changes.at_ns, log, loss.file_id, loss.generation),
                *(loss.start, loss.stop, loss.reason.value, loss.rows, detail),
            ),
        )
    if changes.losses:
        _drop_losses(connection, route_id)


def _drop_losses(connection: sqlite3.Connection, route_id: int) -> None:
    (count,) = connection.execute(
        "SELECT count(*) FROM losses WHERE route_id = ?", (route_id,)
    ).fetchone()
    excess = count - LOSSES_KEPT_MAX
    if excess <= 0:
        return
    connection.execute(
        "INSERT INTO losses_dropped (route_id, reason, records, bytes, rows, at_ns)"
        " SELECT route_id, reason, count(*), sum(stop - start), sum(rows), max(at_ns) FROM"
        " (SELECT * FROM losses WHERE route_id = ? ORDER BY id LIMIT ?) WHERE true GROUP BY reason"
        " ON CONFLICT DO UPDATE SET records = records + excluded.records, bytes = bytes + excluded.bytes,"
        " rows = rows + excluded.rows, at_ns = max(at_ns, excluded.at_ns)",
        (route_id, excess),
    )
    connection.execute(
        "DELETE FROM losses WHERE id IN (SELECT id FROM losses WHERE route_id = ? ORDER BY id LIMIT ?)",
        (route_id, excess),
    )


def clean_detail(detail: str) -> str:
    """
    Return *detail* as it is stored: bounded, and UTF-8.
    """
    return detail[:LOSS_DETAIL_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
