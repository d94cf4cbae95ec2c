"""Random programs of one StreamReader: asyncio and pyloop come to the same, after each of their acts."""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import LoopFactory, new_loop
from support.net import socket_pair

ALPHABET = b"abc\r\n"
LIMITS = (1, 3, 10, 100)


class Program:
    """One reader, the peer's socket, and at most two calls that wait."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.log: list[Any] = []
        self.ended = False

    async def play(self) -> None:
        with socket_pair() as (ours, self.peer):
            self.reader: Any
            limit = self.random.choice(LIMITS)
            self.writer: Any
            self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=limit)
            self.calls: list[asyncio.Task[Any]] = []
            for _ in range(self.random.randint(3, 20)):
                act = self.random.choices(
                    [
                        self.send,
                        self.call,
                        self.cancel,
                        self.end,
                        self.feed,
                        self.fail,
                        self.limit,
                        self.write,
                    ],
                    [10, 12, 2, 1, 1, 0.5, 1, 2],
                )[0]
                act()
                await self.settle()
                self.note()
            for call in self.calls:
                call.cancel()
            await self.settle()
            self.note()
            self.writer.close()
            await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def settle(self) -> None:
        """Wait until what was sent is here, or the reader is paused, and the calls have seen it."""
        transport, reader, quiet = self.writer.transport, self.reader, 0
        for _ in range(10_000):
            is_here = not self.in_the_kernel() and reader._eof == self.ended
            quiet = quiet + 1 if is_here or not transport.is_reading() else 0
            if quiet == 8:
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not arrive")

    def in_the_kernel(self) -> int:
        fd = self.writer.get_extra_info("socket").fileno()
        (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
        return int(count)

    def note(self) -> None:
        reader = self.reader
        state = bytes(reader._buffer), reader._eof, reader._paused, reader._waiter is not None
        self.log.append(
            (*state, repr(reader.exception()), reader.at_eof(), self.writer.transport.is_reading())
        )

    def data(self) -> bytes:
        return bytes(self.random.choices(ALPHABET, k=self.random.choice((1, 2, 5, 30))))

    # The acts.

    def send(self) -> None:
        if self.ended:
            return
        data = self.data()
        self.peer.send(data)
        self.log.append(("send", data))

    def call(self) -> None:
        choice, reader = self.random, self.reader
        count = choice.choice((-1, 0, 1, 2, 7, 50, True))
        separator: Any = choice.choice((b"\n", b"\r\n", b"ab", b"", bytearray(b"c"), "a"))
        if sys.version_info >= (3, 13) and choice.random() < 0.2:
            separator = (b"\r\n", b"c")
        name, args = choice.choice(
            [
                ("read", (count,)),
                ("readexactly", (count,)),
                ("readexactly", (choice.choice((3, 2.5, "1")),)),
                ("readuntil", (separator,)),
                ("readuntil", ()),
                ("readline", ()),
            ]
        )
        self.calls = [call for call in self.calls if not call.done()]
        if len(self.calls) < 2:
            self.calls.append(asyncio.ensure_future(self.called(name, getattr(reader, name)(*args), args)))

    async def called(self, name: str, coroutine: Any, args: tuple[Any, ...]) -> None:
        try:
            result = await coroutine
        except BaseException as raised:
            context = raised.__context__
            known = [getattr(raised, attribute, None) for attribute in ("partial", "expected", "consumed")]
            self.log.append((name, args, type(raised), raised.args, known, type(context)))
            if isinstance(raised, asyncio.CancelledError):
                raise
        else:
            self.log.append((name, args, type(result), result))

    def cancel(self) -> None:
        for call in self.calls:
            call.cancel("stop")

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self.peer.shutdown(socket.SHUT_WR)
        self.log.append("end")

    def feed(self) -> None:
        data = self.data()
        try:
            self.reader.feed_data(data)
        except AssertionError as raised:
            self.log.append(str(raised))

    def fail(self) -> None:
        self.reader.set_exception(LookupError("broken"))

    def limit(self) -> None:
        self.reader._limit = self.random.choice(LIMITS)

    def write(self) -> None:
        self.writer.write(b"x")
        self.calls.append(asyncio.ensure_future(self.drained()))

    async def drained(self) -> None:
        try:
            drained: Any = await self.writer.drain()
            self.log.append(("drain", drained))
        except LookupError as raised:
            self.log.append(("drain", str(raised)))


ACTS: dict[Callable[[Program], None], float] = {
    Program.send: 10,
    Program.call: 12,
    Program.cancel: 2,
    Program.end: 1,
    Program.feed: 1,
    Program.fail: 0.5,
    Program.limit: 1,
    Program.write: 2,
}


def played(seed: int, loop: asyncio.AbstractEventLoop) -> list[Any]:
    program = Program(seed)
    loop.run_until_complete(program.play())
    return program.log


@pytest.mark.parametrize("start", range(0, 1_000, 100))
def test_a_random_program_comes_to_the_same(pyloop_factory: LoopFactory, start: int) -> None:
    ours, theirs = pyloop_factory(), new_loop("asyncio")
    try:
        for seed in range(start, start + 100):
            assert played(seed, ours) == played(seed, theirs), seed
    finally:
        ours.close()
        theirs.close()
