"""The sock_* family: at once if possible, else when the socket is ready; cancelling leaves it usable."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import cancelled, closed_port, deaf_server, pending, receive_all, socket_pair

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
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_recv_returns_what_is_there(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        pair[1].send(b"hello")
        assert await loop.sock_recv(pair[0], 100) == b"hello"

    run(main())


def test_recv_returns_at_most_what_was_asked_for(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        pair[1].send(b"hello")
        assert await loop.sock_recv(pair[0], 2) == b"he"
        assert await loop.sock_recv(pair[0], 100) == b"llo"

    run(main())


def test_recv_waits_for_data(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        task = await pending(loop.sock_recv(pair[0], 100))
        pair[1].send(b"late")
        got = await task
        assert got == b"late"
        assert type(got) is bytes

    run(main())


def test_recv_returns_nothing_at_the_end(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        task = await pending(loop.sock_recv(pair[0], 100))
        pair[1].close()
        assert await task == b""
        assert await loop.sock_recv(pair[0], 100) == b""

    run(main())


@pytest.mark.parametrize("size", [1, 1000, 2**16, 2**20, 2**26])
def test_recv_of_any_size_returns_exactly_what_came(loop: Loop, run: Run, one: Pair, size: int) -> None:
    async def main() -> None:
        one[1].send(b"12345")
        assert await loop.sock_recv(one[0], size) == b"12345"[:size]

    run(main())


def test_to_receive_nothing_takes_no_waiting(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        assert await asyncio.wait_for(loop.sock_recv(one[0], 0), 1) == b""
        assert await asyncio.wait_for(loop.sock_recv_into(one[0], bytearray()), 1) == 0

    run(main())


def test_to_send_nothing_asks_the_socket(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        await loop.sock_sendall(one[0], b"")
        with socket.socket() as unconnected:
            unconnected.setblocking(False)
            with pytest.raises(BrokenPipeError):
                await loop.sock_sendall(unconnected, b"")
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_sendall(unconnected, b"")

    run(main())


def test_a_negative_size_of_a_datagram_is_a_value_error(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with pytest.raises(ValueError, match="negative"):
                await loop.sock_recvfrom_into(sock, bytearray(3), -1)

    run(main())


def test_recv_of_a_negative_size_is_a_value_error(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="negative"):
            await loop.sock_recv(one[0], -1)

    run(main())


@pytest.mark.parametrize("kind", ["bytearray", "memoryview", "array", "slice"])
def test_recv_into_fills_any_buffer(loop: Loop, run: Run, pair: Pair, kind: str) -> None:
    target = bytearray(10)
    buffers: dict[str, Any] = {
        "bytearray": target,
        "memoryview": memoryview(target),
        "array": array.array("I", [0, 0, 0]),
        "slice": memoryview(target)[2:7],
    }

    async def main() -> None:
        task = await pending(loop.sock_recv_into(pair[0], buffers[kind]))
        pair[1].send(b"hello")
        assert await task == 5

    run(main())
    if kind == "array":
        assert buffers[kind].tobytes()[:6] == b"hello\0"
    else:
        assert bytes(target) == (b"\0\0hello\0\0\0" if kind == "slice" else b"hello\0\0\0\0\0")


def test_recv_into_returns_zero_at_the_end(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        one[1].close()
        assert await loop.sock_recv_into(one[0], bytearray(4)) == 0

    run(main())


def test_recv_into_refuses_what_cannot_be_written(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        one[1].send(b"data")
        read_only: Any = b"read only"
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(one[0], read_only)
        assert await loop.sock_recv(one[0], 10) == b"data"

    run(main())


def test_sendall_sends_megabytes_in_both_directions(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        _, _, first, second = await asyncio.gather(
            loop.sock_sendall(pair[0], MEGABYTES),
            loop.sock_sendall(pair[1], MEGABYTES[::-1]),
            receive_all(loop, pair[0], len(MEGABYTES)),
            receive_all(loop, pair[1], len(MEGABYTES)),
        )
        assert first == MEGABYTES[::-1]
        assert second == MEGABYTES

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendall_takes_any_buffer(loop: Loop, run: Run, one: Pair, kind: Any) -> None:
    async def main() -> None:
        assert await loop.sock_sendall(one[0], kind(b"text")) is None  # type: ignore[func-returns-value]
        assert await loop.sock_recv(one[1], 100) == b"text"

    run(main())


@pytest.mark.parametrize("kind", ["Q", "2d"])
def test_sendall_counts_bytes_whatever_the_items_of_the_buffer(
    pyloop_loop: Loop, one: Pair, kind: str
) -> None:
    """asyncio counts items, and waits for ever."""
    loop = pyloop_loop
    wide = (
        memoryview(array.array("Q", MEGABYTES))
        if kind == "Q"
        else memoryview(MEGABYTES).cast("B", (2, 3, 2**19))
    )

    async def main() -> None:
        sending = asyncio.ensure_future(loop.sock_sendall(one[0], wide))
        assert await receive_all(loop, one[1], len(MEGABYTES)) == MEGABYTES
        await sending

    loop.run_until_complete(main())


def test_sendall_of_nothing_is_done_at_once(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        await loop.sock_sendall(one[0], b"")

    run(main())


@pytest.mark.parametrize("thing", ["text", 1, None, [1]], ids=repr)
def test_sendall_refuses_what_is_no_buffer(loop: Loop, run: Run, one: Pair, thing: Any) -> None:
    async def main() -> None:
        with pytest.raises(TypeError):
            await loop.sock_sendall(one[0], thing)

    run(main())


def test_sendall_to_nobody_fails(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        pair[1].close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await asyncio.gather(*(loop.sock_sendall(pair[0], MEGABYTES) for _ in range(3)))

    run(main())


def test_a_sendall_that_waits_fails_when_the_peer_goes(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        task = await pending(loop.sock_sendall(pair[0], MEGABYTES * 4))
        pair[1].close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task

    run(main())


def test_sixty_four_connections_echo_at_once(loop: Loop, run: Run) -> None:
    async def echo(sock: socket.socket) -> None:
        while data := await loop.sock_recv(sock, 100):
            await loop.sock_sendall(sock, data)

    async def client(sock: socket.socket, number: int) -> None:
        for i in range(20):
            word = f"{number} {i}".encode()
            await loop.sock_sendall(sock, word)
            assert await receive_all(loop, sock, len(word)) == word
        sock.close()

    async def main() -> None:
        pairs = [socket.socketpair() for _ in range(64)]
        for end in (end for pair in pairs for end in pair):
            end.setblocking(False)
        servers = [asyncio.ensure_future(echo(theirs)) for _, theirs in pairs]
        await asyncio.gather(*(client(ours, number) for number, (ours, _) in enumerate(pairs)))
        await asyncio.gather(*servers)
        for _, theirs in pairs:
            theirs.close()

    run(main())


def test_a_socket_is_read_and_written_at_the_same_time(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        reading = await pending(loop.sock_recv(one[0], 10))
        writing = await pending(loop.sock_sendall(one[0], MEGABYTES))
        one[1].send(b"x")
        assert await reading == b"x"
        assert await receive_all(loop, one[1], len(MEGABYTES)) == MEGABYTES
        await writing

    run(main())


def test_a_cancelled_recv_leaves_the_socket_usable(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        for i in range(5):
            await cancelled(loop.sock_recv(pair[0], 100))
            await cancelled(loop.sock_recv_into(pair[0], bytearray(10)))
            pair[1].send(b"after %d" % i)
            assert await loop.sock_recv(pair[0], 100) == b"after %d" % i

    run(main())


def test_a_recv_that_timed_out_loses_no_data(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(one[0], 100), 0.001)
        one[1].send(b"whole")
        assert await asyncio.wait_for(loop.sock_recv(one[0], 100), 10) == b"whole"

    run(main())


def test_a_cancelled_sendall_leaves_the_socket_usable(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        await cancelled(loop.sock_sendall(pair[0], b"x" * len(MEGABYTES) * 4))
        pair[1].send(b"other way")
        assert await loop.sock_recv(pair[0], 100) == b"other way"
        sending = asyncio.ensure_future(loop.sock_sendall(pair[0], b"end"))
        got = b""
        while not got.endswith(b"end"):
            got = (got + await loop.sock_recv(pair[1], 2**16))[-10:]
        await sending

    run(main())


def test_a_cancelled_accept_leaves_the_listener_usable(loop: Loop, run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        await cancelled(loop.sock_accept(listener))
        with socket.create_connection(listener.getsockname()) as client:
            accepted, address = await loop.sock_accept(listener)
            with accepted:
                assert address == client.getsockname()

    run(main())


def test_a_cancelled_connect_leaves_nothing_watched(loop: Loop, run: Run) -> None:
    async def main(address: tuple[str, int]) -> None:
        with socket.socket() as client:
            client.setblocking(False)
            await cancelled(loop.sock_connect(client, address))
            assert loop.remove_writer(client) is False

    with deaf_server() as address:
        run(main(address))


def test_a_descriptor_that_a_cancelled_call_used_is_free(loop: Loop, run: Run) -> None:
    """The next socket with that number is another one and hears nothing of the earlier."""

    async def main() -> None:
        for _ in range(5):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            number = ours.fileno()
            await cancelled(loop.sock_recv(ours, 10))
            ours.close()
            theirs.close()
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            assert ours.fileno() == number
            task = await pending(loop.sock_recv(ours, 10))
            theirs.send(b"new")
            assert await task == b"new"
            ours.close()
            theirs.close()

    run(main())


def test_accept_returns_a_connection_that_does_not_block(
    loop: Loop, run: Run, listener: socket.socket
) -> None:
    async def main() -> None:
        task = await pending(loop.sock_accept(listener))
        with socket.create_connection(listener.getsockname()) as client:
            accepted, address = await task
            with accepted:
                assert not accepted.getblocking()
                assert not accepted.get_inheritable()
                assert address == client.getsockname()
                client.send(b"hello")
                assert await loop.sock_recv(accepted, 10) == b"hello"

    run(main())


def test_connect_and_accept_meet(loop: Loop, run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        with socket.socket() as client:
            client.setblocking(False)
            (accepted, _), _ = await asyncio.gather(
                loop.sock_accept(listener), loop.sock_connect(client, listener.getsockname())
            )
            with accepted:
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(accepted, 10) == b"hello"

    run(main())


def test_connect_resolves_a_name(loop: Loop, run: Run, listener: socket.socket) -> None:
    async def main() -> None:
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            assert client.getpeername() == listener.getsockname()

    run(main())


def test_connect_to_a_refused_port_fails(loop: Loop, run: Run) -> None:
    async def main(port: int) -> None:
        with socket.socket() as client:
            client.setblocking(False)
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, ("127.0.0.1", port))

    with closed_port() as port:
        run(main(port))


def test_connect_to_unix_sockets(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = str(tmp_path / "socket")
        for address in path, f"\0abstract {tmp_path}", path.encode() + b"2":
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(address)
                server.listen()
                client.setblocking(False)
                await loop.sock_connect(client, address)
                assert client.getpeername() in (address, os.fsencode(address), os.fsdecode(address))

    run(main())


def test_connect_to_a_missing_unix_socket_fails(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, str(tmp_path / "missing"))
            (tmp_path / "nobody").touch()
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(client, str(tmp_path / "nobody"))

    run(main())
