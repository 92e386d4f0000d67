"""
A simulated node: its disk, its logs, two services, and one life of the production agent after another.
"""

from __future__ import annotations

import asyncio
import hashlib
from random import Random
from typing import TYPE_CHECKING, Any

from agent.runtime.agent import Agent
from tests.fakes.store_model import StoreModel
from tests.sim.config import BUDGET_BYTES, COMMIT_INTERVAL_S, LOGS_DIR, STATE_DIR, config_of
from tests.sim.host import SimHost
from tests.sim.loop import VirtualLoop
from tests.sim.oracle import PARQUET, Oracle
from tests.sim.promise import BrokenPromise
from tests.sim.seal import Children, blocks, rows_of
from tests.sim.services import S3, CloudWatch
from tests.sim.store import SimStore
from tests.sim.tree import Tree
from tests.sim.writers import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.checkpoint import Transaction
    from tests.sim.pieces import Content
    from tests.sim.schedule import Plan
    from tests.sim.services import Service

BEGIN_S = 1000.0
START_NS = 1_795_341_000_000_000_000
#: The rule of the budget (core/budget.py): a chunk with its expansion beyond it for each route, and bodies.
BUDGET_SLACK_BYTES = 4 << 20
#: Own log lines that say that something ended which should not have.
FAILURES = {"route_failed", "upkeep_failed", "metrics_failed"}


class Node:
    """
    What a run consists of, and the lives of the agent in it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.loop = VirtualLoop(begin_s=BEGIN_S)
        self.print_trace = False
        self.broken: BrokenPromise | None = None
        self.wall_offset_ns = 0
        self._pieces = 0
        self.tree = Tree(now_ns=self.now_ns, random=self._dice("disk"))
        for path in (STATE_DIR, LOGS_DIR):
            self.tree.make_directories(path)
        self.services: dict[str, Service] = {
            "logs": CloudWatch(self, self._dice("logs")),
            "s3": S3(self, self._dice("s3")),
        }
        self.children = Children(self, self._dice("children"))
        self.oracle = Oracle(self, plan.routes)
        self.model = StoreModel(now_ns=self.now_ns)
        self.host: SimHost | None = None
        self.agent: Agent | None = None
        self.store_fails = False
        self.disk_is_full = False
        self.disk_trouble_until = float("-inf")
        self.store_trouble_until = float("-inf")
        self._lives = 0
        self.boots = 0
        self.booted_at = 0.0
        self.stopping = False
        self.kill_after: int | None = None
        self.tasks: list[Any] = []
        self.healing = False
        self.calm = True
        self.logs = [self.new_log(index) for index in range(len(plan.formats))]
        self.tree.on_change = self._on_change
        self.tree.on_write = self._on_write
        self.loop.before_step = self._before_step
        self._digest = hashlib.blake2b(digest_size=8)

    def _dice(self, what: str) -> Random:
        return Random(f"{self.plan.seed} {what}")

    # -- what the parts ask -------------------------------------------------------------------

    def now_ns(self) -> int:
        return START_NS + int(self.loop.now * 1e9) + self.wall_offset_ns

    def later(self, seconds: float, function: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(seconds, function, *args)

    def next_piece(self) -> int:
        self._pieces += 1
        return self._pieces

    @property
    def commit_slack_s(self) -> float:
        """
        How long ago something was confirmed that is committed now.
        """
        return COMMIT_INTERVAL_S + 0.5

    def generation_numbers(self, log: str) -> list[tuple[Content, int]]:
        """
        Return the contents of a Log that the store knows, with their numbers.
        """
        known = self.oracle.by_file_id
        rows = self.model._generations.values()
        return [
            (known[row.file_id], row.number)
            for row in rows
            if row.log == log and row.file_id in known
        ]

    def known_size(self, content: Content) -> int:
        """
        Return how long the store knows *content* to be, if a cursor of every route leads to it.
        """
        path = content.log.path
        states = [self.model._routes.get(route) for route in self.oracle.routes]
        if any(state is None or path not in state.state.cursors for state in states):
            return 0
        known = self.oracle.by_file_id
        rows = self.model._generations.values()
        return max((row.size for row in rows if known.get(row.file_id) is content), default=0)

    def disk_fault(self, operation: str, path: str) -> None:
        """
        Raise where the disk of the state directory is full.
        """
        if self.disk_is_full and operation in ("pwrite", "open", "mkdir"):
            raise OSError(28, "No space left on device", path)

    def told(self, event: str, text: str, level: str, fields: dict[str, Any]) -> None:
        self.trace(f"told {event} {text}")
        trouble = self.disk_is_full or self.loop.now < self.disk_trouble_until
        if event in FAILURES and not trouble:
            self.broke(BrokenPromise("P0", f"{text}\n{fields.get('trace', '')}"))

    def trace(self, text: str) -> None:
        """
        Add to what two runs of the same plan must have in common.
        """
        if self.print_trace:
            print(f"{self.loop.now - BEGIN_S:8.3f}  {text[:500]}")
        self._digest.update(f"{self.loop.now:.6f} {text}\n".encode())

    def broke(self, broken: BrokenPromise) -> None:
        """
        End the run: the first promise that is broken is the finding.
        """
        if self.broken is None:
            self.broken = broken
        self.loop.stop()

    def committed(self, transaction: Transaction) -> None:
        """
        Look at a transaction in the moment in which it is durable.
        """
        self.trace(f"commit {transaction.route} {sorted(transaction.cursors.items())}")
        if transaction.sink is not None and transaction.sink.staging_length:
            self._look_at_staging(transaction.sink.window, transaction.sink.staging_length)
        self.oracle.committed(transaction)
        if self.agent is not None:
            held = self.agent.budget.held
            if held > BUDGET_BYTES + BUDGET_SLACK_BYTES:
                self.oracle.fail("P6", f"{held} bytes are held of {BUDGET_BYTES}")

    def _look_at_staging(self, window: int, length: int) -> None:
        path = f"{STATE_DIR}/staging/{PARQUET}/{window}.staging"
        synced = Synced(self.tree, path)
        if len(synced.data) < length:
            text = f"{length} bytes of window {window} are committed, {len(synced.data)} are synced"
            self.oracle.fail("P1", text)
            return
        for _, segment, block in blocks(synced, path, length):  # type: ignore[arg-type]
            self.oracle.staged(row.message for row in rows_of(segment, block))

    # -- lives --------------------------------------------------------------------------------

    def start(self) -> None:
        """
        Start the agent, if it does not run.
        """
        if self.agent is not None or self.broken is not None:
            return
        self._lives += 1
        number = self._lives
        self.trace(f"start {number}")
        self.model = self.model.reopened(routes=self.plan.routes, boot_id=f"boot-{self.boots}")
        host = self.host = SimHost(self, number, self._dice(f"host {number}"))
        store = SimStore(self.model, host, self._dice(f"store {number}"))
        self.agent = Agent(
            config_of(self.plan),
            host=host,  # type: ignore[arg-type]
            store=store,
            rebooted=self.model.boot_changed,
            aws=host.aws,
        )
        self.stopping = False
        task = self.loop.create_task(self.agent.run(), name=f"life {number}")
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.host is None or task.get_name() != f"life {self.host.number}" or self.agent is None:
            return
        if error is not None or not self.stopping:
            self.oracle.fail("P0", f"the agent ended by itself: {error!r}")
            return
        agent, host = self.agent, self.host
        routes = [supervisor.route for supervisor in agent.supervisors]
        self.calm &= all(
            route is not None
            and route.resolver is not None
            and not route.resolver.unresolved_bytes()
            for route in routes
        )
        self.trace(f"stopped {host.number}")
        if self.calm and agent.budget.held:
            self.oracle.fail("P6", f"{agent.budget.held} bytes are held after the stop")
        left = len(host.disk.descriptors), len(host.state_disk.descriptors)
        if any(left):
            self.oracle.fail("P0", f"descriptors are open after the stop: logs, state {left}")
        self._gone(crashed=False)

    def stop(self, timeout_s: float) -> None:
        """
        Ask the agent to drain and end.
        """
        if self.agent is None or self.stopping:
            return
        self.stopping = True
        self.calm = self._is_calm()
        self.tasks.append(self.loop.create_task(self.agent.drain(timeout_s), name="drain"))

    def _is_calm(self) -> bool:
        trouble = self.store_fails or self.disk_is_full or self.loop.now < self.disk_trouble_until
        return not trouble and all(service.healthy for service in self.services.values())

    def kill(self) -> None:
        """
        SIGKILL.
        """
        self.kill_after = None
        if self.agent is None or self.host is None:
            return
        self.trace(f"killed {self.host.number}")
        trouble = self.store_fails or self.loop.now < self.store_trouble_until
        if not trouble and not self.stopping:
            self.oracle.check_crash()
        self._gone(crashed=True)

    def _gone(self, *, crashed: bool) -> None:
        host = self.host
        assert host is not None
        host.alive = False
        host.disk.descriptors.close_all()
        host.state_disk.descriptors.close_all()
        self.agent = None
        self.oracle.life_ended(crashed=crashed)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()

    def _before_step(self) -> None:
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                self.kill()

    @property
    def pieces(self) -> int:
        """
        Lines that were written.
        """
        return self._pieces

    @property
    def lives(self) -> int:
        """
        How often the agent was started.
        """
        return self._lives

    @property
    def digest(self) -> str:
        """
        What happened, in short.
        """
        return self._digest.hexdigest()

    # -- parts --------------------------------------------------------------------------------

    def new_log(self, index: int) -> Log:
        random = self._dice(f"log {index} {self.boots}")
        if self.plan.formats[index] == "raw":
            name = f"app{index}" + (f"-{self.boots}" if self.boots else "")
            return Log(self, f"{LOGS_DIR}/app/{name}.log", format="raw", random=random)
        path = f"{LOGS_DIR}/pods/ns_pod{index}_uid{index}/main/{self.boots}.log"
        return Log(self, path, format="cri", random=random)

    def _on_change(self, directory: str, name: str) -> None:
        if self.host is not None and self.host.alive:
            self.host.watches.changed(directory, name)

    def _on_write(self, inode: object) -> None:
        if self.host is not None and self.host.alive:
            self.host.watches.written(inode)


class Synced:
    """
    The synced bytes of a file, for the production reader of staging.
    """

    def __init__(self, tree: Tree, path: str) -> None:
        self.data = tree.find(path).synced if tree.exists(path) else b""

    def open_read(self, path: str) -> int:
        return 0

    def size(self, fd: int) -> int:
        return len(self.data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return self.data[offset : offset + length]

    def close(self, fd: int) -> None:
        return
