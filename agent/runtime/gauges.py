"""
Gauges that are cheaper to compute when somebody asks than to keep: filled at every scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core import counters as metric

if TYPE_CHECKING:
    from agent.runtime.agent import Agent
    from agent.runtime.route import Route


def refresh(agent: Agent, now_ns: int) -> None:
    """
    Fill the gauges of *agent*.
    """
    counters = agent.counters
    agent.refresh()
    for gauge in (
        metric.LOG_LAG_BYTES,
        metric.LOG_LAG_SECONDS,
        metric.BUDGET_HELD_BYTES,
        metric.UNRESOLVED_BYTES,
    ):
        counters.clear(gauge)
    counters.set(metric.BUDGET_BYTES, agent.budget.size)
    for name, share in agent.budget.shares.items():
        counters.set(metric.BUDGET_HELD_BYTES, share.held, name)
    for supervisor in agent.supervisors:
        if supervisor.route is not None:
            _route(agent, supervisor.route, now_ns)


def _route(agent: Agent, route: Route, now_ns: int) -> None:
    if route.resolver is None or route.reader is None:
        return
    name = route.settings.name
    agent.counters.set(metric.UNRESOLVED_BYTES, route.resolver.unresolved_bytes(), name)
    for log, lag_bytes, lag_s in route.reader.lag(route.cursors(), now_ns):
        agent.counters.set(metric.LOG_LAG_BYTES, lag_bytes, name, log)
        agent.counters.set(metric.LOG_LAG_SECONDS, lag_s, name, log)
