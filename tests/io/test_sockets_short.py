"""A receive that gets less than it asked for: what comes after it must never be waited for in vain."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterator

import pytest

from support.loops import Loop, Run
from support.net import cancelled, pending, socket_pair

Pair = tuple[socket.socket, ...]


@pytest.fixture(params=["unix", "inet"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    family = {"unix": socket.AF_UNIX, "inet": socket.AF_INET}[request.param]
    with socket_pair(family) as pair:
        yield pair


async def begin(loop: Loop, pair: Pair) -> None:
    """A short receive after a wait: the loop knows the socket, and that it has been drained."""
    task = await pending(loop.sock_recv(pair[0], 100))
    pair[1].send(b"first")
    assert await task == b"first"


def test_each_message_after_a_short_receive_arrives(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        await begin(loop, pair)
        for i in range(100):
            pair[1].send(b"%d" % i)
            assert await loop.sock_recv(pair[0], 100) == b"%d" % i
        for i in range(100):
            task = await pending(loop.sock_recv(pair[0], 100))
            pair[1].send(b"%d" % i)
            assert await task == b"%d" % i

    run(main())


def finish(sock: socket.socket) -> None:
    sock.send(b"last")
    sock.shutdown(socket.SHUT_WR)


def close(sock: socket.socket) -> None:
    sock.send(b"last")
    sock.close()


@pytest.mark.parametrize("end", [finish, close])
@pytest.mark.parametrize("waits", [True, False])
def test_the_end_that_comes_with_the_last_data_is_seen(
    loop: Loop, run: Run, pair: Pair, end: Callable[[socket.socket], None], waits: bool
) -> None:
    async def main() -> None:
        await begin(loop, pair)
        if waits:
            task = await pending(loop.sock_recv(pair[0], 100))
            end(pair[1])
            assert await task == b"last"
        else:
            end(pair[1])
            assert await loop.sock_recv(pair[0], 100) == b"last"
        assert await loop.sock_recv(pair[0], 100) == b""
        assert await loop.sock_recv_into(pair[0], bytearray(10)) == 0

    run(main())


def test_data_behind_urgent_data_is_seen(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair(socket.AF_INET) as pair:
            await begin(loop, pair)
            for waits in (True, False) * 5:
                task = await pending(loop.sock_recv(pair[0], 100)) if waits else None
                pair[1].send(b"before")
                pair[1].send(b"!", socket.MSG_OOB)
                pair[1].send(b"behind")
                got = await task if task else b""
                while len(got) < 12:
                    got += await loop.sock_recv(pair[0], 100)
                assert got == b"beforebehind"

    run(main())


def test_a_reset_after_a_short_receive_is_an_error(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair(socket.AF_INET) as pair:
            await begin(loop, pair)
            # Data that nobody reads makes a reset of a close.
            pair[0].send(b"unread")
            await asyncio.sleep(0)
            pair[1].close()
            with pytest.raises(ConnectionResetError):
                while await loop.sock_recv(pair[0], 100):
                    pass

    run(main())


def test_what_others_do_with_the_socket_does_not_matter(loop: Loop, run: Run, pair: Pair) -> None:
    async def main() -> None:
        await begin(loop, pair)
        called = asyncio.Event()
        for i in range(20):
            pair[1].send(b"for a direct call")
            while True:
                try:
                    assert pair[0].recv(100) == b"for a direct call"
                    break
                except BlockingIOError:
                    await asyncio.sleep(0)
            await cancelled(loop.sock_recv(pair[0], 100))
            loop.add_reader(pair[0], called.set)
            pair[1].send(b"%d" % i)
            await called.wait()
            loop.remove_reader(pair[0])
            called.clear()
            assert await loop.sock_recv(pair[0], 100) == b"%d" % i

    run(main())


def test_a_number_used_again_is_another_socket(loop: Loop, run: Run) -> None:
    async def main() -> None:
        for _ in range(20):
            with socket_pair(socket.AF_INET) as pair:
                await begin(loop, pair)
                pair[1].send(b"second")
                assert await loop.sock_recv(pair[0], 100) == b"second"

    run(main())


def test_two_runs_see_what_came_in_between(loop: Loop, run: Run, pair: Pair) -> None:
    run(begin(loop, pair))
    for i in range(5):
        pair[1].send(b"%d" % i)

        async def main() -> bytes:
            return await loop.sock_recv(pair[0], 100)

        assert run(main()) == b"%d" % i


def test_a_random_stream_arrives_whole(loop: Loop, run: Run, pair: Pair) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    sent = dice.randbytes(200_000)

    async def send() -> None:
        at = 0
        while at < len(sent):
            size = dice.choice([1, 10, 100, 1000, 10_000])
            await loop.sock_sendall(pair[1], sent[at : at + size])
            at += size
            for _ in range(dice.choice([0, 0, 0, 1, 2])):
                await asyncio.sleep(0)
        pair[1].shutdown(socket.SHUT_WR)

    async def main() -> None:
        sending = asyncio.ensure_future(send())
        got = bytearray()
        while data := await loop.sock_recv(pair[0], dice.choice([1, 100, 1000, 4096, 65536])):
            got += data
        await sending
        assert bytes(got) == sent, seed

    run(main())
