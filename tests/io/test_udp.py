"""Datagrams through the loop."""

from __future__ import annotations

import asyncio
import socket
from asyncio import trsock
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import closed_port
from support.protocols import Datagrams

HERE = ("127.0.0.1", 0)


@asynccontextmanager
async def endpoint(**more: Any) -> AsyncIterator[Datagrams]:
    """A protocol whose endpoint is closed in the end."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **more)
    try:
        yield protocol
    finally:
        if not transport.is_closing():
            transport.close()
        await protocol.lost


def test_a_datagram_comes_with_its_sender(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours, endpoint(local_addr=HERE) as theirs:
            here = ours.transport.get_extra_info("sockname")
            there = theirs.transport.get_extra_info("sockname")
            ours.transport.sendto(b"ping", there)
            assert await theirs.received.get() == (b"ping", here)
            theirs.transport.sendto(b"pong", here)
            assert await ours.received.get() == (b"pong", there)

    run(main())


def test_a_connected_endpoint_needs_no_address(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as theirs:
            there = theirs.transport.get_extra_info("sockname")
            async with endpoint(remote_addr=there) as ours:
                assert ours.transport.get_extra_info("peername") == there
                ours.transport.sendto(b"one")
                ours.transport.sendto(b"two", there)
                data, sender = await theirs.received.get()
                assert data == b"one"
                assert (await theirs.received.get())[0] == b"two"
                with pytest.raises(ValueError, match="Invalid address"):
                    ours.transport.sendto(b"three", ("127.0.0.1", 1))
                theirs.transport.sendto(b"back", sender)
                assert (await ours.received.get())[0] == b"back"

    run(main())


@pytest.mark.parametrize("data", [b"x", b"x" * 1400, b"x" * 60_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_datagram_of_any_length_arrives_whole(run: Run, data: bytes, kind: type) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            ours.transport.sendto(kind(data), ours.transport.get_extra_info("sockname"))
            got, _ = await ours.received.get()
            assert got == data
            assert type(got) is bytes

    run(main())


def test_many_datagrams_arrive_in_order(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            here = ours.transport.get_extra_info("sockname")
            for i in range(100):
                ours.transport.sendto(b"%d" % i, here)
            assert [(await ours.received.get())[0] for _ in range(100)] == [b"%d" % i for i in range(100)]

    run(main())


@pytest.mark.parametrize("thing", ["text", 1, None], ids=repr)
def test_what_is_no_bytes_cannot_be_sent(run: Run, thing: Any) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            with pytest.raises(TypeError):
                ours.transport.sendto(thing, ("127.0.0.1", 1))

    run(main())


def test_a_refusal_is_an_error_received(run: Run) -> None:
    async def main(port: int) -> None:
        async with endpoint(remote_addr=("127.0.0.1", port)) as ours:
            ours.transport.sendto(b"nobody")
            assert isinstance(await ours.errors.get(), ConnectionRefusedError)
            ours.transport.sendto(b"nobody")
            assert isinstance(await ours.errors.get(), ConnectionRefusedError)
            assert not ours.transport.is_closing()

    with closed_port() as port:
        run(main(port))


def test_a_datagram_that_is_too_long_is_an_error_received(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(bytes(100_000), here)
            assert isinstance(await ours.errors.get(), OSError)
            ours.transport.sendto(b"short", here)
            assert (await ours.received.get())[0] == b"short"

    run(main())


def test_an_unreachable_address_leaves_the_endpoint_open(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", ("255.255.255.255", 9))
            assert isinstance(await ours.errors.get(), OSError)  # broadcasting was not allowed
            ours.transport.sendto(b"after", here)
            assert (await ours.received.get())[0] == b"after"

    run(main())


def test_broadcasting_is_allowed_when_asked_for(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("0.0.0.0", 0), allow_broadcast=True) as ours:
            sock = ours.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)

    run(main())


def test_a_port_is_shared_when_all_ask_for_it(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE, reuse_port=True) as ours:
            here = ours.transport.get_extra_info("sockname")
            async with endpoint(local_addr=here, reuse_port=True):
                pass
            with pytest.raises(OSError, match="in use"):
                async with endpoint(local_addr=here):
                    pass

    run(main())


def test_ipv6_works(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("::1", 0)) as ours:
            here = ours.transport.get_extra_info("sockname")
            assert len(here) == 4
            ours.transport.sendto(b"six", here)
            assert await ours.received.get() == (b"six", here)

    run(main())


def test_a_name_is_resolved(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("localhost", 0), family=socket.AF_INET) as ours:
            port = ours.transport.get_extra_info("sockname")[1]
            async with endpoint(remote_addr=("localhost", port), family=socket.AF_INET) as theirs:
                theirs.transport.sendto(b"x")
                assert (await ours.received.get())[0] == b"x"

    run(main())


def test_an_endpoint_takes_a_socket(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(HERE)
        async with endpoint(sock=sock) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", here)
            assert (await ours.received.get())[0] == b"x"
        assert sock.fileno() == -1

    run(main())


def test_unix_datagrams_work(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        path, other = str(tmp_path / "one"), str(tmp_path / "other")
        async with (
            endpoint(local_addr=path, family=socket.AF_UNIX) as ours,
            endpoint(local_addr=other, remote_addr=path, family=socket.AF_UNIX) as theirs,
        ):
            theirs.transport.sendto(b"to one")
            assert await ours.received.get() == (b"to one", other)
            ours.transport.sendto(b"to other", other)
            assert (await theirs.received.get())[0] == b"to other"

    run(main())


def test_an_abstract_address_of_unix_datagrams_works(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"\0pyloop test {tmp_path}"
        sock.bind(name)
        async with endpoint(sock=sock) as ours:
            ours.transport.sendto(b"x", name)
            assert await ours.received.get() == (b"x", name.encode())

    run(main())


def test_the_transport_is_asyncios(run: Run) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            transport: object = ours.transport
            assert isinstance(transport, asyncio.DatagramTransport)
            sock = ours.transport.get_extra_info("socket")
            assert isinstance(sock, trsock.TransportSocket)
            assert sock.type == socket.SOCK_DGRAM
            assert ours.transport.get_write_buffer_size() == 0

    run(main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_nothing_comes_after_the_end(run: Run, how: str) -> None:
    async def main() -> None:
        async with endpoint(local_addr=HERE) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", here)
            getattr(ours.transport, how)()
            getattr(ours.transport, how)()
            assert ours.transport.is_closing()
            assert await ours.lost is None
            await asyncio.sleep(0.001)
            assert ours.received.empty()
            assert ours.events == ["made", "lost"]

    run(main())


def test_create_datagram_endpoint_checks_its_arguments(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as sock:
            wrong: list[dict[str, Any]] = [
                {},
                {"sock": stream},
                {"sock": sock, "local_addr": HERE},
                {"local_addr": HERE, "family": socket.AF_UNIX},
                {"local_addr": "127.0.0.1"},
            ]
            for more in wrong:
                with pytest.raises((ValueError, TypeError)):
                    await loop.create_datagram_endpoint(Datagrams, **more)

    run(main())


def test_a_protocol_that_fails_is_reported(loop: Loop, run: Run, handled: list[dict[str, Any]]) -> None:
    class Failing(Datagrams):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            raise LookupError

    async def main() -> None:
        transport, protocol = await loop.create_datagram_endpoint(Failing, local_addr=HERE)
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        while not handled:
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        assert isinstance(handled[0]["exception"], LookupError)

    run(main())
