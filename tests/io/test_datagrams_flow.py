"""What waits to be sent: limits, order, the end with something left, pausing of what arrives."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from support.datagrams import drain, endpoint, fill, full_pair, udp_socket, until
from support.loops import Loop, Run, turn
from support.protocols import Datagrams


class Flow(Datagrams):
    """Notes when it is to pause and to go on."""

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


@pytest.mark.parametrize("family", ["connected", "addressed"])
def test_what_waits_goes_out_whole_and_in_order(run: Run, tmp_path: Any, family: str) -> None:
    async def main() -> None:
        path = str(tmp_path / "peer")
        with full_pair(path) as (sock, peer):
            if family == "addressed":
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            addr = path if family == "addressed" else None
            async with endpoint(Flow, sock=sock) as ours:
                sent = [b"%d " % number * (number % 50) + b"." for number in range(300)]
                for data in sent:
                    ours.transport.sendto(data, addr)
                waits = ours.transport.get_write_buffer_size()
                assert waits > 0
                assert len(ours.transport._buffer) > 0
                assert ours.transport._buffer[-1] == (sent[-1], addr)
                got = drain(peer)
                while len(got) < 300:
                    await asyncio.sleep(0)
                    got += drain(peer)
                assert got == sent
                assert len(ours.transport._buffer) == 0
                assert "write=<idle" in repr(ours.transport)

    run(main())


def test_the_protocol_pauses_above_the_one_mark_and_goes_on_below_the_other(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, peer):
            async with endpoint(Flow, sock=sock) as ours:
                ours.transport.set_write_buffer_limits(high=4500, low=1000)
                fill(ours.transport)
                assert ours.events == ["made"]
                for _ in range(3):
                    ours.transport.sendto(b"x" * 1000)
                assert ours.events == ["made"]
                assert "write=<polling" in repr(ours.transport)
                ours.transport.sendto(b"x" * 1000)
                assert ours.events == ["made", "pause"]
                ours.transport.sendto(b"x" * 1000)
                assert ours.events == ["made", "pause"]
                drain(peer)
                await until(lambda: len(ours.events) > 2)
                assert ours.events == ["made", "pause", "resume"]

    run(main())


def test_lower_marks_pause_at_once(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, _):
            async with endpoint(Flow, sock=sock) as ours:
                fill(ours.transport)
                assert ours.events == ["made"]
                ours.transport.set_write_buffer_limits(high=100)
                assert ours.events == ["made", "pause"]
                assert ours.transport.get_write_buffer_limits() == (25, 100)
                ours.transport.abort()

    run(main())


def test_what_a_datagram_counts_for_is_asyncios(loop: Loop, run: Run, loop_kind: str, tmp_path: Any) -> None:
    def sizes(loop: Loop, path: Any) -> list[int]:
        async def main() -> list[int]:
            with full_pair(path) as (sock, _):
                async with endpoint(sock=sock) as ours:
                    found = []
                    fill(ours.transport)
                    for data in b"", b"x", b"x" * 100, b"":
                        ours.transport.sendto(data)
                        found.append(ours.transport.get_write_buffer_size())
                    ours.transport.abort()
                    return found

        return loop.run_until_complete(main())

    theirs = asyncio.SelectorEventLoop()
    try:
        assert sizes(loop, tmp_path / "ours") == sizes(theirs, tmp_path / "theirs")
    finally:
        theirs.close()


def test_an_empty_datagram_is_sent_where_asyncio_sends_it(run: Run, loop: Loop) -> None:
    async def sent() -> list[bytes]:
        with udp_socket() as peer:
            async with endpoint() as ours:
                for data in b"", bytearray(), memoryview(b""), b"end":
                    ours.transport.sendto(data, peer.getsockname())
                return drain(peer)

    theirs = asyncio.SelectorEventLoop()
    try:
        assert run(sent()) == theirs.run_until_complete(sent())
    finally:
        theirs.close()


def test_an_empty_datagram_arrives(run: Run) -> None:
    async def main() -> None:
        with udp_socket() as peer:
            async with endpoint() as ours:
                for data in b"", b"x", b"":
                    peer.sendto(data, ours.transport.get_extra_info("sockname"))
                got = [await ours.received.get() for _ in range(3)]
                assert got == [(data, peer.getsockname()) for data in (b"", b"x", b"")]

    run(main())


def test_a_buffer_may_be_changed_when_it_waits(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, peer):
            async with endpoint(sock=sock) as ours:
                fill(ours.transport)
                data = bytearray(b"as it was")
                ours.transport.sendto(data)
                ours.transport.sendto(memoryview(data)[3:])
                data[:] = b"as it is now"
                await until(lambda: drain(peer)[-2:] == [b"as it was", b"it was"] or None)

    run(main())


def test_close_sends_what_waits_and_abort_does_not(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        for how in "close", "abort":
            with full_pair(tmp_path / how) as (sock, peer):
                async with endpoint(sock=sock) as ours:
                    fill(ours.transport)
                    ours.transport.sendto(b"last")
                    getattr(ours.transport, how)()
                    assert not ours.transport.is_reading()
                    got = []
                    while not ours.lost.done():
                        got += drain(peer)
                        await asyncio.sleep(0)
                    got += drain(peer)
                    assert await ours.lost is None
                    assert (got[-1] == b"last") == (how == "close")

    run(main())


def test_an_endpoint_with_something_left_is_aborted_after_its_close(
    loop: Loop, run: Run, tmp_path: Any
) -> None:
    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, peer):
            async with endpoint(sock=sock) as ours:
                fill(ours.transport)
                ours.transport.close()
                for _ in range(3):
                    await asyncio.sleep(0)
                assert ours.events == ["made"]
                ours.transport.abort()
                assert await ours.lost is None
                assert len(drain(peer)) > 0
                assert ours.events == ["made", "lost"]

    run(main())


def test_an_error_while_sending_what_waits_is_told_and_the_others_go_out(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        path = str(tmp_path / "peer")
        with full_pair(path) as (_, peer), full_pair(tmp_path / "other") as (_, other):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            async with endpoint(sock=sock) as ours:
                fill(ours.transport, addr=path)
                ours.transport.sendto(b"x", str(tmp_path / "nobody"))
                ours.transport.sendto(b"last", str(tmp_path / "other"))
                assert ours.errors.empty()
                drain(peer)
                assert isinstance(await ours.errors.get(), FileNotFoundError)
                await until(lambda: drain(other) == [b"last"] or None)

    run(main())


# Pausing of what arrives.


def test_a_paused_endpoint_receives_nothing_and_loses_nothing(run: Run) -> None:
    async def main() -> None:
        with udp_socket() as peer:
            async with endpoint() as ours:
                here = ours.transport.get_extra_info("sockname")
                ours.transport.pause_reading()
                ours.transport.pause_reading()
                assert not ours.transport.is_reading()
                for number in range(40):
                    peer.sendto(b"%d" % number, here)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert ours.received.empty()
                ours.transport.resume_reading()
                ours.transport.resume_reading()
                got = [(await ours.received.get())[0] for _ in range(40)]
                assert got == [b"%d" % number for number in range(40)]

    run(main())


@pytest.mark.parametrize("how", ["pause_reading", "close", "abort"])
def test_what_a_protocol_does_at_a_datagram_holds_at_once(run: Run, how: str) -> None:
    class Stops(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if self.received.qsize() == 3:
                getattr(self.transport, how)()

    async def main() -> None:
        with udp_socket() as peer:
            async with endpoint(Stops) as ours:
                here = ours.transport.get_extra_info("sockname")
                for number in range(10):
                    peer.sendto(b"%d" % number, here)
                await until(lambda: ours.received.qsize() == 3)
                for _ in range(5):
                    await asyncio.sleep(0)
                assert ours.received.qsize() == 3
                if how == "pause_reading":
                    ours.transport.resume_reading()
                    await until(lambda: ours.received.qsize() == 10)

    run(main())


def test_what_a_protocol_queues_runs_before_the_next_datagram(loop: Loop, run: Run) -> None:
    order: list[str] = []

    class Queues(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            order.append(f"datagram {data.decode()}")
            loop.call_soon(order.append, f"callback {data.decode()}")

    async def make() -> Any:
        return (await loop.create_datagram_endpoint(Queues, local_addr=("127.0.0.1", 0)))[1]

    ours = run(make())
    with udp_socket() as peer:
        for number in range(20):
            peer.sendto(b"%d" % number, ours.transport.get_extra_info("sockname"))
    while len(order) < 40:
        turn(loop)
    expected = [[f"datagram {number}", f"callback {number}"] for number in range(20)]
    assert order == [line for pair in expected for line in pair]
    ours.transport.close()
    turn(loop, 2)


def test_stop_at_a_datagram_leaves_the_next_for_the_next_run(loop: Loop, run: Run) -> None:
    class Stops(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            loop.stop()

    async def make() -> Any:
        return (await loop.create_datagram_endpoint(Stops, local_addr=("127.0.0.1", 0)))[1]

    ours = run(make())
    with udp_socket() as peer:
        for number in range(5):
            peer.sendto(b"%d" % number, ours.transport.get_extra_info("sockname"))
    for number in range(5):
        loop.run_forever()
        assert ours.received.qsize() == number + 1
    ours.transport.close()
    turn(loop, 2)
