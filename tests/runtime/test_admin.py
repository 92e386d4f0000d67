"""
The admin endpoint: right answers to good clients, and no harm from bad ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.core.counters import (
    BUDGET_BYTES,
    LOG_LAG_BYTES,
    LOG_LAG_SECONDS,
    READ_BYTES,
    REQUESTS,
    Counters,
)
from agent.runtime import admin as module
from agent.runtime.admin import CONNECTIONS_MAX, HEAD_BYTES_MAX, Admin, split_listen
from agent.runtime.exposition import render

if TYPE_CHECKING:
    from collections.abc import Callable


class Endpoint(Admin):
    """
    An endpoint whose route can be made ready, and what it told.
    """

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.up = False
        self.error: Exception | None = None
        self.told: list[str] = []
        super().__init__(
            listen,
            counters=Counters(),
            ready=lambda: self.up,
            refresh=self._gauges,
            tell=self._note,
        )

    def _note(self, event: str, text: str, /, *, level: str = "info", **fields: object) -> None:
        self.told.append(event)

    def _gauges(self) -> None:
        if self.error is not None:
            raise self.error
        self._counters.set(BUDGET_BYTES, 2**25)

    async def until(self, reached: Callable[[int], bool]) -> None:
        # The server's own tasks get their turn.
        while not reached(len(self._connections)):
            await asyncio.sleep(0)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.address is not None
        return await asyncio.open_connection(*self.address)

    async def send(self, request: bytes) -> bytes:
        reader, writer = await self.connect()
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        raw = await self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = raw.decode().partition("\r\n\r\n")
        first, *rest = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


async def test_health_does_not_depend_on_routes() -> None:
    """
    Alive is alive; ready is when every route is up.
    """
    async with Endpoint() as endpoint:
        assert (await endpoint.get("/healthz"))[::2] == (200, "ok\n")
        assert (await endpoint.get("/readyz"))[::2] == (503, "not every route is up\n")
        endpoint.up = True
        assert (await endpoint.get("/readyz?verbose"))[::2] == (200, "ready\n")


async def test_metrics_and_heads() -> None:
    """
    Gauges are filled when they are asked for; HEAD has the length and no body.
    """
    async with Endpoint() as endpoint:
        status, headers, body = await endpoint.get("/metrics")
        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "tailrace_budget_bytes 3.3554432e+07\n" in body
        status, headers, body = await endpoint.get("/healthz", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "3", "")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"\xff\xfe \x00 HTTP/1.1\r\n\r\n", 405),
        (b"GET /" + b"a" * HEAD_BYTES_MAX * 2, 431),
    ],
)
async def test_bad_requests(request_bytes: bytes, status: int) -> None:
    """
    Every request has an answer, and the next one is served.
    """
    async with Endpoint() as endpoint:
        answer = await endpoint.send(request_bytes)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert (await endpoint.get("/healthz"))[0] == 200


async def test_clients_that_go_away_or_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A client that is slow is cut off; one that hangs up is forgotten.
    """
    monkeypatch.setattr(module, "EXCHANGE_S", 0.05)
    async with Endpoint() as endpoint:
        reader, writer = await endpoint.connect()
        writer.write(b"GET /healthz HT")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        _, writer = await endpoint.connect()
        writer.transport.abort()
        assert (await endpoint.get("/healthz"))[0] == 200


async def test_connections_are_bounded() -> None:
    """
    A client too many is turned away, and there is room again when another one leaves.
    """
    async with Endpoint() as endpoint:
        idle = [await endpoint.connect() for _ in range(CONNECTIONS_MAX)]
        await endpoint.until(lambda count: count == CONNECTIONS_MAX)
        with contextlib.suppress(ConnectionResetError):
            assert await endpoint.send(b"GET /healthz HTTP/1.1\r\n\r\n") == b""
        idle[0][1].close()
        await endpoint.until(lambda count: count < CONNECTIONS_MAX)
        assert (await endpoint.get("/healthz"))[0] == 200
        for _, writer in idle:
            writer.close()


async def test_a_broken_gauge_is_an_answer() -> None:
    """
    A bug in the metrics leaves health checks alone.
    """
    async with Endpoint() as endpoint:
        endpoint.error = KeyError("route")
        assert (await endpoint.get("/metrics"))[0] == 500
        assert endpoint.told == ["metrics_failed"]
        assert (await endpoint.get("/healthz"))[0] == 200


async def test_off() -> None:
    """
    An empty address turns the endpoint off.
    """
    async with Endpoint("") as endpoint:
        assert endpoint.address is None


async def test_a_port_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The agent runs without its endpoint until the port is free.
    """
    monkeypatch.setattr(module, "BIND_RETRY_S", 0.001)
    async with Endpoint() as first:
        assert first.address is not None
        listen = f"127.0.0.1:{first.address[1]}"
        second = Endpoint(listen)
        await second.__aenter__()
        assert second.told[0] == "admin_not_listening"
        assert second.address is None
    assert second._binding is not None
    await second._binding
    assert second.told[-1] == "admin_listening"
    assert (await second.get("/healthz"))[0] == 200
    await second.__aexit__(None, None, None)
    async with Endpoint(listen), Endpoint(listen) as third:
        assert third.address is None


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:2020", ("127.0.0.1", 2020)),
        ("[::1]:0", ("::1", 0)),
        (":2020", ("", 2020)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(listen: str, expected: tuple[str, int]) -> None:
    assert split_listen(listen) == expected


@pytest.mark.parametrize(
    "listen", ["2020", "127.0.0.1", "127.0.0.1:", "a:http", "a:65536", "::1:20", "a:-1", "a:²"]
)
def test_addresses_that_are_none(listen: str) -> None:
    with pytest.raises(ValueError, match=r"port|brackets"):
        split_listen(listen)


def _read(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    samples: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def test_exposition_is_what_prometheus_reads() -> None:
    """
    Labels with every character that must be escaped, large and odd numbers, counters with their suffix.
    """
    counters = Counters()
    odd = 'C:\\new "line"\n{a="b"},é\udce9'
    values: list[tuple[Any, float, tuple[str, ...]]] = [
        (LOG_LAG_BYTES, 2**53, ("a", odd)),
        (LOG_LAG_SECONDS, 0.1, ("a", "/x")),
        (LOG_LAG_SECONDS, -1.5e-9, ("a", "/y")),
        (LOG_LAG_SECONDS, math.inf, ("a", "/z")),
    ]
    for metric, value, labels in values:
        counters.set(metric, value, *labels)
    counters.add(READ_BYTES, 3 * 2**50 + 1, "a")
    counters.add(REQUESTS, 0, "a", "ok")
    samples = _read(render(counters).decode())
    assert (
        samples[
            "tailrace_log_lag_bytes", (("log", odd.replace("\udce9", "\\udce9")), ("route", "a"))
        ]
        == 2**53
    )
    assert samples["tailrace_log_lag_seconds", (("log", "/x"), ("route", "a"))] == 0.1
    assert samples["tailrace_log_lag_seconds", (("log", "/y"), ("route", "a"))] == -1.5e-9
    assert samples["tailrace_log_lag_seconds", (("log", "/z"), ("route", "a"))] == math.inf
    assert samples["tailrace_read_bytes_total", (("route", "a"),)] == 3 * 2**50 + 1
    assert samples["tailrace_requests_total", (("outcome", "ok"), ("route", "a"))] == 0
    assert samples["process_resident_memory_bytes", ()] > 2**20
    assert samples["process_cpu_seconds_total", ()] > 0


def test_every_counter_has_its_kind() -> None:
    """
    Prometheus' own parser finds each family with type and help.
    """
    counters = Counters()
    counters.add(READ_BYTES, 1, "a")
    counters.set(BUDGET_BYTES, 1)
    families = {
        family.name: family for family in text_string_to_metric_families(render(counters).decode())
    }
    assert (families["tailrace_read_bytes"].type, families["tailrace_budget_bytes"].type) == (
        "counter",
        "gauge",
    )
    assert families["tailrace_read_bytes"].documentation == READ_BYTES.help
