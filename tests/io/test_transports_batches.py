"""Writes of many connections in one batch of callbacks: gathered, and sent when the batch ends.

Connections are *busy* when four of them have written in a batch; what they write in the next one is
gathered. asyncio sends each write at once, and a program sees the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from support import process
from support.loops import Loop, Run
from support.net import socket_pair
from support.transports import everything, transport_and_peer

MANY = 4
LESSON = b"1"


def arrived(peer: socket.socket) -> bytes:
    """What has arrived by now."""
    try:
        return peer.recv(2**20)
    except BlockingIOError:
        return b""


@contextlib.asynccontextmanager
async def connections(count: int = MANY) -> AsyncIterator[list[tuple[Any, socket.socket]]]:
    """So many transports with their peers, all of which have written in the last batch."""
    async with contextlib.AsyncExitStack() as stack:
        made = [await stack.enter_async_context(transport_and_peer()) for _ in range(count)]
        pairs = [(transport, peer) for transport, _, peer in made]
        await write_in_one_batch(pairs)
        yield pairs


async def write_in_one_batch(pairs: list[tuple[Any, socket.socket]]) -> None:
    for transport, _ in pairs:
        transport.write(LESSON)
    await asyncio.sleep(0)
    assert [arrived(peer) for _, peer in pairs] == [LESSON] * len(pairs)


async def batch(*callbacks: Callable[[], object]) -> None:
    """Runs them in one batch, and comes back in the next."""
    loop = asyncio.get_running_loop()
    for callback in callbacks:
        loop.call_soon(callback)
    for _ in range(2):  # the first step comes behind the callbacks, in their batch
        await asyncio.sleep(0)


# What is gathered, and until when.


def test_what_busy_connections_write_leaves_when_the_batch_ends(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections() as pairs:
            began = took = 0.0
            seen: list[bytes] = []

            def begin() -> None:
                nonlocal began
                began = time.perf_counter()

            def write(transport: Any) -> None:
                transport.write(b"head,")
                transport.write(b"body")

            def look() -> None:
                nonlocal took
                took = time.perf_counter() - began
                seen[:] = [arrived(peer) for _, peer in pairs]

            for _ in range(1000):  # a busy machine may not let the callbacks run within their millisecond
                writes = (lambda transport=transport: write(transport) for transport, _ in pairs)
                await batch(begin, *writes, look)
                late = [arrived(peer) for _, peer in pairs]
                if took < 0.001:
                    assert seen == [b""] * MANY
                    assert late == [b"head,body"] * MANY
                    return
            pytest.fail("no batch ran through in time")

    pyloop_loop.run_until_complete(main())


def test_few_connections_write_at_once(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections(MANY - 1) as pairs:
            for _ in range(3):
                for transport, peer in pairs:
                    transport.write(b"at once")
                    assert arrived(peer) == b"at once"
                await asyncio.sleep(0)

    pyloop_loop.run_until_complete(main())


def test_one_connection_that_writes_often_is_not_many(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections(1) as [(transport, peer)]:
            seen: list[bytes] = []
            transport.set_write_buffer_limits(1)  # each second write is too much to wait
            for _ in range(3 * MANY):
                transport.write(LESSON)
            await batch(lambda: transport.write(b"h"), lambda: seen.append(arrived(peer)))
            assert seen == [LESSON * 3 * MANY + b"h"]

    pyloop_loop.run_until_complete(main())


def test_connections_that_are_busy_no_more_write_at_once(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]
            transport.write(b"gathered")
            await asyncio.sleep(0)
            assert arrived(peer) == b"gathered"
            transport.write(b"at once")
            assert arrived(peer) == b"at once"

    pyloop_loop.run_until_complete(main())


def test_a_batch_in_which_nobody_writes_teaches_nothing(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]
            for _ in range(5):
                await asyncio.sleep(0)
            transport.write(b"gathered")
            assert arrived(peer) == b""
            await asyncio.sleep(0)
            assert arrived(peer) == b"gathered"

    pyloop_loop.run_until_complete(main())


def test_a_batch_that_takes_long_is_not_waited_for(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]
            seen: list[bytes] = []
            await batch(
                lambda: transport.write(b"gathered"),
                lambda: time.sleep(0.002),
                lambda: seen.append(arrived(peer)),
            )
            assert seen == [b"gathered"]

    pyloop_loop.run_until_complete(main())


def test_what_is_much_does_not_wait(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]
            transport.write(bytes(2**16))
            assert arrived(peer) == b""
            transport.write(b"x")
            assert len(arrived(peer)) > 0
            transport.abort()

    pyloop_loop.run_until_complete(main())


# What the program sees.


def test_what_another_callback_asks_is_answered_as_if_it_had_been_sent(run: Run) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]

            def ask() -> None:
                assert "bufsize=0" in repr(transport)
                assert transport.get_write_buffer_size() == 0
                assert arrived(peer) == b"written"

            await batch(lambda: transport.write(b"written"), ask)

    run(main())


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
def test_what_another_callback_ends_is_sent_before(run: Run, end: str) -> None:
    async def main() -> None:
        async with connections() as pairs:
            transport, peer = pairs[0]
            await batch(lambda: transport.write(b"written"), getattr(transport, end))
            assert await everything(peer) == b"written"
            transport.abort()
            await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_what_a_callback_wrote_before_another_ended_the_run_is_sent(
    loop: Loop, raised: type[BaseException]
) -> None:
    def end() -> None:
        raise raised

    async def main() -> None:
        async with connections() as pairs:
            known.extend(pairs)
            loop.call_soon(pairs[0][0].write, b"written")
            loop.call_soon(end)
            await loop.create_future()

    known: list[tuple[Any, socket.socket]] = []
    task = loop.create_task(main())
    with pytest.raises(raised):
        loop.run_forever()
    assert arrived(known[0][1]) == b"written"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_what_a_callback_wrote_before_the_run_was_stopped_is_sent(loop: Loop) -> None:
    with socket_pair() as (ours, peer):
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        task = loop.create_task(_learn(loop))
        loop.run_until_complete(task)
        loop.call_soon(transport.write, b"written")
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert arrived(peer) == b"written"
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))


async def _learn(loop: Loop) -> None:
    async with connections():
        pass


def test_a_peer_that_has_gone_ends_its_own_connection_alone(run: Run) -> None:
    async def main() -> None:
        async with connections() as pairs:
            (broken, gone), *others = pairs
            gone.close()
            await batch(*(lambda transport=transport: transport.write(b"written") for transport, _ in pairs))
            assert [arrived(peer) for _, peer in others] == [b"written"] * len(others)
            while not broken.is_closing():
                await asyncio.sleep(0)
            assert not any(transport.is_closing() for transport, _ in others)

    run(main())


def test_each_answer_is_whole_and_in_its_order(run: Run) -> None:
    """64 connections, each answered in many steps."""

    async def main() -> None:
        async with connections(64) as pairs:

            async def answer(transport: Any, number: int) -> None:
                for piece in range(20):
                    transport.write(b"%d:%d," % (number, piece))
                    if (number + piece) % 3 == 0:
                        await asyncio.sleep(0)
                transport.write_eof()

            reading = [asyncio.ensure_future(everything(peer)) for _, peer in pairs]
            await asyncio.gather(*(answer(transport, number) for number, (transport, _) in enumerate(pairs)))
            for number, got in enumerate(await asyncio.gather(*reading)):
                assert got == b"".join(b"%d:%d," % (number, piece) for piece in range(20))

    run(main())


def test_a_child_does_not_send_what_its_parents_callbacks_have_gathered(pyloop_loop: Loop) -> None:
    output = process.output(
        "pyloop",
        """
import os, socket, warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(4):
        ours, peer = socket.socketpair()
        peer.setblocking(False)
        ours.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        made.append((transport, peer))
    for transport, _ in made:
        transport.write(b"1")
    await asyncio.sleep(0)

    def fork():
        pid = os.fork()
        if not pid:
            made[0][0].abort()
            os._exit(0)
        os.waitpid(pid, 0)

    loop.call_soon(made[0][0].write, b"gathered")
    loop.call_soon(fork)
    await asyncio.sleep(0)
    print(made[0][1].recv(100))
    for transport, peer in made:
        transport.abort()
        peer.close()

asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert output.split() == [repr(b"1gathered")]
