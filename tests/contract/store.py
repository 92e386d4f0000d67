"""
What every checkpoint store does.  A test module subclasses `StoreContract` and provides the fixture `world`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import SinkRows, Store, Transaction, Window
from agent.core.cursor import StreamCursor, StreamMode, cursor_at
from agent.core.errors import StopError
from agent.runtime.store_losses import LOSSES_OLDER
from agent.runtime.store_rows import GENERATIONS_KEPT_MAX
from tests.contract.store_generations import GenerationsContract
from tests.contract.store_values import DAY_NS, LOG, ODD, OTHER, Moment, generation, loss

if TYPE_CHECKING:
    from collections.abc import Collection


class ReopenedStore(Store, Protocol):
    """
    A store, and what opening it found out.
    """

    boot_changed: bool


class World(Protocol):
    """
    One state directory.
    """

    moment: Moment

    @property
    def store(self) -> ReopenedStore: ...

    async def reopen(
        self, *, routes: Collection[str] = ("a", "b"), boot_id: str = "boot-1"
    ) -> object:
        """Open the store again, as a new process does."""

    async def close(self) -> None: ...


class StoreContract(GenerationsContract):
    """
    The behaviour that the SQLite store and its model share.
    """

    async def test_first_start_lasts_until_the_first_commit(self, world: World) -> None:
        """
        A route that was loaded but never committed still starts for the first time.
        """
        assert (await world.store.load_route("a", "sink-a")).first_start
        await world.reopen()
        assert (await world.store.load_route("a", "sink-a")).first_start
        await world.store.commit(Transaction("a", world.moment.ns))
        await world.reopen()
        assert not (await world.store.load_route("a", "sink-a")).first_start
        assert (await world.store.load_route("b", "sink-b")).first_start

    async def test_cursors_come_back_as_they_were(self, world: World) -> None:
        """
        Every stream keeps place and mode, whatever the Log's path looks like; the last commit wins.
        """
        cursor = (
            StreamCursor(3, 2**40, StreamMode.LINE_REST),
            StreamCursor(2, 17, StreamMode.PIECES_REST),
            StreamCursor(4, 0),
        )
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 5), ODD: cursor}))
        await world.store.commit(Transaction("a", 2, cursors={LOG: cursor_at(0, 9)}))
        await world.reopen()
        state = await world.store.load_route("a", "sink-a")
        assert state.cursors == {LOG: cursor_at(0, 9), ODD: cursor}
        assert all(isinstance(place, StreamCursor) for place in state.cursors[ODD])

    async def test_routes_do_not_see_each_other(self, world: World) -> None:
        """
        Two routes have cursors of their own in one Log.
        """
        await self.load(world, "a", "b")
        await world.store.commit(
            Transaction("a", 1, cursors={LOG: cursor_at(0, 5)}, sink=SinkRows(1, 2))
        )
        await world.store.commit(Transaction("b", 1, cursors={LOG: cursor_at(1, 6)}))
        await world.store.commit(Transaction("a", 2, forgotten=[LOG]))
        assert (await world.store.load_route("a", "sink-a")).cursors == {}
        state = await world.store.load_route("b", "sink-b")
        assert (state.cursors, state.sink) == ({LOG: cursor_at(1, 6)}, None)

    async def test_forgetting_comes_first(self, world: World) -> None:
        """
        A cursor given in the transaction that forgets its Log stays; forgetting what is unknown is nothing.
        """
        await self.load(world, "a")
        await world.store.commit(
            Transaction("a", 1, cursors={LOG: cursor_at(0, 5)}, forgotten=[LOG, OTHER])
        )
        assert (await world.store.load_route("a", "sink-a")).cursors == {LOG: cursor_at(0, 5)}

    async def test_generations_come_back_in_order(self, world: World) -> None:
        """
        Generations are shared by all routes, ordered by Log and number, and the last row wins.
        """
        rows = [
            generation(OTHER, 0),
            generation(LOG, 2),
            generation(LOG, 10),
            generation(ODD, 0, name="\udcff.gz", head=b""),
        ]
        await self.load(world, "a")
        cursors = {row.log: cursor_at(row.number, 0) for row in rows}
        await world.store.commit(Transaction("a", 1, cursors=cursors, generations=rows))
        await world.store.commit(Transaction("a", 2, generations=[generation(LOG, 2, size=7)]))
        await world.reopen()
        found = await world.store.load_generations()
        assert [row for row in found if row.log == LOG] == [generation(LOG, 2, size=7), rows[2]]
        assert {row.log for row in found} == {LOG, OTHER, ODD}
        assert rows[3] in found

    async def test_generations_far_behind_every_cursor_are_pruned(self, world: World) -> None:
        """
        What the slowest route still needs stays, and so do some that were read, to be recognised on disk.
        """
        await self.load(world, "a", "b")
        rows = [generation(number=number) for number in range(50)]
        await world.store.commit(Transaction("b", 1, cursors={LOG: cursor_at(2, 0)}))
        await world.store.commit(
            Transaction("a", 1, cursors={LOG: cursor_at(49, 0)}, generations=rows)
        )
        assert len(await world.store.load_generations()) == 50
        place = (StreamCursor(45, 0), StreamCursor(40, 0), StreamCursor(45, 0))
        await world.store.commit(
            Transaction("b", 2, cursors={LOG: place}, generations=[generation(number=50)])
        )
        numbers = [row.number for row in await world.store.load_generations()]
        assert numbers == list(range(40 - GENERATIONS_KEPT_MAX, 51))

    async def test_generations_of_forgotten_logs_go_with_the_last_cursor(
        self, world: World
    ) -> None:
        """
        A Log is unknown again when no route has a cursor in it.
        """
        await self.load(world, "a", "b")
        await world.store.commit(
            Transaction("a", 1, cursors={LOG: cursor_at(0, 0)}, generations=[generation()])
        )
        await world.store.commit(Transaction("b", 1, cursors={LOG: cursor_at(0, 0)}))
        await world.store.commit(Transaction("a", 2, forgotten=[LOG]))
        assert await world.store.load_generations() == [generation()]
        await world.store.commit(Transaction("b", 2, forgotten=[LOG]))
        assert await world.store.load_generations() == []

    async def test_generations_without_cursor_live_until_the_next_start(self, world: World) -> None:
        """
        A route may be about to commit its first cursor in a Log; a new process has no such route.
        """
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, generations=[generation()]))
        assert await world.store.load_generations() == [generation()]
        await world.reopen()
        assert await world.store.load_generations() == []

    async def test_staging_and_windows(self, world: World) -> None:
        """
        Windows are inserted, replaced with their manifest, and removed; the sink's row stays until replaced.
        """
        sealed = Window("a", 7, 1000, 5)
        listed = Window(
            "a",
            7,
            1000,
            5,
            (
                ("dt=1/k1", "windows/7/0.parquet", 10, False),
                ("dt=2/k2", "windows/7/1.parquet", 20, True),
            ),
        )
        await self.load(world, "a", "b")
        await world.store.commit(
            Transaction("a", 1, sink=SinkRows(7, 1000), windows=[Window("a", 12, 1, 1), sealed])
        )
        await world.store.commit(Transaction("b", 1, windows=[Window("b", 7, 3, 3)]))
        await world.store.commit(Transaction("a", 2, windows=[listed]))
        await world.reopen()
        state = await world.store.load_route("a", "sink-a")
        assert state.sink == SinkRows(7, 1000)
        assert state.windows == [listed, Window("a", 12, 1, 1)]
        await world.store.commit(Transaction("a", 3, sink=SinkRows(8, 0), windows_gone=[12, 99]))
        await world.store.commit(Transaction("a", 4, windows=[sealed], windows_gone=[7]))
        state = await world.store.load_route("a", "sink-a")
        assert (state.sink, state.windows) == (SinkRows(8, 0), [sealed])
        assert (await world.store.load_route("b", "sink-b")).windows == [Window("b", 7, 3, 3)]

    async def test_what_a_store_gives_is_a_copy(self, world: World) -> None:
        """
        A route may change its state without changing the store's.
        """
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 5)}))
        (await world.store.load_route("a", "sink-a")).cursors.clear()
        assert (await world.store.load_route("a", "sink-a")).cursors == {LOG: cursor_at(0, 5)}

    async def test_changed_sink_is_refused(self, world: World) -> None:
        """
        Cursors of one sink are no use to another; the message says what to do.
        """
        await self.load(world, "a")
        await world.store.load_route(
            "a", "sink-new"
        )  # Nothing was committed: a first try with a wrong sink is forgiven.
        await world.store.commit(Transaction("a", 1))
        await world.reopen()
        with pytest.raises(
            StopError, match=r"tailrace state reset a.*tailrace state rename a"
        ) as caught:
            await world.store.load_route("a", "sink-a")
        assert caught.value.exit_code == 78
        assert "sink-new" in str(caught.value)
        assert not (await world.store.load_route("a", "sink-new")).first_start

    async def test_adjacent_losses_are_one(self, world: World) -> None:
        """
        Losses that continue one another are one record with the later time.
        """
        await self.load(world, "a")
        await world.store.commit(
            Transaction(
                "a", 1, losses=[loss(0, 10, rows=1), loss(10, 30, rows=2), loss(40, 50, rows=1)]
            )
        )
        await world.store.commit(Transaction("a", 2, losses=[loss(30, 35, rows=4)]))
        rows = await world.store.load_losses("a")
        assert [(row.route, row.at_ns, row.loss) for row in rows] == [
            ("a", 2, loss(0, 35, rows=7)),
            ("a", 1, loss(40, 50, rows=1)),
        ]

    @pytest.mark.parametrize(
        "second",
        [
            loss(10, 20, log=OTHER),
            loss(10, 20, generation=4),
            loss(10, 20, reason=LossReason.TOO_OLD),
            loss(10, 20, rows=1),
            loss(10, 20, detail="inode reused"),
            loss(11, 20),
        ],
    )
    async def test_other_losses_stay_apart(self, world: World, second: Loss) -> None:
        """
        Another Log, generation, reason, detail or a gap: another record.
        """
        await self.load(world, "a", "b")
        await world.store.commit(Transaction("a", 1, losses=[loss(0, 10), second]))
        await world.store.commit(Transaction("b", 1, losses=[loss(10, 20)]))
        await world.reopen()
        assert [row.loss for row in await world.store.load_losses("a")] == [loss(0, 10), second]
        assert [row.route for row in await world.store.load_losses()] == ["a", "a", "b"]

    async def test_a_loss_continues_the_latest_that_fits(self, world: World) -> None:
        """
        Of two records that end where it begins, the later one grows.
        """
        await self.load(world, "a")
        losses = [loss(0, 10), loss(5, 10), loss(10, 20)]
        await world.store.commit(Transaction("a", 1, losses=losses))
        assert [row.loss for row in await world.store.load_losses("a")] == [
            loss(0, 10),
            loss(5, 20),
        ]

    async def test_loss_details_are_bounded_text(self, world: World) -> None:
        """
        A detail may hold anything, for example a path that is not UTF-8.
        """
        await self.load(world, "a")
        await world.store.commit(
            Transaction("a", 1, losses=[loss(0, 1, detail="\udce9" + "x" * 5000, log=ODD)])
        )
        (row,) = await world.store.load_losses()
        assert row.loss.log == ODD
        assert row.loss.detail.startswith("\\udce9xx")
        assert len(row.loss.detail) < 600

    async def test_losses_are_bounded_and_their_sums_are_not_lost(
        self, world: World, losses_kept_max: int
    ) -> None:
        """
        The oldest records make room; bytes, rows and how many they were stay known by reason.
        """
        await self.load(world, "a")
        count = losses_kept_max + 5
        reasons = (LossReason.DELETED, LossReason.TOO_OLD)
        for at_ns in range(count):
            lost = loss(20 * at_ns, 20 * at_ns + 3, rows=2, reason=reasons[at_ns % 2])
            await world.store.commit(Transaction("a", at_ns, losses=[lost]))
        rows = await world.store.load_losses("a")
        summed = [row for row in rows if row.loss.log == LOSSES_OLDER]
        assert rows[: len(summed)] == summed
        assert [
            (row.loss.reason, row.at_ns, row.loss.detail[:2], row.loss.rows) for row in summed
        ] == [
            ("deleted", 4, "3 ", 6),
            ("too_old", 3, "2 ", 4),
        ]
        assert len(rows) - len(summed) == losses_kept_max
        assert sum(row.loss.stop - row.loss.start for row in rows) == 3 * count
        assert sum(row.loss.rows for row in rows) == 2 * count

    async def test_removed_routes_expire_after_seven_days(self, world: World) -> None:
        """
        The days count from the first start without the route, not from its last commit.
        """
        await self.load(world, "a", "b")
        for route, log in (("a", LOG), ("b", OTHER)):
            await world.store.commit(
                Transaction(
                    route,
                    1,
                    cursors={log: cursor_at(0, 1)},
                    generations=[generation(log)],
                    losses=[loss(0, 1)],
                )
            )
        world.moment.ns += 30 * DAY_NS
        await world.reopen(routes=("b",))
        world.moment.ns += 7 * DAY_NS - 1
        await world.reopen(routes=("b",))
        assert len(await world.store.load_generations()) == 2
        world.moment.ns += 1
        await world.reopen(routes=("b",))
        assert await world.store.load_generations() == [generation(OTHER)]
        assert [row.route for row in await world.store.load_losses()] == ["b"]
        assert (await world.store.load_route("a", "anything")).first_start
        assert not (await world.store.load_route("b", "sink-b")).first_start

    async def test_returning_routes_do_not_expire(self, world: World) -> None:
        """
        A route that comes back within the days has its cursors, and the days begin anew.
        """
        await self.load(world, "a")
        await world.store.commit(Transaction("a", 1, cursors={LOG: cursor_at(0, 1)}))
        for routes in (("b",), ("a",), ("b",), ("a",)):
            world.moment.ns += 6 * DAY_NS
            await world.reopen(routes=routes)
        assert (await world.store.load_route("a", "sink-a")).cursors == {LOG: cursor_at(0, 1)}

    async def test_boot_changed_until_every_route_has_committed(self, world: World) -> None:
        """
        After a reboot a file may be shorter than a cursor; a crash in between must not hide that.
        """
        await self.load(world, "a", "b")
        assert not world.store.boot_changed
        for route in ("a", "b"):
            await world.store.commit(Transaction(route, 1))
        await world.reopen(boot_id="boot-1")
        assert not world.store.boot_changed
        await world.reopen(boot_id="boot-2")
        assert world.store.boot_changed
        await self.load(world, "a", "b")
        await world.store.commit(Transaction("a", 2))
        await world.reopen(boot_id="boot-2")
        assert world.store.boot_changed
        await self.load(world, "a", "b")
        await world.store.commit(Transaction("b", 2))
        await world.reopen(boot_id="boot-2")
        assert not world.store.boot_changed
