"""add_reader and add_writer: level-triggered, one of each a descriptor, whatever the descriptor is."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pty
import select
import socket
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, turn
from support.threads import run_parked

Pair = tuple[int, int]
READ_AND_WRITE = ["add_reader", "add_writer"]


@pytest.fixture
def pipe() -> Iterator[Pair]:
    """A pipe: the end to read and the end to write. The test may close either."""
    ends = os.pipe()
    identities = [os.fstat(end).st_ino for end in ends]
    yield ends
    for end, identity in zip(ends, identities, strict=True):
        with contextlib.suppress(OSError):
            if os.fstat(end).st_ino == identity:
                os.close(end)


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def fires(loop: Loop, fd: int, add: str = "add_reader") -> bool:
    """Whether the watcher is called in the next turn."""
    seen: list[int] = []
    getattr(loop, add)(fd, seen.append, fd)
    turn(loop)
    getattr(loop, add.replace("add", "remove"))(fd)
    return seen != []


def test_a_reader_is_called_when_there_is_something_to_read(loop: Loop, pipe: Pair) -> None:
    seen: list[bytes] = []
    loop.add_reader(pipe[0], lambda: seen.append(os.read(pipe[0], 10)))
    turn(loop, 2)
    assert seen == []
    os.write(pipe[1], b"data")
    turn(loop)
    assert seen == [b"data"]
    turn(loop, 2)
    assert seen == [b"data"]
    loop.remove_reader(pipe[0])


def test_a_writer_is_called_while_there_is_room(loop: Loop, pipe: Pair) -> None:
    os.set_blocking(pipe[1], False)
    written = 0

    def write() -> None:
        nonlocal written
        written += os.write(pipe[1], bytes(4096))

    loop.add_writer(pipe[1], write)
    turn(loop, 40)
    assert written == 65536
    os.read(pipe[0], 65536)
    turn(loop)
    assert written == 65536 + 4096
    loop.remove_writer(pipe[1])


def test_a_parked_loop_wakes_for_a_reader(loop: Loop, pipe: Pair) -> None:
    loop.add_reader(pipe[0], loop.stop)
    assert run_parked(loop, lambda: os.write(pipe[1], b"x")) < 1
    loop.remove_reader(pipe[0])


def test_a_parked_loop_wakes_for_a_writer(loop: Loop, pipe: Pair) -> None:
    os.set_blocking(pipe[1], False)
    os.write(pipe[1], bytes(65536))
    loop.add_writer(pipe[1], loop.stop)
    assert run_parked(loop, lambda: os.read(pipe[0], 65536)) < 1
    loop.remove_writer(pipe[1])


def test_readers_are_level_triggered(loop: Loop, pipe: Pair) -> None:
    seen: list[bytes] = []
    loop.add_reader(pipe[0], lambda: seen.append(os.read(pipe[0], 1)))
    os.write(pipe[1], b"abcde")
    turn(loop, 8)
    assert b"".join(seen) == b"abcde"
    loop.remove_reader(pipe[0])


def test_a_reader_that_reads_nothing_is_called_every_turn(loop: Loop, pipe: Pair) -> None:
    seen: list[int] = []
    loop.add_reader(pipe[0], seen.append, 1)
    os.write(pipe[1], b"x")
    turn(loop, 5)
    assert len(seen) == 5
    loop.remove_reader(pipe[0])
    turn(loop, 2)
    assert len(seen) == 5


def test_data_that_was_there_before_the_reader_is_seen(loop: Loop, pipe: Pair) -> None:
    os.write(pipe[1], b"x")
    assert fires(loop, pipe[0])


def test_a_reader_added_anew_sees_what_an_earlier_one_left(loop: Loop, pipe: Pair) -> None:
    os.write(pipe[1], b"x")
    for _ in range(5):
        assert fires(loop, pipe[0])
    os.read(pipe[0], 1)
    assert not fires(loop, pipe[0])
    os.write(pipe[1], b"x")
    assert fires(loop, pipe[0])


@pytest.mark.parametrize("end", ["close the writer", "close the reader"])
def test_a_hangup_calls_the_watcher(loop: Loop, pipe: Pair, end: str) -> None:
    if end == "close the writer":
        os.close(pipe[1])
        assert fires(loop, pipe[0])
        return
    os.set_blocking(pipe[1], False)
    os.write(pipe[1], bytes(65536))
    os.close(pipe[0])
    assert fires(loop, pipe[1], "add_writer")


def test_a_hangup_while_parked_calls_the_watcher(loop: Loop, pipe: Pair) -> None:
    loop.add_reader(pipe[0], loop.stop)
    assert run_parked(loop, lambda: os.close(pipe[1])) < 1
    loop.remove_reader(pipe[0])


def test_add_returns_none_and_remove_tells_whether_there_was_one(loop: Loop, pipe: Pair) -> None:
    assert loop.remove_reader(pipe[0]) is False
    assert loop.remove_writer(pipe[1]) is False
    add_reader: Any = loop.add_reader
    add_writer: Any = loop.add_writer
    assert add_reader(pipe[0], int) is None
    assert add_writer(pipe[1], int) is None
    assert loop.remove_writer(pipe[0]) is False
    assert loop.remove_reader(pipe[1]) is False
    assert loop.remove_reader(pipe[0]) is True
    assert loop.remove_writer(pipe[1]) is True
    assert loop.remove_reader(pipe[0]) is False
    assert loop.remove_writer(pipe[1]) is False


@pytest.mark.parametrize("add", READ_AND_WRITE)
def test_a_second_watcher_replaces_the_first(
    loop: Loop, sockets: tuple[socket.socket, socket.socket], add: str
) -> None:
    seen: list[str] = []
    sockets[1].send(b"x")
    getattr(loop, add)(sockets[0], seen.append, "first")
    getattr(loop, add)(sockets[0], seen.append, "second")
    turn(loop)
    getattr(loop, add)(sockets[0], seen.append, "third")
    turn(loop)
    assert seen == ["second", "third"]
    assert getattr(loop, add.replace("add", "remove"))(sockets[0])


def test_a_descriptor_has_a_reader_and_a_writer(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    seen: list[str] = []
    sockets[1].send(b"x")
    loop.add_reader(sockets[0], seen.append, "reader")
    loop.add_writer(sockets[0], seen.append, "writer")
    turn(loop)
    assert seen == ["reader", "writer"]
    loop.remove_reader(sockets[0])
    turn(loop)
    assert seen == ["reader", "writer", "writer"]
    loop.add_reader(sockets[0], seen.append, "reader")
    loop.remove_writer(sockets[0])
    turn(loop)
    assert seen == ["reader", "writer", "writer", "reader"]
    loop.remove_reader(sockets[0])
    turn(loop)
    assert len(seen) == 4


def test_a_watcher_may_remove_itself(loop: Loop, pipe: Pair) -> None:
    os.write(pipe[1], b"x")
    seen: list[bool] = []
    loop.add_reader(pipe[0], lambda: seen.append(loop.remove_reader(pipe[0])))
    turn(loop, 3)
    assert seen == [True]


def test_a_watcher_may_replace_itself(loop: Loop, pipe: Pair) -> None:
    os.write(pipe[1], b"x")
    seen: list[str] = []

    def first() -> None:
        seen.append("first")
        loop.add_reader(pipe[0], seen.append, "second")

    loop.add_reader(pipe[0], first)
    turn(loop, 2)
    assert seen == ["first", "second"]
    loop.remove_reader(pipe[0])


def test_a_watcher_removed_by_another_of_the_same_turn_is_not_called(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    seen: list[int] = []

    def callback(own: int) -> None:
        seen.append(own)
        for reading, _ in pipes:
            loop.remove_reader(reading)

    for reading, writing in pipes:
        os.write(writing, b"x")
        loop.add_reader(reading, callback, reading)
    turn(loop, 2)
    assert len(seen) == 1
    for end in (end for pair in pipes for end in pair):
        os.close(end)


def test_many_descriptors_are_watched_at_once(loop: Loop) -> None:
    pipes = [os.pipe() for _ in range(300)]
    seen: set[int] = set()
    for reading, writing in pipes:
        loop.add_reader(reading, seen.add, reading)
        os.write(writing, b"x")
    turn(loop, 3)
    assert seen == {reading for reading, _ in pipes}
    for reading, writing in pipes:
        assert loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("given", ["number", "socket", "object"])
def test_a_descriptor_is_given_as_a_number_or_by_its_owner(
    loop: Loop, sockets: tuple[socket.socket, socket.socket], given: str
) -> None:
    class Owner:
        def fileno(self) -> int:
            return sockets[0].fileno()

    thing: Any = {"number": sockets[0].fileno(), "socket": sockets[0], "object": Owner()}[given]
    sockets[1].send(b"x")
    seen: list[int] = []
    loop.add_reader(thing, seen.append, 1)
    turn(loop)
    assert seen == [1]
    assert loop.remove_reader(sockets[0].fileno())


class Fileno:
    def __init__(self, result: Any) -> None:
        self.result = result

    def fileno(self) -> Any:
        return self.result


@pytest.mark.parametrize("add", [*READ_AND_WRITE, "remove_reader", "remove_writer"])
@pytest.mark.parametrize(
    "thing",
    [-1, -7, "3", None, 1.5, [], Fileno(-1), Fileno(None), Fileno("x")],
    ids=["-1", "-7", "str", "None", "float", "list", "fileno -1", "fileno None", "fileno str"],
)
def test_what_is_no_descriptor_is_refused(loop: Loop, add: str, thing: Any) -> None:
    arguments = [int] if add in READ_AND_WRITE else []
    with pytest.raises(ValueError, match="Invalid file"):
        getattr(loop, add)(thing, *arguments)


@pytest.mark.parametrize("add", READ_AND_WRITE)
def test_a_closed_descriptor_is_refused(loop: Loop, pipe: Pair, add: str) -> None:
    os.close(pipe[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, add)(pipe[0], int)
    assert loop.remove_reader(pipe[0]) is False


@pytest.mark.parametrize("add", READ_AND_WRITE)
def test_a_closed_socket_is_refused(
    loop: Loop, sockets: tuple[socket.socket, socket.socket], add: str
) -> None:
    sockets[0].close()
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        getattr(loop, add)(sockets[0], int)


@pytest.mark.parametrize("add", READ_AND_WRITE)
def test_a_regular_file_is_refused(loop: Loop, tmp_path: Path, add: str) -> None:
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(PermissionError):
            getattr(loop, add)(file, int)
        assert loop.remove_reader(file) is False
    assert loop.run_until_complete(asyncio.sleep(0, "on")) == "on"


def test_a_descriptor_of_a_transport_is_refused(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    async def main() -> None:
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sockets[0])
        uses: list[Callable[[], Any]] = [
            lambda: loop.add_reader(sockets[0], int),
            lambda: loop.add_writer(sockets[0], int),
            lambda: loop.remove_reader(sockets[0]),
            lambda: loop.remove_writer(sockets[0]),
        ]
        for use in uses:
            with pytest.raises(RuntimeError, match="is used by transport"):
                use()
        transport.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_a_descriptor_closed_behind_the_loops_back_harms_nobody(loop: Loop, pipe: Pair) -> None:
    other = os.pipe()
    loop.add_reader(pipe[0], pytest.fail, "it is closed")
    loop.add_reader(other[0], loop.stop)
    turn(loop)
    os.close(pipe[0])
    os.close(pipe[1])
    loop.call_later(0.002, os.write, other[1], b"x")
    loop.run_forever()
    loop.remove_reader(other[0])
    loop.remove_reader(pipe[0])
    for end in other:
        os.close(end)
    assert loop.run_until_complete(asyncio.sleep(0.001, "on")) == "on"


def test_a_number_that_is_used_again_is_watched_again(pyloop_loop: Loop) -> None:
    loop = pyloop_loop
    for _ in range(5):
        reading, writing = os.pipe()
        loop.add_reader(reading, pytest.fail, "nothing was written")
        turn(loop)
        os.close(reading)
        os.close(writing)
        again, writing = os.pipe()
        assert again == reading
        os.write(writing, b"x")
        assert fires(loop, again)
        os.close(again)
        os.close(writing)


def test_a_number_that_is_used_again_after_its_removal_is_watched_again(loop: Loop) -> None:
    for _ in range(5):
        reading, writing = os.pipe()
        loop.add_reader(reading, pytest.fail, "nothing was written")
        turn(loop)
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        again, writing = os.pipe()
        assert again == reading
        os.write(writing, b"x")
        assert fires(loop, again)
        os.close(again)
        os.close(writing)


def test_a_number_closed_and_used_again_within_a_turn_calls_nobody_in_vain(loop: Loop) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"x")
    loop.add_reader(reading, pytest.fail, "it was removed")

    def swap() -> None:
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)
        assert os.pipe() == (reading, writing)

    loop.call_soon(swap)
    turn(loop, 2)
    os.close(reading)
    os.close(writing)


def test_a_duplicate_is_another_descriptor(loop: Loop, pipe: Pair) -> None:
    twin = os.dup(pipe[0])
    seen: list[str] = []
    loop.add_reader(pipe[0], seen.append, "first")
    loop.add_reader(twin, seen.append, "twin")
    os.write(pipe[1], b"x")
    turn(loop)
    assert sorted(seen) == ["first", "twin"]
    loop.remove_reader(pipe[0])
    turn(loop)
    assert sorted(seen) == ["first", "twin", "twin"]
    loop.remove_reader(twin)
    os.close(twin)


def test_closing_a_duplicate_leaves_the_other_watched(loop: Loop, pipe: Pair) -> None:
    twin = os.dup(pipe[0])
    loop.add_reader(twin, int)
    loop.remove_reader(twin)
    os.close(twin)
    os.write(pipe[1], b"x")
    assert fires(loop, pipe[0])


def test_an_eventfd_is_watched(loop: Loop) -> None:
    fd = os.eventfd(0)
    assert not fires(loop, fd)
    os.eventfd_write(fd, 3)
    assert fires(loop, fd)
    assert fires(loop, fd, "add_writer")
    assert os.eventfd_read(fd) == 3
    assert not fires(loop, fd)
    os.close(fd)


@pytest.mark.since(3, 13)
def test_a_timerfd_is_watched(loop: Loop) -> None:
    fd: int = os.timerfd_create(1)  # type: ignore[attr-defined, unused-ignore]
    os.timerfd_settime(fd, initial=0.002)  # type: ignore[attr-defined, unused-ignore]
    loop.add_reader(fd, loop.stop)
    loop.run_forever()
    loop.remove_reader(fd)
    os.close(fd)


def test_a_terminal_is_watched(loop: Loop) -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    assert not fires(loop, theirs)
    os.write(ours, b"key")
    assert fires(loop, theirs)
    assert os.read(theirs, 10) == b"key"
    assert fires(loop, theirs, "add_writer")
    os.write(theirs, b"screen")
    assert fires(loop, ours)
    os.read(ours, 10)
    os.close(theirs)
    assert fires(loop, ours)
    os.close(ours)


def test_inotify_is_watched(loop: Loop, tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    assert libc.inotify_add_watch(fd, bytes(tmp_path), 0x100) > 0  # IN_CREATE
    assert not fires(loop, fd)
    (tmp_path / "new").touch()
    assert fires(loop, fd)
    assert b"new" in os.read(fd, 4096)
    assert not fires(loop, fd)
    os.close(fd)


def test_an_epoll_is_watched(loop: Loop, pipe: Pair) -> None:
    with select.epoll() as epoll:
        epoll.register(pipe[0], select.EPOLLIN)
        assert not fires(loop, epoll.fileno())
        os.write(pipe[1], b"x")
        assert fires(loop, epoll.fileno())


def test_a_pidfd_is_watched(loop: Loop) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        fd = os.pidfd_open(process.pid)
        assert not fires(loop, fd)
        process.kill()
        loop.add_reader(fd, loop.stop)
        loop.run_forever()
        loop.remove_reader(fd)
        os.close(fd)


def test_a_listening_socket_is_watched(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not fires(loop, server.fileno())
        with socket.create_connection(server.getsockname()):
            assert fires(loop, server.fileno())


def test_the_end_of_a_nonblocking_connect_is_seen_by_a_writer(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(server.getsockname()) in (0, 115)
        loop.add_writer(client, loop.stop)
        loop.run_forever()
        loop.remove_writer(client)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_the_same_descriptor_is_watched_by_one_loop_after_another(
    loop: Loop, pipe: Pair, loop_factory: Callable[[], Loop]
) -> None:
    os.write(pipe[1], b"x")
    for _ in range(3):
        other = loop_factory()
        assert fires(other, pipe[0])
        other.close()
    assert fires(loop, pipe[0])


def test_two_loops_watch_the_same_descriptor(
    loop: Loop, pipe: Pair, loop_factory: Callable[[], Loop]
) -> None:
    other = loop_factory()
    seen: list[str] = []
    loop.add_reader(pipe[0], seen.append, "one")
    other.add_reader(pipe[0], seen.append, "other")
    os.write(pipe[1], b"x")
    turn(loop)
    turn(other)
    assert seen == ["one", "other"]
    other.close()
    loop.remove_reader(pipe[0])


def test_a_watcher_keeps_no_descriptor_open(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        loop.add_reader(ours, int)
        turn(loop)
        loop.remove_reader(ours)
        ours.close()
        assert theirs.recv(1) == b""


def test_watchers_are_added_and_removed_ten_thousand_times(loop: Loop, pipe: Pair) -> None:
    loop.set_debug(False)
    os.write(pipe[1], b"x")
    for _ in range(10_000):
        loop.add_reader(pipe[0], int)
        loop.remove_reader(pipe[0])
    assert fires(loop, pipe[0])


def test_a_number_that_no_descriptor_has(loop: Loop) -> None:
    with pytest.raises(OverflowError):
        loop.add_reader(2**40, print)
    assert not loop.remove_reader(2**40)
    assert not loop.remove_writer(2**40)
