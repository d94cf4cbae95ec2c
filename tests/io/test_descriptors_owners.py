"""Who closes a descriptor that a caller has given to the loop, when the caller is cancelled."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.loops import Loop, Run
from support.protocols import Datagrams, Recorder
from support.tls import client_context, server_context

TURNS = 8


def _sockets() -> tuple[Any, Any]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def _packets() -> tuple[Any, Any]:
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    ours.setblocking(False)
    return ours, theirs


def _pipe() -> tuple[Any, Any]:
    out, into = os.pipe()
    return open(out, "rb", 0), open(into, "wb", 0)


#: What the caller has, and what the loop is asked to do with it.
KINDS: dict[str, tuple[Callable[[], tuple[Any, Any]], Callable[[Any, Any], Awaitable[Any]]]] = {
    "connection": (_sockets, lambda loop, end: loop.create_connection(Recorder, sock=end)),
    "encrypted connection": (
        _sockets,
        lambda loop, end: loop.create_connection(
            Recorder, sock=end, ssl=client_context(), server_hostname="localhost"
        ),
    ),
    "unix connection": (_sockets, lambda loop, end: loop.create_unix_connection(Recorder, sock=end)),
    "accepted": (_sockets, lambda loop, end: loop.connect_accepted_socket(Recorder, end)),
    "accepted for TLS": (
        _sockets,
        lambda loop, end: loop.connect_accepted_socket(Recorder, end, ssl=server_context()),
    ),
    "datagrams": (_packets, lambda loop, end: loop.create_datagram_endpoint(Datagrams, sock=end)),
    "reading end": (_pipe, lambda loop, end: loop.connect_read_pipe(Recorder, end)),
    "writing end": (lambda: _pipe()[::-1], lambda loop, end: loop.connect_write_pipe(Recorder, end)),
}


async def _attempt(loop: Any, kind: str, turns: int) -> None:
    """The caller closes what it has as soon as it hears of its cancellation, and others get the numbers."""
    make, connect = KINDS[kind]
    others: list[socket.socket] = []
    end, other = make()

    async def caller() -> Any:
        try:
            return await connect(loop, end)
        except asyncio.CancelledError:
            end.close()
            others.extend(socket.socketpair())
            raise

    task = asyncio.ensure_future(caller())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    try:
        transport, protocol = await task
    except asyncio.CancelledError:
        if not others:  # the caller had not begun
            end.close()
            others.extend(socket.socketpair())
    else:
        transport.close()
        end.close()
        others.extend(socket.socketpair())
        await protocol.lost
    seen = [os.fstat(sock.fileno()) for sock in others]
    for _ in range(4):
        await asyncio.sleep(0)
    assert [os.fstat(sock.fileno()) for sock in others] == seen
    # Nobody else is taken for their owner.
    heard = asyncio.Event()
    ours, theirs = others
    loop.add_reader(ours, heard.set)
    theirs.send(b"x")
    await heard.wait()
    loop.remove_reader(ours)
    for each in (ours, theirs, other):
        each.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_caller_that_is_cancelled_may_close_what_it_gave_to_the_loop(
    loop: Loop, run: Run, kind: str
) -> None:
    async def main() -> None:
        for turns in range(TURNS):
            await _attempt(loop, kind, turns)

    run(main())
