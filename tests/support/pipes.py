"""Pipes, and what is like them, with transports at their ends."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import tty
from collections.abc import Callable
from typing import Any

from support.protocols import Recorder

MUCH = bytes(200_000)


def pipe() -> tuple[Any, Any]:
    out, into = os.pipe()
    return open(out, "rb", 0), open(into, "wb", 0)


def sockets() -> tuple[Any, Any]:
    return socket.socketpair()


def terminal() -> tuple[Any, Any]:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return open(theirs, "rb", 0), open(ours, "wb", 0)


async def reading(end: Any, make: Callable[[], Any] = Recorder) -> Any:
    transport, protocol = await asyncio.get_running_loop().connect_read_pipe(make, end)
    protocol.transport = transport
    return protocol


async def writing(end: Any, make: Callable[[], Any] = Recorder) -> Any:
    transport, protocol = await asyncio.get_running_loop().connect_write_pipe(make, end)
    protocol.transport = transport
    return protocol


def fill(fd: int) -> int:
    """Write until nothing more goes in; how much did."""
    os.set_blocking(fd, False)
    written = 0
    try:
        while True:
            written += os.write(fd, MUCH)
    except BlockingIOError:
        return written
