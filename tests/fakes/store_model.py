"""
The checkpoint store as plain values: what the SQLite store must be indistinguishable from.

It survives a simulated crash by being kept; `reopened` is what a new process finds.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent.core.checkpoint import GenerationRow, LossRow, RouteState, Transaction
from agent.core.errors import StopError
from agent.runtime.store import ROUTE_KEPT_S
from agent.runtime.store_losses import LOSSES_KEPT_MAX, clean_detail, dropped_losses
from agent.runtime.store_rows import GENERATIONS_KEPT_MAX, changed_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent.core.batch import Loss, LossReason
    from agent.core.cursor import Cursor


@dataclass(slots=True)
class _Route:
    sink_identity: str
    state: RouteState = field(default_factory=RouteState)
    losses: list[LossRow] = field(default_factory=list)
    dropped: dict[LossReason, list[int]] = field(
        default_factory=dict
    )  # at_ns, records, bytes, rows
    removed_ns: int | None = None
    boot_id: str = ""


class StoreModel:
    """
    Implements `Store` of core/checkpoint.py in memory.
    """

    def __init__(self, *, now_ns: Callable[[], int], boot_id: str = "") -> None:
        self._now_ns = now_ns
        self._boot_id = boot_id
        self._routes: dict[str, _Route] = {}
        self._generations: dict[tuple[str, int], GenerationRow] = {}
        self._loaded: set[str] = set()
        self.boot_changed = False
        #: Raised by the next commit instead of committing.
        self.commit_error: Exception | None = None

    def reopened(self, *, routes: Collection[str], boot_id: str = "") -> StoreModel:
        """
        Return the store that a new process opens.
        """
        store = StoreModel(now_ns=self._now_ns, boot_id=boot_id)
        now_ns = self._now_ns()
        for name, route in deepcopy(self._routes).items():
            if name in routes:
                route.removed_ns = None
            elif route.removed_ns is None:
                route.removed_ns = now_ns
            elif now_ns - route.removed_ns >= ROUTE_KEPT_S * 1_000_000_000:
                continue
            store._routes[name] = route
        store._generations = {
            key: row
            for key, row in self._generations.items()
            if any(key[0] in route.state.cursors for route in store._routes.values())
        }
        store.boot_changed = any(
            not route.state.first_start and route.removed_ns is None and route.boot_id != boot_id
            for route in store._routes.values()
        )
        return store

    async def load_generations(self) -> list[GenerationRow]:
        """
        Return all generations, by Log and number.
        """
        return [row for _, row in sorted(self._generations.items())]

    async def load_route(self, route: str, sink_identity: str) -> RouteState:
        """
        Return what *route* left, and note that it exists.
        """
        known = self._routes.setdefault(route, _Route(sink_identity))
        if known.sink_identity not in {"", sink_identity} and not known.state.first_start:
            raise StopError(
                changed_sink("model", route, known.sink_identity, sink_identity), exit_code=78
            )
        known.sink_identity = sink_identity
        known.removed_ns = None
        self._loaded.add(route)
        return deepcopy(known.state)

    async def commit(self, transaction: Transaction) -> None:
        """
        Make *transaction* durable, all or nothing.
        """
        assert transaction.route in self._loaded
        if self.commit_error is not None:
            error, self.commit_error = self.commit_error, None
            raise error
        route = self._routes[transaction.route]
        state = route.state
        for log in transaction.forgotten:
            state.cursors.pop(log, None)
        state.cursors = dict(sorted((state.cursors | transaction.cursors).items()))
        for row in transaction.generations:
            self._generations[row.log, row.number] = row
        self._prune(transaction)
        for loss in transaction.losses:
            self._add_loss(route, transaction, loss)
        while len(route.losses) > LOSSES_KEPT_MAX:
            self._drop_loss(route)
        if transaction.sink is not None:
            state.sink = transaction.sink
        windows = {window.number: window for window in state.windows}
        for number in transaction.windows_gone:
            windows.pop(number, None)
        windows.update({window.number: window for window in transaction.windows})
        state.windows = [window for _, window in sorted(windows.items())]
        if transaction.moved or state.first_start:
            route.boot_id = self._boot_id
        state.first_start = False

    async def load_losses(self, route: str | None = None) -> list[LossRow]:
        """
        Return the losses of *route*, or of all, by route and age.
        """
        rows = []
        for name, known in sorted(self._routes.items()):
            if route in {None, name}:
                rows += [
                    dropped_losses(name, at_ns, reason, records=records, size=size, rows=lost)
                    for reason, (at_ns, records, size, lost) in sorted(known.dropped.items())
                ]
                rows += known.losses
        return rows

    def _prune(self, transaction: Transaction) -> None:
        for log in transaction.forgotten:
            if not self._cursors_in(log):
                self._generations = {
                    key: row for key, row in self._generations.items() if key[0] != log
                }
        for log in {row.log for row in transaction.generations}:
            cursors = self._cursors_in(log)
            if cursors:
                lowest = (
                    min(place.generation for cursor in cursors for place in cursor)
                    - GENERATIONS_KEPT_MAX
                )
                self._generations = {
                    key: row
                    for key, row in self._generations.items()
                    if key[0] != log or key[1] >= lowest
                }

    def _cursors_in(self, log: str) -> list[Cursor]:
        return [
            route.state.cursors[log]
            for route in self._routes.values()
            if log in route.state.cursors
        ]

    def _add_loss(self, route: _Route, transaction: Transaction, loss: Loss) -> None:
        loss = replace(loss, detail=clean_detail(loss.detail))
        for index in reversed(range(len(route.losses))):
            before = route.losses[index].loss
            joined = replace(before, stop=loss.stop, rows=before.rows + loss.rows)
            same = replace(loss, start=before.start, rows=before.rows + loss.rows) == joined
            if same and before.stop == loss.start and (before.rows == 0) == (loss.rows == 0):
                route.losses[index] = LossRow(transaction.route, transaction.at_ns, joined)
                return
        route.losses.append(LossRow(transaction.route, transaction.at_ns, loss))

    def _drop_loss(self, route: _Route) -> None:
        row = route.losses.pop(0)
        sums = route.dropped.setdefault(row.loss.reason, [0, 0, 0, 0])
        sums[0] = max(sums[0], row.at_ns)
        sums[1] += 1
        sums[2] += row.loss.stop - row.loss.start
        sums[3] += row.loss.rows
