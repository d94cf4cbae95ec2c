"""How a stream ends, and how the connection of a stream transport does."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from support.loops import Run
from support.net import receive_all
from support.protocols import Recorder
from support.transports import (
    FAMILIES,
    MEGABYTES,
    HalfOpen,
    everything,
    fill,
    fill_peer,
    transport_and_peer,
    until,
)

# The end of the stream.


@FAMILIES
def test_the_end_comes_behind_what_waits_and_reading_goes_on(run: Run, family: int) -> None:
    async def main() -> None:
        async with transport_and_peer(HalfOpen, family) as (transport, protocol, peer):
            assert transport.can_write_eof() is True
            fill(transport)
            transport.write_eof()
            transport.write_eof()
            assert await everything(peer) == MEGABYTES
            await asyncio.get_running_loop().sock_sendall(peer, b"still")
            assert await protocol.received(5) == b"still"
            assert transport.is_reading()
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            assert not transport.is_closing()

    run(main())


def test_the_end_is_not_written_after_close(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            transport.write_eof()
            assert await everything(peer) == MEGABYTES
            await protocol.lost
            transport.write_eof()

    run(main())


@FAMILIES
@pytest.mark.parametrize("keeps_open", [True, False, None, "yes", 0], ids=repr)
def test_the_protocol_says_whether_the_connection_stays_open(run: Run, family: int, keeps_open: Any) -> None:
    class Says(Recorder):
        def eof_received(self) -> Any:
            super().eof_received()
            return keeps_open

    async def main() -> None:
        async with transport_and_peer(Says, family) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            assert transport.is_closing() is not bool(keeps_open)
            if keeps_open:
                transport.write(b"still open")
                assert await receive_all(asyncio.get_running_loop(), peer, 10) == b"still open"
                transport.close()
            await protocol.lost
            assert protocol.events == ["made", "eof", "lost"]
            assert protocol.error is None

    run(main())


@FAMILIES
def test_the_end_is_told_once_whatever_is_written_afterwards(run: Run, family: int) -> None:
    async def main() -> None:
        async with transport_and_peer(HalfOpen, family) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            for _ in range(3):
                fill(transport)
                await receive_all(asyncio.get_running_loop(), peer, len(MEGABYTES))
                await asyncio.sleep(0.001)
            transport.write_eof()
            assert await everything(peer) == b""
            await asyncio.sleep(0.002)
            assert protocol.events.count("eof") == 1
            assert not transport.is_closing()

    run(main())


@FAMILIES
def test_a_connection_that_was_ended_both_ways_is_lost_when_it_is_closed(run: Run, family: int) -> None:
    async def main() -> None:
        async with transport_and_peer(HalfOpen, family) as (transport, protocol, peer):
            transport.write_eof()
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            await asyncio.sleep(0.002)
            assert protocol.events == ["made", "eof"]
            transport.close()
            await protocol.lost
            assert protocol.error is None

    run(main())


def test_the_end_waits_while_reading_is_paused(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"data")
            peer.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.002)
            assert protocol.events == ["made"]
            transport.resume_reading()
            await protocol.lost
            assert protocol.data == b"data"
            assert protocol.events == ["made", "eof", "lost"]

    run(main())


def test_a_transport_that_is_paused_and_resumed_behind_the_end_tells_of_it_again(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(HalfOpen) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.events)
            transport.pause_reading()
            transport.resume_reading()
            await until(lambda: protocol.events.count("eof") == 2)

    run(main())


# How a connection ends.


@pytest.mark.parametrize(
    "ends", [["close"], ["close", "close"], ["close", "abort"], ["abort", "abort"]], ids="-".join
)
def test_connection_lost_comes_once_later_with_none(run: Run, ends: list[str]) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            assert transport.is_closing() is False
            for end in ends:
                getattr(transport, end)()
                assert transport.is_closing() is True
            assert protocol.events == ["made"]
            assert transport.get_protocol() is protocol
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert protocol.events == ["made", "lost"]
            assert protocol.error is None
            for end in "close", "abort":
                getattr(transport, end)()
            await asyncio.sleep(0.001)
            assert protocol.events == ["made", "lost"]
            assert transport.get_protocol() is None
            assert transport.is_closing() is True
            assert transport.get_write_buffer_size() == 0
            assert await everything(peer) == b""

    run(main())


def test_close_sends_what_waits_and_abort_does_not(run: Run) -> None:
    async def main() -> None:
        for end in "close", "abort":
            async with transport_and_peer() as (transport, protocol, peer):
                fill(transport)
                getattr(transport, end)()
                assert (transport.get_write_buffer_size() > 0) is (end == "close")
                got = await everything(peer)
                await protocol.lost
                assert (got == MEGABYTES) is (end == "close")
                assert protocol.error is None

    run(main())


def test_abort_overtakes_a_close_that_still_sends(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await protocol.lost
            assert protocol.error is None
            assert len(await everything(peer)) < len(MEGABYTES)

    run(main())


def test_what_is_written_while_close_still_sends_is_sent_too(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            transport.write(b"last words")
            assert await everything(peer) == MEGABYTES + b"last words"
            await protocol.lost

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("place", ["connection_made", "data_received", "eof_received"])
def test_a_connection_may_be_ended_in_any_callback(run: Run, end: str, place: str) -> None:
    class Ends(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"hello")
            if place == "connection_made":
                getattr(transport, end)()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if place == "data_received":
                self.transport.write(b"bye")
                getattr(self.transport, end)()

        def eof_received(self) -> bool:
            super().eof_received()
            getattr(self.transport, end)()
            return True

    async def main() -> None:
        async with transport_and_peer(Ends) as (_, protocol, peer):
            if place != "connection_made":
                peer.send(b"data")
                peer.shutdown(socket.SHUT_WR)
            await protocol.lost
            assert protocol.error is None
            expected = {
                "connection_made": ["made", "lost"],
                "data_received": ["made", "lost"],
                "eof_received": ["made", "eof", "lost"],
            }
            assert protocol.events == expected[place]
            try:
                assert await everything(peer) == (b"hellobye" if place == "data_received" else b"hello")
            except ConnectionResetError:
                assert place == "data_received"  # the end of the stream was not received

    run(main())


def test_close_in_connection_made_sends_what_waits(run: Run) -> None:
    class Closes(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            fill(transport)
            transport.close()

    async def main() -> None:
        async with transport_and_peer(Closes) as (_, protocol, peer):
            assert await everything(peer) == MEGABYTES
            await protocol.lost
            assert protocol.error is None

    run(main())


def test_nothing_is_received_behind_the_close_of_a_protocol(run: Run) -> None:
    class Closes(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async def main() -> None:
        async with transport_and_peer(Closes, socket.AF_INET) as (transport, protocol, peer):
            transport.pause_reading()
            fill_peer(peer)
            transport.resume_reading()
            await protocol.lost
            assert len(protocol.data) <= 2**18

    run(main())


def test_many_writes_to_a_lost_connection_are_warned_of(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            transport.close()
            for count in range(10):
                transport.write(b"")
                transport.write(b"dropped")
                assert len(caplog.records) == max(0, count - 3)
            assert {record.message for record in caplog.records} == {"socket.send() raised exception."}
            assert {record.levelname for record in caplog.records} == {"WARNING"}
            assert transport.get_write_buffer_size() == 0
            await protocol.lost
            assert await everything(peer) == b""

    run(main())


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()


def test_a_reset_is_what_connection_lost_is_told(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
            reset(peer)
            await protocol.lost
            assert type(protocol.error) is ConnectionResetError
            assert protocol.error.errno and protocol.error.strerror
            assert protocol.events == ["made", "lost"]
            assert transport.is_closing()

    run(main())


def test_a_reset_ends_a_transport_that_still_sends(run: Run) -> None:
    async def main() -> None:
        for closes in False, True:
            async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
                transport.pause_reading()
                fill(transport)
                if closes:
                    transport.close()
                reset(peer)
                await protocol.lost
                assert isinstance(protocol.error, ConnectionError)
                assert transport.get_write_buffer_size() == 0

    run(main())


def test_a_write_to_a_peer_that_is_gone_ends_the_connection(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            transport.pause_reading()
            peer.close()
            transport.write(b"data")
            assert transport.is_closing()
            assert protocol.events == ["made"]
            await protocol.lost
            assert type(protocol.error) is BrokenPipeError

    run(main())


def test_the_end_of_a_stream_that_is_gone_cannot_be_written(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, _, peer):
            transport.pause_reading()
            reset(peer)
            await asyncio.sleep(0.002)
            with pytest.raises(OSError):
                transport.write_eof()

    run(main())
