"""
An HTTP server that answers byte for byte what a test says.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Wire:
    """
    A server that says *answers*, one a request, and closes the connection where an answer ends with None.
    """

    def __init__(self, *answers: bytes | None, tls: ssl.SSLContext | None = None) -> None:
        self._answers = iter(answers)
        self._tls = tls
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.at_once = self.most = 0
        self.delay_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                self.heads.append(head)
                size = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                answer = next(self._answers, OK)
                if answer is not None and answer.startswith(b"EARLY "):
                    writer.write(answer[6:])
                    await writer.drain()
                    break
                self.bodies.append(await reader.readexactly(int(size or 0)))
                await asyncio.sleep(self.delay_s)
                self.at_once -= 1
                if answer is None:
                    break
                writer.write(answer)
                if b"close" in answer:
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self._tls)
        async with server:
            port = server.sockets[0].getsockname()[1]
            yield f"{'https' if self._tls else 'http'}://127.0.0.1:{port}"
