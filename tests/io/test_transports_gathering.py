"""Writes of a connection that writes in pieces: gathered, and sent when the callback ends.

A connection is *taught* by two writes in one turn; what follows is gathered. asyncio sends all of it at once,
and a program sees the same.
"""

from __future__ import annotations

import asyncio
import io
import random
import socket
from typing import Any

import pytest

from support import process
from support.loops import Loop, Run
from support.net import socket_pair
from support.protocols import Recorder
from support.transports import FAMILIES, MEGABYTES, everything, transport_and_peer

LESSON = b"12"


def teach(transport: Any) -> None:
    """Has it written in pieces; what it writes next is gathered."""
    for byte in LESSON:
        transport.write(bytes([byte]))


def arrived(peer: socket.socket) -> bytes:
    """What has arrived by now."""
    try:
        return peer.recv(2**20)
    except BlockingIOError:
        return b""


# What is gathered, and until when.


@FAMILIES
@pytest.mark.parametrize("kind", ["callback", "step"])
def test_what_is_written_in_pieces_leaves_when_the_callback_ends(
    pyloop_loop: Loop, family: int, kind: str
) -> None:
    async def main() -> None:
        async with transport_and_peer(family=family) as (transport, _, peer):
            seen = []

            def write() -> None:
                transport.write(b"head,")
                transport.write(b"body")
                seen.append(arrived(peer))

            async def step() -> None:
                write()

            teach(transport)
            assert arrived(peer) == LESSON
            pyloop_loop.call_soon(write) if kind == "callback" else pyloop_loop.create_task(step())
            pyloop_loop.call_soon(lambda: seen.append(arrived(peer)))
            await asyncio.sleep(0)
            assert seen == [b"", b"head,body"]

    pyloop_loop.run_until_complete(main())


def test_who_writes_once_in_a_callback_is_sent_at_once(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            teach(transport)
            await asyncio.sleep(0)
            transport.write(b"gathered")  # one write only
            await asyncio.sleep(0)
            assert arrived(peer) == LESSON + b"gathered"
            for _ in range(3):
                transport.write(b"at once")
                assert arrived(peer) == b"at once"
                await asyncio.sleep(0)

    pyloop_loop.run_until_complete(main())


def test_what_is_much_does_not_wait(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            teach(transport)
            transport.write(b"head")
            assert arrived(peer) == LESSON
            transport.write(bytes(2**16))
            got = arrived(peer)
            assert got.startswith(b"head\0\0")
            assert len(got) + transport.get_write_buffer_size() <= 4 + 2**16
            transport.abort()

    pyloop_loop.run_until_complete(main())


def test_nothing_is_gathered_outside_of_the_loop(loop: Loop) -> None:
    with socket_pair() as (ours, peer):
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))
        for _ in range(2):
            teach(transport)
            transport.write(b"more")
            assert arrived(peer) == LESSON + b"more"
        transport.close()
        loop.run_until_complete(protocol.lost)


# What the program sees.


def test_the_size_of_the_buffer_is_what_the_kernel_has_not_taken(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            teach(transport)
            transport.write(b"head")
            assert "bufsize=0" in repr(transport)
            assert transport.get_write_buffer_size() == 0
            assert arrived(peer) == LESSON + b"head"

    run(main())


@pytest.mark.parametrize("high", [0, 1, 2**16])
def test_the_protocol_is_paused_by_the_write_that_is_too_much(run: Run, high: int) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            transport.set_write_buffer_limits(high)
            teach(transport)
            transport.write(b"head")
            assert "pause" not in protocol.events
            transport.write(MEGABYTES)
            assert protocol.events[-1] == "pause"
            assert transport.get_write_buffer_size() > high

    run(main())


def test_limits_that_are_set_meanwhile_are_kept(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            teach(transport)
            transport.write(b"head")
            transport.set_write_buffer_limits(0)
            assert protocol.events == ["made"]
            assert arrived(peer) == LESSON + b"head"

    run(main())


def test_a_buffer_may_be_changed_meanwhile(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            data = bytearray(b"as it was")
            teach(transport)
            transport.write(data)
            transport.write(memoryview(data)[3:])
            data[:] = b"changed, and longer"
            transport.write_eof()
            assert await everything(peer) == LESSON + b"as it wasit was"

    run(main())


@pytest.mark.parametrize("end", ["close", "abort", "write_eof", "_force_close", "_fatal_error"])
def test_what_is_gathered_goes_out_before_the_end(run: Run, end: str) -> None:
    async def main() -> list[str]:
        async with transport_and_peer() as (transport, protocol, peer):
            teach(transport)
            transport.write(b"head")
            transport.write(b"body")
            method = getattr(transport, end)
            method() if not end.startswith("_") else method(ConnectionResetError())
            asyncio.get_running_loop().call_soon(protocol.events.append, "turn")
            assert await everything(peer) == LESSON + b"headbody"
            if end != "write_eof":
                await protocol.lost
                assert (protocol.error is None) is not end.startswith("_")
            await asyncio.sleep(0)
            return list(protocol.events)

    events = run(main())
    assert events == (["made", "turn"] if end == "write_eof" else ["made", "lost", "turn"])


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_what_a_method_has_written_before_it_raised_goes_out(run: Run, method: str) -> None:
    class Raises(Recorder):
        def data_received(self, data: bytes) -> None:
            self.answer()

        def eof_received(self) -> bool:
            self.answer()
            return True

        def answer(self) -> None:
            teach(self.transport)
            self.transport.write(b"head")
            self.transport.write(b"body")
            raise ValueError("raised")

    async def main() -> None:
        said: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
        async with transport_and_peer(Raises) as (_, protocol, peer):
            peer.send(b"x") if method == "data_received" else peer.shutdown(socket.SHUT_WR)
            assert await everything(peer) == LESSON + b"headbody"
            await protocol.lost
            assert isinstance(protocol.error, ValueError)
        assert said == [f"Fatal error: protocol.{method}() call failed."]

    run(main())


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_a_callback_has_written_before_it_raised_goes_out(
    loop: Loop, raised: type[BaseException]
) -> None:
    def callback() -> None:
        teach(transport)
        transport.write(b"head")
        transport.write(b"body")
        loop.stop()
        raise raised("raised")

    loop.set_exception_handler(lambda *_: None)
    with socket_pair() as (ours, peer):
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))
        loop.call_soon(callback)
        if raised is ValueError:
            loop.run_forever()
        else:
            with pytest.raises(raised):
                loop.run_forever()
        assert arrived(peer) == LESSON + b"headbody"
        transport.close()
        loop.run_until_complete(protocol.lost)


def test_a_peer_that_has_gone_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            teach(transport)
            transport.pause_reading()
            peer.close()
            transport.write(b"head")
            transport.write(b"body")
            await protocol.lost
            assert isinstance(protocol.error, OSError)
            assert transport.is_closing()

    run(main())


def test_a_file_is_sent_behind_what_is_gathered(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with transport_and_peer(family=socket.AF_INET) as (transport, _, peer):
            reading = loop.create_task(everything(peer))
            teach(transport)
            transport.write(b"head")
            await loop.sendfile(transport, io.BytesIO(b"file"))
            with open(__file__, "rb") as this:
                teach(transport)
                transport.write(b"head")
                await loop.sendfile(transport, this)
                transport.write_eof()
                this.seek(0)
                assert await reading == (LESSON + b"head") + b"file" + (LESSON + b"head") + this.read()

    run(main())


@FAMILIES
@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_written_arrives_in_its_order(run: Run, family: int, seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        written = bytearray()
        async with transport_and_peer(family=family) as (transport, protocol, peer):
            reading = loop.create_task(everything(peer))

            def write() -> None:
                for _ in range(chance.choice([1, 1, 2, 3, 30])):
                    size = chance.choice([0, 1, 10, 1000, 10_000, 70_000])
                    pieces = [chance.randbytes(size) for _ in range(chance.choice([1, 1, 3]))]
                    written.extend(b"".join(pieces))
                    if len(pieces) == 1:
                        transport.write(chance.choice([bytes, bytearray, memoryview])(pieces[0]))
                    else:
                        transport.writelines(pieces)
                    if chance.random() < 0.1:
                        transport.get_write_buffer_size()

            for _ in range(20):
                write() if chance.random() < 0.5 else loop.call_soon(write)
                await asyncio.sleep(chance.choice([0, 0, 0.0005]))
            while protocol.events[-1] == "pause":
                await asyncio.sleep(0.001)
            transport.close()
            assert await reading == written

    run(main())


def test_a_child_does_not_send_what_its_parent_has_gathered(pyloop_loop: Loop) -> None:
    output = process.output(
        "pyloop",
        """
import os, socket, warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def main():
    loop = asyncio.get_running_loop()
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    ours.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    transport.write(b"1")
    transport.write(b"2")
    transport.write(b"gathered")
    pid = os.fork()
    if not pid:
        transport.write(b"child")
        transport.abort()
        os._exit(0)
    os.waitpid(pid, 0)
    await asyncio.sleep(0)
    print(peer.recv(100))
    transport.abort()
    peer.close()

asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert output.split() == [repr(b"12childgathered")]


@pytest.mark.parametrize("pieces", [1, 5])
def test_what_the_last_callback_of_a_run_writes_is_sent(loop: Loop, pieces: int) -> None:
    with socket_pair() as (ours, peer):
        transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=ours))

        def last() -> None:
            loop.stop()
            for _ in range(pieces):
                transport.write(b"x")

        loop.call_soon(last)
        loop.run_forever()
        assert arrived(peer) == b"x" * pieces
        transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
