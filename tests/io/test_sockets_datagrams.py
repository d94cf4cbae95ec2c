"""The sock_* family beside streams of bytes: datagrams, files, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import cancelled, pending, receive_all, socket_pair

MEGABYTES = os.urandom(3 * 2**20)
Pair = tuple[socket.socket, ...]


@pytest.fixture(params=["unix", "inet", "inet6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected stream sockets."""
    family = {"unix": socket.AF_UNIX, "inet": socket.AF_INET, "inet6": socket.AF_INET6}[request.param]
    with socket_pair(family) as pair:
        yield pair


@pytest.fixture
def one() -> Iterator[Pair]:
    """Two connected stream sockets of one family, where the family does not matter."""
    with socket_pair() as pair:
        yield pair


@pytest.fixture
def datagrams() -> Iterator[Pair]:
    """Two UDP sockets, each with an address."""
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as theirs:
        for each in ours, theirs:
            each.setblocking(False)
            each.bind(("127.0.0.1", 0))
        yield ours, theirs


def test_datagrams_carry_their_sender(loop: Loop, run: Run, datagrams: Pair) -> None:
    ours, theirs = datagrams

    async def main() -> None:
        task = await pending(loop.sock_recvfrom(ours, 100))
        assert await loop.sock_sendto(theirs, b"hello", ours.getsockname()) == 5
        assert await task == (b"hello", theirs.getsockname())
        assert await loop.sock_sendto(theirs, b"", ours.getsockname()) == 0
        assert await loop.sock_recvfrom(ours, 100) == (b"", theirs.getsockname())

    run(main())


@pytest.mark.parametrize(("nbytes", "expected"), [(0, 5), (3, 3), (10, 5)])
def test_recvfrom_into_fills_a_buffer(
    loop: Loop, run: Run, datagrams: Pair, nbytes: int, expected: int
) -> None:
    ours, theirs = datagrams
    buffer = bytearray(10)

    async def main() -> None:
        await loop.sock_sendto(theirs, b"hello", ours.getsockname())
        got = await loop.sock_recvfrom_into(ours, buffer, nbytes)
        assert got == (expected, theirs.getsockname())

    run(main())
    assert buffer[:expected] == b"hello"[:expected]


def test_recvfrom_into_a_buffer_that_is_too_small_is_a_value_error(
    loop: Loop, run: Run, datagrams: Pair
) -> None:
    async def main() -> None:
        datagrams[1].sendto(b"hello", datagrams[0].getsockname())
        with pytest.raises(ValueError, match="nbytes is greater than the length of the buffer"):
            await loop.sock_recvfrom_into(datagrams[0], bytearray(4), 5)

    run(main())


def test_cancelled_datagram_calls_leave_the_socket_usable(loop: Loop, run: Run, datagrams: Pair) -> None:
    ours, theirs = datagrams

    async def main() -> None:
        await cancelled(loop.sock_recvfrom(ours, 100))
        await cancelled(loop.sock_recvfrom_into(ours, bytearray(10)))
        await loop.sock_sendto(theirs, b"hello", ours.getsockname())
        assert await loop.sock_recvfrom(ours, 100) == (b"hello", theirs.getsockname())

    run(main())


def test_a_datagram_that_is_too_long_is_an_os_error(loop: Loop, run: Run, datagrams: Pair) -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="Message too long"):
            await loop.sock_sendto(datagrams[0], bytes(100_000), datagrams[1].getsockname())

    run(main())


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedRandom]:
    with open(tmp_path / "file", "w+b", buffering=-1) as file:
        file.write(MEGABYTES)
        file.seek(0)
        yield file


@pytest.mark.parametrize(
    ("offset", "count"), [(0, None), (1000, None), (0, 10), (1000, 10), (5, 2**22), (2**23, None)]
)
def test_sendfile_sends_a_part_of_a_file(
    loop: Loop, run: Run, pair: Pair, file: io.BufferedRandom, offset: int, count: int | None
) -> None:
    expected = MEGABYTES[offset:] if count is None else MEGABYTES[offset : offset + count]

    async def main() -> None:
        receiving = asyncio.ensure_future(receive_all(loop, pair[1], len(expected) + 1))
        assert await loop.sock_sendfile(pair[0], file, offset, count) == len(expected)
        pair[0].close()
        assert await receiving == expected

    run(main())
    assert file.tell() == offset + len(expected) or not expected


def test_sendfile_falls_back_for_what_is_no_file(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        receiving = asyncio.ensure_future(receive_all(loop, one[1], len(MEGABYTES)))
        assert await loop.sock_sendfile(one[0], io.BytesIO(MEGABYTES)) == len(MEGABYTES)
        assert await receiving == MEGABYTES
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(one[0], io.BytesIO(b"x"), fallback=False)

    run(main())


def test_sendfile_checks_its_arguments(
    loop: Loop, run: Run, one: Pair, datagrams: Pair, file: io.BufferedRandom, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("text")

    async def main() -> None:
        with (tmp_path / "text").open() as text, pytest.raises(ValueError, match="binary mode"):
            await loop.sock_sendfile(one[0], text)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="SOCK_STREAM"):
            await loop.sock_sendfile(datagrams[0], file)
        for offset, count in (-1, None), (0, 0), (0, -1):
            with pytest.raises(ValueError, match="must be a"):
                await loop.sock_sendfile(one[0], file, offset, count)

    run(main())


def test_a_cancelled_sendfile_leaves_the_socket_usable(
    loop: Loop, run: Run, one: Pair, file: io.BufferedRandom
) -> None:
    async def main() -> None:
        await cancelled(loop.sock_sendfile(one[0], file))
        one[1].send(b"other way")
        assert await loop.sock_recv(one[0], 100) == b"other way"

    run(main())


Call = Callable[[Loop, socket.socket], Coroutine[Any, Any, Any]]
CALLS: dict[str, Call] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 1)),
    "sock_sendfile": lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(b"x")),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
def test_a_blocking_socket_is_refused_in_debug_mode(loop: Loop, run: Run, call: Call) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="the socket must be non-blocking"):
            await call(loop, sock)

    loop.set_debug(True)
    run(main())


@each_call
def test_a_closed_socket_is_an_error(loop: Loop, run: Run, call: Call) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        with pytest.raises((OSError, ValueError)):
            await call(loop, sock)

    run(main())


@pytest.mark.parametrize("call", [call for name, call in CALLS.items() if "file" not in name])
def test_an_ssl_socket_is_refused(loop: Loop, run: Run, call: Call) -> None:
    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        with context.wrap_socket(socket.socket()) as sock:
            sock.setblocking(False)
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                await call(loop, sock)

    run(main())


def test_a_socket_of_a_transport_is_refused(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one[0])
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(one[0], 1)
        transport.close()
        await asyncio.sleep(0)

    run(main())
