"""
What the machine can do with the same bytes, in the same minute: the floor under every figure.

Each yardstick is CPU time of one thread over the whole corpus; the wall clock of a shared machine
would measure its neighbours.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
import time
from typing import TYPE_CHECKING

from isal import igzip

from bench.certificates import write_certificates
from bench.corpus import MIB
from bench.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.runs import Run

READ_BYTES = 1 << 20
#: About one full PutLogEvents body.
BODY_BYTES = 900_000
GZIP_LEVEL = 1
READ, GZIP, SHA256, TLS = "read", "ISA-L gzip level 1", "SHA-256", "TLS write"


def _blocks(files: Sequence[str], size: int) -> Iterator[memoryview]:
    buffer = bytearray(size)
    view = memoryview(buffer)
    for path in files:
        with open(path, "rb", buffering=0) as file:
            while length := file.readinto(buffer):
                yield view[:length]


def _read(files: Sequence[str]) -> float:
    began = time.thread_time()
    for _ in _blocks(files, READ_BYTES):
        pass
    return time.thread_time() - began


def _over_blocks(
    make: Callable[[], Callable[[memoryview], object]],
) -> Callable[[Sequence[str]], float]:
    def measure(files: Sequence[str]) -> float:
        work = make()
        spent = 0.0
        for block in _blocks(files, BODY_BYTES):
            began = time.thread_time()
            work(block)
            spent += time.thread_time() - began
        return spent

    return measure


def _gzip() -> Callable[[memoryview], object]:
    return lambda block: igzip.compress(block, GZIP_LEVEL)


def _sha256() -> Callable[[memoryview], object]:
    return lambda block: hashlib.sha256(block).digest()


def _tls_write() -> Callable[[memoryview], object]:
    """
    Write to a TLS session whose other end is memory: encryption alone, without a network.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    with tempfile.TemporaryDirectory() as directory:
        certificates = write_certificates(directory)
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(certificates.certificate, certificates.key)
        client_context = ssl.create_default_context(cafile=certificates.authority)
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    shaken: set[ssl.SSLObject] = set()
    while len(shaken) < 2:
        for end in (client, server):
            try:
                end.do_handshake()
                shaken.add(end)
            except ssl.SSLWantReadError:
                continue

    def write(block: memoryview) -> None:
        client.write(block)
        to_server.read()

    return write


YARDSTICKS: dict[str, Callable[[Sequence[str]], float]] = {
    READ: _read,
    GZIP: _over_blocks(_gzip),
    SHA256: _over_blocks(_sha256),
    TLS: _over_blocks(_tls_write),
}


def limit_s(run: Run, files: Sequence[str], bodies: str) -> dict[str, float]:
    """
    Return the CPU that *run*'s bytes cost at least, and its own over that.

    Lines are read, bodies gzipped, what is left hashed and encrypted; *bodies* is a file with some of them.
    """
    rates = measure(files)
    rates[GZIP] = measure([bodies])[GZIP]
    floor_s = run.size / rates[READ] + run.body_bytes / rates[GZIP]
    floor_s += run.wire_bytes / rates[SHA256] + run.wire_bytes / rates[TLS]
    return {"floor_s": floor_s, "cpu_s": run.cpu_s, "ratio": run.cpu_s / floor_s}


def table(figures: dict[str, float]) -> str:
    """
    Return what the machine does with the same bytes, as Markdown.
    """
    rows = [[name, f"{rate / MIB:,.0f}"] for name, rate in figures.items()]
    return markdown(("one thread, the same bytes", "MiB per CPU second"), rows)


def measure(files: Sequence[str]) -> dict[str, float]:
    """
    Return bytes a second of CPU time for every yardstick.
    """
    size = sum(os.stat(path).st_size for path in files)
    _read(files)  # So that the page cache is warm for all alike.
    return {name: size / max(take(files), 1e-9) for name, take in YARDSTICKS.items()}
