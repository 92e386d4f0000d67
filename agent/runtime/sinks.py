"""
Which class serves which sink type; each is imported only where the configuration names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.core.aws import AwsSettings
    from agent.core.budget import Share
    from agent.core.checkpoint import RouteState, Store
    from agent.core.counters import Counters
    from agent.core.host import AwsClient, Clock, Host, Tasks
    from agent.runtime.aws import Aws
    from agent.sinks.protocol import Resolve, Sink


def sink_identity(settings: Any) -> str:
    """
    Return what makes two sinks the same destination: a cursor is worth nothing at another one.
    """
    match settings.type:
        case "cloudwatch":
            return f"cloudwatch {settings.region} {settings.endpoint_url} {settings.group}"
        case "parquet":
            return f"parquet {settings.endpoint_url} {settings.url} {settings.prefix}".rstrip()
        case kind:
            return str(kind)


class AwsOnce:
    """
    One pool of connections and one set of credentials for all sinks; made when the first one asks.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._aws: Aws | None = None

    def client(self, service: str, settings: AwsSettings) -> AwsClient:
        """
        Return a client of *service*.
        """
        if self._aws is None:
            # Nothing of it is imported for a route that needs no AWS.
            from agent.runtime.aws import Aws

            self._aws = Aws(clock=self._clock)
        return self._aws.client(service, settings)

    async def close(self) -> None:
        """
        Close the connections.
        """
        if self._aws is not None:
            await self._aws.close()


def sink_maker(
    settings: Any,
    *,
    route: str,
    node: str,
    state_dir: str,
    host: Host,
    store: Store,
    share: Share,
    counters: Counters,
    aws: AwsOnce,
) -> Callable[[RouteState, Resolve, Tasks], Sink]:
    """
    Return the function that builds the sink of one run of *route*.
    """

    def cloudwatch(_state: RouteState, resolve: Resolve, tasks: Tasks) -> Sink:
        from agent.sinks.cloudwatch import CloudWatchSink

        return CloudWatchSink(
            settings,
            route=route,
            client=aws.client("logs", settings),
            clock=host.clock,
            tell=host.tell,
            tasks=tasks,
            resolve=resolve,
            share=share,
            counters=counters,
        )

    def parquet(state: RouteState, resolve: Resolve, tasks: Tasks) -> Sink:
        from agent.sinks.parquet import ParquetSink

        return ParquetSink(
            settings,
            route=route,
            node=node,
            share=share,
            resolve=resolve,
            host=host,
            tasks=tasks,
            counters=counters,
            store=store,
            state=state,
            state_dir=state_dir,
            client=aws.client("s3", settings) if settings.url.startswith("s3://") else None,
        )

    def blackhole(_state: RouteState, resolve: Resolve, _tasks: Tasks) -> Sink:
        from agent.sinks.blackhole import BlackholeSink

        return BlackholeSink(
            settings,
            route=route,
            clock=host.clock,
            resolve=resolve,
            share=share,
            counters=counters,
        )

    makers = {"cloudwatch": cloudwatch, "parquet": parquet, "blackhole": blackhole}
    return makers[settings.type]
