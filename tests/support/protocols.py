"""Protocols that write down what befalls them."""

from __future__ import annotations

import asyncio
from typing import Any


class Recorder(asyncio.Protocol):
    """A stream protocol. `events` has everything but the data, which is in `data`."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.error: Exception | None = None
        self.lost: asyncio.Future[None] = self.loop.create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self._changed.set()

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        self._changed.set()
        return None

    def pause_writing(self) -> None:
        self.events.append("pause")
        self._changed.set()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.error = exc
        self.lost.set_result(None)  # a second call would be an error
        self._changed.set()

    async def until(self, condition: Any) -> None:
        """Waits until `condition()` holds after something happened."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def received(self, length: int) -> bytes:
        """Waits for so many bytes in all."""
        await self.until(lambda: len(self.data) >= length or "lost" in self.events)
        return bytes(self.data)


class Echo(asyncio.Protocol):
    """Sends back whatever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Datagrams(asyncio.DatagramProtocol):
    """A datagram protocol."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: Any = None
        self.events: list[str] = []
        self.received: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.lost: asyncio.Future[Exception | None] = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.put_nowait((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.put_nowait(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)
