"""
The SQLite store and its model agree on any sequence of calls.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.core.batch import Loss, LossReason
from agent.core.checkpoint import GenerationRow, SinkRows, Transaction, Window
from agent.core.cursor import StreamCursor
from agent.runtime import store_losses, store_rows
from tests.contract.store_values import DAY_NS
from tests.fakes import store_model
from tests.runtime.store_worlds import ModelWorld, SqliteWorld

LOGS = ["/x/0.log", "/y/0.log", "/z/\udcff.log"]
ROUTES = ["a", "b"]
small = st.integers(0, 3)
cursors = st.tuples(*[st.builds(StreamCursor, st.integers(0, 5), small, st.integers(0, 2))] * 3)
generations = st.builds(
    GenerationRow,
    log=st.sampled_from(LOGS),
    number=st.integers(0, 5),
    head=st.binary(max_size=4),
    head_length=small,
    ordinal=small,
    file_id=st.sampled_from(["", "ab" * 16]),
    device=small,
    inode=small,
    name=st.text(max_size=3),
    size=small,
)
losses = st.builds(
    lambda log, start, length, reason, rows: Loss(
        log, "ab" * 16, 0, start, start + length, reason, rows
    ),
    st.sampled_from(LOGS),
    small,
    small,
    st.sampled_from([LossReason.DELETED, LossReason.POISON]),
    st.integers(0, 2),
)
windows = st.tuples(
    small,
    small,
    st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2), small, st.booleans()), max_size=2),
)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """
    Draw what a route might commit.
    """
    route = draw(st.sampled_from(ROUTES))
    numbered = {
        number: (length, objects) for number, length, objects in draw(st.lists(windows, max_size=2))
    }
    return Transaction(
        route,
        draw(small),
        cursors=draw(st.dictionaries(st.sampled_from(LOGS), cursors, max_size=2)),
        forgotten=draw(st.lists(st.sampled_from(LOGS), max_size=2)),
        generations=draw(st.lists(generations, max_size=3)),
        losses=draw(st.lists(losses, max_size=4)),
        sink=draw(st.none() | st.builds(SinkRows, window=small, staging_length=small)),
        windows=[
            Window(route, number, length, 5, tuple(objects))
            for number, (length, objects) in numbered.items()
        ],
        windows_gone=draw(st.lists(small, max_size=2)),
    )


reopenings = st.tuples(
    st.sampled_from([("a",), ("b",), ("a", "b")]),
    st.sampled_from(["boot-1", "boot-2"]),
    st.integers(0, 5),
)


async def _same(sqlite: SqliteWorld, model: ModelWorld) -> None:
    assert await sqlite.store.load_generations() == await model.store.load_generations()
    assert await sqlite.store.load_losses() == await model.store.load_losses()
    assert sqlite.store.boot_changed == model.store.boot_changed
    for route in ROUTES:
        assert await sqlite.store.load_route(route, "sink") == await model.store.load_route(
            route, "sink"
        )


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(transactions() | reopenings, max_size=12))
async def test_the_model_is_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    """
    Whatever routes commit and however often the agent restarts, both stores give back the same.
    """
    sqlite, model = SqliteWorld(tmp_path_factory.mktemp("state")), ModelWorld()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_losses, "LOSSES_KEPT_MAX", 4)
        patch.setattr(store_model, "LOSSES_KEPT_MAX", 4)
        patch.setattr(store_rows, "GENERATIONS_KEPT_MAX", 1)
        patch.setattr(store_model, "GENERATIONS_KEPT_MAX", 1)
        for world in (sqlite, model):
            await world.reopen()
        try:
            await _same(sqlite, model)
            for step in steps:
                for world in (sqlite, model):
                    if isinstance(step, Transaction):
                        await world.store.commit(step)
                    else:
                        routes, boot_id, days = step
                        world.moment.ns += days * DAY_NS
                        await world.reopen(routes=routes, boot_id=boot_id)
                await _same(sqlite, model)
        finally:
            await sqlite.close()
