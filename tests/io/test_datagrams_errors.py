"""What goes wrong with datagrams: the network's errors, a protocol's, a socket's, wrong arguments."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from support.datagrams import HERE, drain, endpoint, fill, full_pair, udp_socket, until
from support.loops import Loop, Run
from support.protocols import Datagrams


class Raises(Datagrams):
    """Raises once in one of its methods."""

    where = ""

    def _at(self, method: str) -> None:
        if self.where == method:
            self.where = ""
            raise LookupError(method)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._at("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self._at("datagram_received")

    def error_received(self, exc: Exception) -> None:
        super().error_received(exc)
        self._at("error_received")

    def pause_writing(self) -> None:
        self.events.append("pause")
        self._at("pause_writing")

    def resume_writing(self) -> None:
        self.events.append("resume")
        self._at("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._at("connection_lost")


def raises_in(method: str) -> Any:
    """A factory of protocols that raise there."""
    return lambda: type("Raising", (Raises,), {"where": method})()


def refused() -> tuple[str, int]:
    """An address where nobody is."""
    with udp_socket() as sock:
        address: tuple[str, int] = sock.getsockname()
    return address


def test_refusals_are_told_again_and_again_and_close_nothing(run: Run) -> None:
    async def main() -> None:
        async with endpoint(remote_addr=refused()) as ours:
            for _ in range(3):
                ours.transport.sendto(b"x")
                raised = await ours.errors.get()
                assert (type(raised), raised.errno) == (ConnectionRefusedError, errno.ECONNREFUSED)
                assert str(raised) == "[Errno 111] Connection refused"
            assert not ours.transport.is_closing()

    run(main())


def test_a_refusal_is_told_to_who_sends_next(run: Run) -> None:
    class Stays(Datagrams):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main() -> None:
        async with endpoint(Stays, remote_addr=refused()) as ours:
            ours.transport.sendto(b"x")
            assert ours.errors.empty()
            ours.transport.sendto(b"x")  # the first one's error
            assert ours.errors.qsize() == 1

    run(main())


def test_datagrams_behind_an_error_arrive(run: Run) -> None:
    async def main() -> None:
        with udp_socket() as sock:
            async with endpoint(remote_addr=sock.getsockname()) as ours:
                here = ours.transport.get_extra_info("sockname")
                ours.transport.pause_reading()
                sock.sendto(b"before", here)
                address = sock.getsockname()
                sock.close()
                ours.transport.sendto(b"nobody")
                with socket.socket(type=socket.SOCK_DGRAM) as again:
                    again.bind(address)
                    again.sendto(b"after", here)
                    ours.transport.resume_reading()
                    got = [(await ours.received.get())[0] for _ in range(2)]
                    assert got == [b"before", b"after"]
                    assert isinstance(await ours.errors.get(), ConnectionRefusedError)

    run(main())


@pytest.mark.parametrize(
    ("address", "code"),
    [(("127.0.0.1", 0), errno.EINVAL), (("255.255.255.255", 9), errno.EACCES)],
    ids=["no-port", "broadcast"],
)
def test_a_send_that_the_kernel_refuses_is_told_at_once(run: Run, address: Any, code: int) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            ours.transport.sendto(b"x", address)
            raised = ours.errors.get_nowait()
            assert (raised.errno, str(raised)) == (code, str(OSError(code, raised.strerror)))
            assert not ours.transport.is_closing()

    run(main())


def test_a_datagram_that_is_too_long_is_told_at_once(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(bytes(65508), here)
            assert ours.errors.get_nowait().errno == errno.EMSGSIZE
            ours.transport.sendto(bytes(65507), here)
            assert len((await ours.received.get())[0]) == 65507

    run(main())


WRONG: list[tuple[Any, type[BaseException]]] = [
    (None, TypeError),
    ("127.0.0.1", TypeError),
    (("127.0.0.1",), TypeError),
    (("127.0.0.1", "80"), TypeError),
    (["127.0.0.1", 80], TypeError),
    (("127.0.0.1", 80, 0), TypeError),
    (("127.0.0.1", 65536), OverflowError),
    (("127.0.0.1", -1), OverflowError),
    (("127.0.0.1", 2**70), OverflowError),
    (("a\0b", 80), TypeError),
]


@pytest.mark.parametrize(("address", "expected"), WRONG, ids=lambda value: repr(value)[:30])
def test_an_address_that_is_none_is_the_end(
    run: Run, handled: list[dict[str, Any]], address: Any, expected: type[BaseException]
) -> None:
    with udp_socket() as sock, pytest.raises(expected) as known:
        sock.sendto(b"x", address)

    async def main() -> None:
        async with endpoint() as ours:
            ours.transport.sendto(b"x", address)
            assert ours.transport.is_closing()
            raised = await ours.lost
            assert (type(raised), str(raised)) == (known.type, str(known.value))
            assert [each["message"] for each in handled] == ["Fatal write error on datagram transport"]
            assert handled[0]["exception"] is raised
            assert handled[0]["transport"] is ours.transport
            assert handled[0]["protocol"] is ours

    run(main())


@pytest.mark.parametrize("data", [memoryview(b"abcdef")[::2]], ids=["scattered"])
def test_a_buffer_in_pieces_is_the_end(run: Run, handled: list[dict[str, Any]], data: Any) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            ours.transport.sendto(data, ours.transport.get_extra_info("sockname"))
            assert isinstance(await ours.lost, BufferError)
            assert isinstance(handled[0]["exception"], BufferError)

    run(main())


@pytest.mark.parametrize("thing", ["text", 1, None, [b"x"], object()], ids=lambda it: type(it).__name__)
def test_what_is_no_bytes_is_refused_in_asyncios_words(run: Run, thing: Any) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            with pytest.raises(TypeError) as raised:
                ours.transport.sendto(thing, HERE)
            name = type(thing).__name__
            assert str(raised.value) == f"data argument must be a bytes-like object, not {name!r}"

    run(main())


def test_a_connected_endpoint_sends_to_its_peer_alone(run: Run) -> None:
    async def main() -> None:
        async with endpoint() as theirs:
            there = theirs.transport.get_extra_info("sockname")
            async with endpoint(remote_addr=there) as ours:
                for addr in None, there, (there[0], there[1]):
                    ours.transport.sendto(b"x", addr)
                    await theirs.received.get()
                for addr in ("127.0.0.1", 1), list(there), "x", 0:
                    with pytest.raises(ValueError, match="Invalid address") as raised:
                        ours.transport.sendto(b"x", addr)
                    assert str(raised.value) == f"Invalid address: must be None or {there}"

    run(main())


def test_a_connected_socket_sends_to_its_peer_whatever_the_address(run: Run) -> None:
    async def main() -> None:
        with udp_socket() as sock, udp_socket() as peer:
            sock.connect(peer.getsockname())
            async with endpoint(sock=sock) as ours:
                ours.transport.sendto(b"one")
                ours.transport.sendto(b"two", "nonsense")
                assert drain(peer) == [b"one", b"two"]

    run(main())


# A protocol that raises.


@pytest.mark.parametrize("method", ["connection_made", "connection_lost"])
def test_a_protocol_that_raises_at_an_end_is_reported(
    loop: Loop, run: Run, handled: list[dict[str, Any]], method: str
) -> None:
    async def main() -> None:
        async with endpoint(raises_in(method)) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", here)
            assert (await ours.received.get())[0] == b"x"
        await until(lambda: ours.transport._sock is None)
        assert [type(each["exception"]) for each in handled] == [LookupError]
        assert handled[0]["message"].startswith("Exception in callback ")
        assert isinstance(handled[0]["handle"], asyncio.Handle)

    run(main())


def test_a_protocol_that_raises_at_a_datagram_gets_the_next(run: Run, handled: list[dict[str, Any]]) -> None:
    async def main() -> None:
        async with endpoint(raises_in("datagram_received")) as ours:
            here = ours.transport.get_extra_info("sockname")
            for data in b"one", b"two", b"three":
                ours.transport.sendto(data, here)
            got = [(await ours.received.get())[0] for _ in range(3)]
            assert got == [b"one", b"two", b"three"]
            assert [type(each["exception"]) for each in handled] == [LookupError]
            name = type(ours.transport).__name__
            assert handled[0]["message"] == f"Exception in callback {name}._read_ready()"
            assert isinstance(handled[0]["handle"], asyncio.Handle)
            assert not ours.transport.is_closing()

    run(main())


def test_a_protocol_that_raises_at_an_error_is_reported_or_tells_who_sends(
    run: Run, handled: list[dict[str, Any]]
) -> None:
    async def main() -> None:
        async with endpoint(raises_in("error_received"), remote_addr=refused()) as ours:
            ours.transport.sendto(b"x")
            await ours.errors.get()
            name = type(ours.transport).__name__
            assert [each["message"] for each in handled] == [f"Exception in callback {name}._read_ready()"]
            ours.where = "error_received"
            with pytest.raises(LookupError):
                ours.transport.sendto(bytes(100_000))
            assert not ours.transport.is_closing()

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_a_protocol_that_raises_in_flow_control_is_reported(
    run: Run, handled: list[dict[str, Any]], tmp_path: Any, method: str
) -> None:
    async def main() -> None:
        with full_pair(tmp_path / "peer") as (sock, peer):
            async with endpoint(raises_in(method), sock=sock) as ours:
                ours.transport.set_write_buffer_limits(900, 500)  # a CPython counts headers up, not down
                fill(ours.transport)
                drain(peer)
                await until(lambda: "resume" in ours.events)
                assert [each["message"] for each in handled] == [f"protocol.{method}() failed"]
                assert handled[0]["protocol"] is ours
                assert not ours.transport.is_closing()

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_run_loses_no_datagram(loop: Loop, run: Run, kind: type[BaseException]) -> None:
    class Interrupts(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"two":
                raise kind

    async def make() -> Any:
        return (await loop.create_datagram_endpoint(Interrupts, local_addr=HERE))[1]

    async def rest() -> None:
        while ours.received.qsize() < 4:
            await asyncio.sleep(0)
        ours.transport.close()
        await ours.lost

    ours = run(make())
    for data in b"one", b"two", b"three", b"four":
        ours.transport.sendto(data, ours.transport.get_extra_info("sockname"))
    with pytest.raises(kind):
        loop.run_forever()
    assert ours.received.qsize() == 2
    run(rest())
    assert [ours.received.get_nowait()[0] for _ in range(4)] == [b"one", b"two", b"three", b"four"]
