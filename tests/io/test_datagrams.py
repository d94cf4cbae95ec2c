"""What a transport of datagrams is: what it shows, its contexts, who holds it, how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import warnings
import weakref
from typing import Any

import pytest

from support.datagrams import HERE, endpoint, fill, full_pair, until
from support.loops import Loop, LoopFactory, Run, turn
from support.protocols import Datagrams

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


def test_it_has_asyncios_classes_and_methods(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            transport: Any = ours.transport
            assert {asyncio.DatagramTransport, asyncio.Transport} <= set(type(transport).__mro__)
            assert transport.is_reading()
            assert transport.get_protocol() is ours
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            assert transport.max_size == 256 * 1024
            with pytest.raises(NotImplementedError):
                transport.write(b"x")

    run(main())


def test_libraries_find_asyncios_private_attributes(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            transport: Any = ours.transport
            sock = transport.get_extra_info("socket")
            assert transport._sock.fileno() == transport._sock_fd == sock.fileno()
            assert transport._sock.type == socket.SOCK_DGRAM
            assert transport._loop is asyncio.get_running_loop()
            assert transport._protocol is ours
            assert transport._address is None
            assert transport._extra["sockname"] == sock.getsockname()
            assert (list(transport._buffer), transport._buffer_size, transport._conn_lost) == ([], 0, 0)
            assert not (transport._closing or transport._paused or transport._protocol_paused)
            transport.some_attribute = 1
            assert transport.some_attribute == 1
            async with endpoint(remote_addr=sock.getsockname()) as theirs:
                assert theirs.transport._address == sock.getsockname()
        assert [transport._sock, transport._loop, transport._protocol] == [None] * 3
        assert transport.get_protocol() is None
        assert transport._conn_lost == 1

    run(main())


def test_its_representation_tells_its_state(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            transport: Any = ours.transport
            await until(lambda: "read=polling" in repr(transport))
            name, fd = type(transport).__name__, transport._sock_fd
            assert repr(transport) == f"<{name} fd={fd} read=polling write=<idle, bufsize=0>>"
            transport.pause_reading()
            assert "read=idle" in repr(transport)
            transport.close()
            assert repr(transport) == f"<{name} closing fd={fd} read=idle write=<idle, bufsize=0>>"
        assert repr(transport) == f"<{name} closed fd={fd}>"

    run(main())


def test_its_descriptor_is_not_to_be_watched(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            sock = ours.transport._sock
            for what in sock, sock.fileno():
                for call in loop.add_reader, loop.add_writer:
                    with pytest.raises(RuntimeError, match="is used by transport"):
                        call(what, print)
                for remove in loop.remove_reader, loop.remove_writer:
                    with pytest.raises(RuntimeError, match="is used by transport"):
                        remove(what)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_datagram_endpoint(Datagrams, sock=sock)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recvfrom(sock, 10)

    run(main())


# Contexts.


def test_each_method_sees_the_context_that_its_endpoint_was_made_in(run: Run) -> None:
    seen: dict[str, str] = {}

    class Looks(Datagrams):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen["made"] = VARIABLE.get()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            seen[data.decode()] = VARIABLE.get()
            VARIABLE.set("changed inside")

    async def main() -> None:
        VARIABLE.set("made")
        async with endpoint(Looks) as ours:
            VARIABLE.set("later")
            here = ours.transport.get_extra_info("sockname")
            for data in b"one", b"two":
                ours.transport.sendto(data, here)
                await ours.received.get()
            # It is one context for all datagrams.
            assert seen == {"made": "made", "one": "made", "two": "changed inside"}
            assert VARIABLE.get() == "later"

    run(main())
    assert VARIABLE.get() == "unset"


def test_what_is_told_at_once_is_told_in_the_context_of_who_sends(run: Run, tmp_path: Any) -> None:
    seen: list[str] = []

    class Looks(Datagrams):
        def pause_writing(self) -> None:
            seen.append(f"pause {VARIABLE.get()}")

        def resume_writing(self) -> None:
            pass

        def error_received(self, exc: Exception) -> None:
            seen.append(f"error {VARIABLE.get()}")

    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, _):
            async with endpoint(Looks, sock=sock) as ours:
                ours.transport.set_write_buffer_limits(0)
                VARIABLE.set("sends")
                fill(ours.transport)
                ours.transport.abort()
            async with endpoint(Looks) as ours:
                ours.transport.sendto(bytes(100_000), ours.transport.get_extra_info("sockname"))
        assert seen == ["pause sends", "error sends"]

    run(main())


# Who holds it.


def test_the_loop_holds_an_endpoint_that_receives(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Datagrams, local_addr=HERE
        )
        known, here = weakref.ref(transport), transport.get_extra_info("sockname")
        received = protocol.received
        protocol.transport = None
        del transport, protocol
        gc.collect()
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"still there", here)
            assert (await received.get())[0] == b"still there"
        alive = known()
        assert alive is not None
        lost = alive.get_protocol().lost  # type: ignore[attr-defined]
        alive.close()
        await lost

    run(main())


def collect(kept: list[Any]) -> list[str]:
    """Lets go of what is kept; the warnings of its going."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        kept.clear()
        gc.collect()
    return [str(each.message) for each in warned]


def test_a_paused_endpoint_that_nobody_has_is_collected_with_a_warning(run: Run) -> None:
    async def main() -> None:
        kept: list[Any] = [
            *await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, local_addr=HERE)
        ]
        await until(lambda: "read=polling" in repr(kept[0]))
        kept[0].pause_reading()
        sock, text = kept[0]._sock, repr(kept[0])
        assert collect(kept) == [f"unclosed transport {text}"]
        assert sock.fileno() == -1

    run(main())


def test_an_endpoint_of_a_closed_loop_goes_with_a_warning(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    kept: list[Any] = [
        *loop.run_until_complete(loop.create_datagram_endpoint(Datagrams, local_addr=HERE)),
        loop,
    ]
    loop.close()
    del loop
    with pytest.raises(RuntimeError, match="closed"):
        kept[0].close()
    assert any(text.startswith("unclosed transport") for text in collect(kept))


# How it ends.


@pytest.mark.parametrize("how", ["close", "abort"])
def test_the_end_comes_once_and_in_a_later_turn(loop: Loop, run: Run, how: str) -> None:
    async def make() -> Any:
        _, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=HERE)
        return protocol

    ours = run(make())
    getattr(ours.transport, how)()
    assert ours.events == ["made"]
    assert ours.transport.is_closing()
    assert not ours.transport.is_reading()
    assert ours.transport._sock is not None
    for again in "abort", "close":
        getattr(ours.transport, again)()
    turn(loop, 2)
    assert ours.events == ["made", "lost"]
    assert ours.transport._sock is None
    for again in "abort", "close":
        getattr(ours.transport, again)()
    turn(loop, 2)
    assert ours.events == ["made", "lost"]


def test_an_endpoint_closed_in_connection_made_receives_nothing(loop: Loop, run: Run) -> None:
    class Closes(Datagrams):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.sendto(b"to myself", transport.get_extra_info("sockname"))
            transport.close()

    async def main() -> None:
        transport, protocol = await loop.create_datagram_endpoint(Closes, local_addr=HERE)
        assert transport.is_closing()
        assert await protocol.lost is None
        assert protocol.received.empty()

    run(main())


def test_a_cancelled_creation_closes_the_socket(loop: Loop, run: Run) -> None:
    made: list[Datagrams] = []

    def factory() -> Datagrams:
        made.append(Datagrams())
        return made[0]

    async def main() -> None:
        task = loop.create_task(loop.create_datagram_endpoint(factory, local_addr=HERE))
        while not made:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await made[0].lost is None

    run(main())


def test_another_protocol_gets_what_comes_next(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            here, other = ours.transport.get_extra_info("sockname"), Datagrams()

            def swap(data: bytes, addr: Any) -> None:
                ours.received.put_nowait((data, addr))
                ours.transport.set_protocol(other)

            ours.datagram_received = swap
            for data in b"one", b"two", b"three":
                ours.transport.sendto(data, here)
            assert (await ours.received.get())[0] == b"one"
            assert [(await other.received.get())[0] for _ in range(2)] == [b"two", b"three"]
            assert ours.transport.get_protocol() is other
            ours.transport.set_protocol(ours)

    run(main())


def test_sending_after_the_end_is_what_it_is_on_asyncio(run: Run, caplog: Any) -> None:
    async def main() -> None:
        async with endpoint() as theirs:
            there = theirs.transport.get_extra_info("sockname")
            async with endpoint(remote_addr=there) as connected, endpoint() as free:
                pass
            for _ in range(6):
                connected.transport.sendto(b"x")
            assert [record.message for record in caplog.records] == ["socket.send() raised exception."] * 2
            assert connected.transport._conn_lost == 7
            with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
                free.transport.sendto(b"x", there)
            # Until `connection_lost` there is a socket.
            async with endpoint() as free:
                free.transport.close()
                free.transport.sendto(b"last", there)
            assert (await theirs.received.get())[0] == b"last"

    run(main())
