"""A descriptor is not its number: numbers are used again, files live on under others, objects are closed."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Loop, LoopFactory, Run, turn
from support.net import cancelled, pending, socket_pair

Pair = tuple[socket.socket, ...]
FAMILIES = {"unix": socket.AF_UNIX, "inet": socket.AF_INET}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> int:
    return FAMILIES[request.param]


@pytest.fixture
def pair(family: int) -> Iterator[Pair]:
    with socket_pair(family) as pair:
        yield pair


async def wait_once(loop: Loop, pair: Pair) -> None:
    """The loop has waited for this socket, and may still be told of it."""
    task = await pending(loop.sock_recv(pair[0], 100))
    pair[1].send(b"first")
    assert await task == b"first"


def put_under(fd: int, number: int) -> None:
    """Give a file this number in the place of its own."""
    if fd != number:
        os.dup2(fd, number)
        os.close(fd)


class LivesOn:
    """A socket that the loop has waited for is closed, its file lives on, its number is free."""

    def __init__(self, loop: Loop, run: Run, pair: Pair) -> None:
        async def main() -> None:
            await wait_once(loop, pair)
            self.number = pair[0].fileno()
            self.elsewhere = socket.socket(fileno=os.dup(self.number))
            self.elsewhere.setblocking(False)
            pair[0].close()

        self.peer = pair[1]
        run(main())

    def __enter__(self) -> LivesOn:
        return self

    def __exit__(self, *_: object) -> None:
        self.elsewhere.close()

    def is_sent_to(self) -> None:
        self.peer.send(b"for whoever has it now")
        assert self.elsewhere.recv(100) == b"for whoever has it now"


# ---- a file that lives on ----------------------------------------------------------------------------------


def test_a_reader_hears_nothing_of_the_file_that_had_its_number(loop: Loop, run: Run, pair: Pair) -> None:
    with LivesOn(loop, run, pair) as old:
        reading, writing = os.pipe()
        put_under(reading, old.number)
        seen: list[bytes] = []
        loop.add_reader(old.number, lambda: seen.append(os.read(old.number, 10)))
        for _ in range(5):
            old.is_sent_to()
            turn(loop, 2)
        assert seen == []
        os.write(writing, b"x")
        turn(loop)
        assert seen == [b"x"]
        loop.remove_reader(old.number)
        os.close(old.number)
        os.close(writing)


def test_a_pipe_is_not_closed_by_the_file_that_had_its_number(loop: Loop, run: Run, pair: Pair) -> None:
    class Protocol(asyncio.BaseProtocol):
        lost = False

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    async def main() -> None:
        transport, protocol = await loop.connect_write_pipe(Protocol, open(old.number, "wb", 0))
        for _ in range(5):
            old.is_sent_to()
            for _ in range(3):
                await asyncio.sleep(0)
        assert not protocol.lost
        assert not transport.is_closing()
        transport.write(b"on")
        transport.close()
        while not protocol.lost:
            await asyncio.sleep(0)

    with LivesOn(loop, run, pair) as old:
        reading, writing = os.pipe()
        if reading == old.number:
            reading = os.dup(reading)
        put_under(writing, old.number)
        run(main())
        assert os.read(reading, 10) == b"on"
        os.close(reading)


def test_a_socket_that_waits_hears_nothing_of_the_file_that_had_its_number(
    loop: Loop, run: Run, pair: Pair, family: int
) -> None:
    async def main() -> None:
        with socket_pair(family) as new:
            put_under(new[0].detach(), old.number)
            with socket.socket(fileno=old.number) as ours:
                ours.setblocking(False)
                task = await pending(loop.sock_recv(ours, 100))
                for _ in range(3):
                    old.is_sent_to()
                    for _ in range(3):
                        await asyncio.sleep(0)
                assert not task.done()
                new[1].send(b"mine")
                assert await task == b"mine"

    with LivesOn(loop, run, pair) as old:
        run(main())


def test_a_connection_that_was_handed_on_wakes_nobody(pyloop_loop: Loop, pair: Pair) -> None:
    loop: Any = pyloop_loop

    async def main() -> None:
        finished = loop.create_future()

        def send() -> None:
            for _ in range(300):
                old.is_sent_to()
            loop.call_soon_threadsafe(finished.set_result, None)

        turns = loop.statistics()["turns"]
        thread = threading.Thread(target=send)
        thread.start()
        await finished
        thread.join()
        assert loop.statistics()["turns"] - turns < 10

    with LivesOn(loop, loop.run_until_complete, pair) as old:
        loop.run_until_complete(main())


def test_one_whose_new_owner_is_quicker_than_the_loop_wakes_nobody(pyloop_loop: Loop, pair: Pair) -> None:
    """What has woken the loop is gone when it looks: the calls of `PyDLL` keep the GIL."""
    loop: Any = pyloop_loop
    libc = ctypes.PyDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(10)

    async def main() -> None:
        finished = loop.create_future()

        def send() -> None:
            for _ in range(100):
                assert libc.send(old.peer.fileno(), b"taken", 5, 0) == 5
                assert libc.recv(old.elsewhere.fileno(), buffer, 10, 0) == 5
                time.sleep(0.0002)  # the loop looks, and sleeps again
            loop.call_soon_threadsafe(finished.set_result, None)

        turns = loop.statistics()["turns"]
        thread = threading.Thread(target=send)
        thread.start()
        await finished
        thread.join()
        assert loop.statistics()["turns"] - turns < 10

    with LivesOn(loop, loop.run_until_complete, pair) as old:
        loop.run_until_complete(main())


def test_others_are_watched_on_when_a_file_is_no_longer(loop: Loop, run: Run, family: int) -> None:
    """Its registration can only be got rid of together with all others."""
    pipes = [os.pipe() for _ in range(100)]
    seen: list[int] = []

    def read(fd: int) -> None:
        os.read(fd, 1)
        seen.append(fd)

    for reading, _ in pipes:
        loop.add_reader(reading, read, reading)
    with socket_pair(family) as waiting:
        task = loop.create_task(loop.sock_recv(waiting[0], 100))
        turn(loop, 2)
        for _ in range(5):
            with socket_pair(family) as pair, LivesOn(loop, run, pair) as old:
                for _ in range(5):
                    old.is_sent_to()
                    turn(loop, 2)
        assert seen == []
        for reading, writing in pipes:
            os.write(writing, b"x")
            turn(loop, 2)
            assert seen.pop() == reading
        waiting[1].send(b"data")
        assert loop.run_until_complete(task) == b"data"
    for reading, writing in pipes:
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)


def test_a_registration_that_nobody_waits_for_is_taken_back_before_the_loop_sleeps(
    pyloop_loop: Loop, pair: Pair
) -> None:
    """So the parent that hands a connection on later is not woken by it."""
    loop: Any = pyloop_loop

    async def main() -> None:
        await wait_once(loop, pair)
        slept = loop.create_future()
        loop.call_later(0.001, slept.set_result, None)
        await slept
        assert pair[0].fileno() not in registered()

    def registered() -> set[int]:
        found = set[int]()
        for name in os.listdir("/proc/self/fdinfo"):
            try:
                with open(f"/proc/self/fdinfo/{name}") as info:
                    found |= {int(line.split()[1]) for line in info if line.startswith("tfd:")}
            except OSError:  # the one that lists
                pass
        return found

    assert pair[0].fileno() not in registered()
    loop.run_until_complete(main())


def test_a_loop_of_receives_makes_no_system_call_for_its_registration(pyloop_loop: Loop, pair: Pair) -> None:
    loop: Any = pyloop_loop

    def registration() -> str:
        for name in os.listdir("/proc/self/fdinfo"):
            try:
                with open(f"/proc/self/fdinfo/{name}") as info:
                    for line in info:
                        if line.startswith("tfd:") and int(line.split()[1]) == pair[0].fileno():
                            return line
            except OSError:  # the one that lists
                pass
        raise AssertionError("it is not registered")

    async def main() -> None:
        await pending(loop.sock_recv(pair[0], 100))
        first = registration()
        echo = loop.create_task(receive())
        for _ in range(50):
            pair[1].send(b"x")
            answered = loop.create_future()
            loop.call_later(0, answered.set_result, None)
            await answered
        # Its generation would be another one.
        assert registration() == first
        echo.cancel()

    async def receive() -> None:
        while True:
            await loop.sock_recv(pair[0], 100)

    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    turn(loop, 2)


@pytest.mark.parametrize("there", ["before", "after"])
def test_a_file_that_was_put_under_a_sockets_number_is_received_from(
    loop: Loop, run: Run, pair: Pair, family: int, there: str
) -> None:
    async def main() -> None:
        await wait_once(loop, pair)
        with socket_pair(family) as other:
            if there == "before":
                other[1].send(b"new")
            os.dup2(other[0].fileno(), pair[0].fileno())
            task = loop.create_task(loop.sock_recv(pair[0], 100))
            if there == "after":
                for _ in range(3):
                    await asyncio.sleep(0)
                other[1].send(b"new")
            assert await task == b"new"

    run(main())


def test_a_wait_of_a_busy_loop_is_checked_too(loop: Loop, run: Run, pair: Pair, family: int) -> None:
    async def main() -> None:
        await wait_once(loop, pair)
        with socket_pair(family) as other:
            os.dup2(other[0].fileno(), pair[0].fileno())
            task = await pending(loop.sock_recv(pair[0], 100))
            other[1].send(b"new")
            while not task.done():
                await asyncio.sleep(0)
            assert await task == b"new"

    run(main())


def test_a_wait_that_was_given_up_leaves_its_socket_to_others(pyloop_loop: Loop, pair: Pair) -> None:
    """Given up and handed on in one step, as after a timeout."""
    loop: Any = pyloop_loop

    async def main() -> socket.socket:
        await cancelled(loop.sock_recv(pair[0], 100))
        elsewhere = socket.socket(fileno=os.dup(pair[0].fileno()))
        pair[0].close()
        return elsewhere

    with loop.run_until_complete(main()):
        turns = loop.statistics()["turns"]

        async def rest() -> None:
            pair[1].send(b"x")
            slept = loop.create_future()
            loop.call_later(0.002, slept.set_result, None)
            await slept

        loop.run_until_complete(rest())
        assert loop.statistics()["turns"] - turns < 6


# ---- objects -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["reader", "writer"])
def test_a_closed_socket_is_found_by_itself(loop: Loop, side: str) -> None:
    add, remove = getattr(loop, f"add_{side}"), getattr(loop, f"remove_{side}")
    with socket_pair() as (ours, _):
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            closed = socket.socket()
            closed.close()
            remove(closed)
        add(ours, int)
        ours.close()
        assert remove(ours) is True
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            remove(ours)


def test_a_closed_socket_with_a_reader_and_a_writer_is_found_for_both(pyloop_loop: Loop) -> None:
    """asyncio's selector raises OSError for the first."""
    loop = pyloop_loop
    with socket_pair() as (ours, _):
        loop.add_reader(ours, int)
        loop.add_writer(ours.fileno(), int)
        ours.close()
        assert loop.remove_writer(ours) is True
        assert loop.remove_reader(ours) is True


def test_a_closed_socket_that_was_added_by_its_number_is_not_found(loop: Loop) -> None:
    with socket_pair() as (ours, _):
        number = ours.fileno()
        loop.add_reader(number, int)
        ours.close()
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            loop.remove_reader(ours)
        assert loop.remove_reader(number) is True


def test_an_object_is_kept_until_its_callbacks_are_removed(loop: Loop) -> None:
    class File:
        def fileno(self) -> int:
            return number

    with socket_pair() as (ours, _):
        number = ours.fileno()
        file = File()
        reference = weakref.ref(file)
        loop.add_reader(file, int)
        loop.add_writer(file, int)
        del file
        gc.collect()
        assert reference() is not None
        loop.remove_reader(number)
        assert reference() is not None
        loop.remove_writer(number)
        gc.collect()
        assert reference() is None


# ---- numbers that are none ---------------------------------------------------------------------------------


class Fake:
    """Something like a socket, that would block."""

    family, type, proto = socket.AF_INET, socket.SOCK_DGRAM, 0

    def __init__(self, number: Any) -> None:
        self.number = number

    def fileno(self) -> Any:
        return self.number

    def gettimeout(self) -> float:
        return 0.0

    def recvfrom(self, size: int) -> Any:
        raise BlockingIOError

    recv = recvfrom

    def sendto(self, data: bytes, address: Any) -> Any:
        raise BlockingIOError


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (-1, ValueError),
        (-7, ValueError),
        ("x", ValueError),
        (None, ValueError),
        (10**7, OSError),
        (2**40, OverflowError),
    ],
)
@pytest.mark.parametrize("call", ["sock_recv", "sock_recvfrom", "sock_sendto"])
def test_an_odd_number_is_refused_and_the_others_are_watched_on(
    loop: Loop, run: Run, number: Any, error: type[Exception], call: str
) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        seen = loop.create_future()
        loop.add_reader(reading, seen.set_result, "seen")
        fake: Any = Fake(number)
        arguments = (b"", ("", 0)) if call == "sock_sendto" else (10,)
        with pytest.raises(error):
            await getattr(loop, call)(fake, *arguments)
        os.write(writing, b"x")
        assert await seen == "seen"
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    run(main())


@pytest.mark.parametrize("number", [10**7, 2**31 - 1])
def test_a_large_number_without_a_descriptor_takes_no_memory(loop: Loop, number: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for add in (loop.add_reader, loop.add_writer):
        with pytest.raises(OSError, match="Bad file descriptor"):
            add(number, int)
    assert not loop.remove_reader(number)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_descriptor_of_a_large_number_is_watched(loop: Loop, run: Run) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = 200_000
    if hard != resource.RLIM_INFINITY and hard <= number:
        number = hard - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 1), hard))
    try:
        with socket_pair() as (ours, theirs):
            os.dup2(ours.fileno(), number)
            with socket.socket(fileno=number) as large:
                large.setblocking(False)

                async def main() -> None:
                    task = await pending(loop.sock_recv(large, 10))
                    theirs.send(b"x")
                    assert await task == b"x"
                    seen = loop.create_future()
                    loop.add_reader(number, seen.set_result, "seen")
                    theirs.send(b"x")
                    assert await seen == "seen"
                    assert loop.remove_reader(number)

                run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- a poller that fails -----------------------------------------------------------------------------------


def poller_of(make: LoopFactory) -> tuple[Loop, int]:
    """A loop, and the descriptor that it asks for readiness."""
    before = descriptors()
    loop = make()
    return loop, next(fd for fd, what in descriptors().items() if fd not in before and "eventpoll" in what)


@pytest.mark.parametrize("runs", [0, 1])
def test_a_poller_that_cannot_be_asked_ends_the_run(loop_factory: LoopFactory, runs: int) -> None:
    loop, poller = poller_of(loop_factory)
    for _ in range(runs):
        turn(loop)
    put_under(os.open("/dev/null", os.O_RDONLY), poller)
    loop.call_soon(loop.stop)
    with pytest.raises(OSError, match=r"Invalid argument|not permitted"):
        loop.run_forever()
    assert not loop.is_running()
    loop.close()
