"""The work that measures itself: both ends in one loop, or a child process at the other end.

Each function works for about so many seconds, after a fifth of them that is not counted, and says what it
measured. The processor time is that of the loop's process: what a child does is not the loop's.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter, process_time

from net.load import ROOT
from net.report import Sample, quantile
from net.servers import HOST, Echo

CHUNK = b"x" * 65536
MESSAGE = b"x" * 1024

Work = Callable[[float], Awaitable[Sample]]
WORK: dict[str, Work] = {}


def work(name: str) -> Callable[[Work], Work]:
    """Enter the function under the name of its row."""

    def enter(run: Work) -> Work:
        WORK[name] = run
        return run

    return enter


async def _repeat(seconds: float, *operations: Callable[[], Awaitable[object]]) -> Sample:
    """Each operation again and again, beside the others, and each time timed."""
    taken = list[float]()

    async def repeat(operation: Callable[[], Awaitable[object]], end: float) -> None:
        now = perf_counter()
        while now < end:
            before = now
            await operation()
            now = perf_counter()
            taken.append(now - before)

    async def all_until(end: float) -> None:
        await asyncio.gather(*(repeat(operation, end) for operation in operations))

    await all_until(perf_counter() + seconds / 5)
    taken.clear()
    processor, start = process_time(), perf_counter()
    await all_until(start + seconds)
    processor, seconds = process_time() - processor, perf_counter() - start
    taken.sort()
    micros = [quantile(taken, part) * 1e6 for part in (0.5, 0.99)]
    return Sample(len(taken), seconds, processor, *micros)


class _Window:
    """Counts chunks between a beginning, after the warm-up, and an end."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.received = 0  # bytes, since ever
        self.opens = perf_counter() + seconds / 5
        self.opened: tuple[int, float, float] | None = None

    def is_over(self) -> bool:
        """Asked at each chunk that is sent: a clock that is read more often would be part of the work."""
        now = perf_counter()
        if self.opened is None:
            if now >= self.opens:
                self.opened = self.received, now, process_time()
            return False
        return now >= self.opened[1] + self.seconds

    def sample(self) -> Sample:
        assert self.opened is not None
        received, wall, processor = self.opened
        messages = (self.received - received) / len(CHUNK)
        return Sample(messages, perf_counter() - wall, process_time() - processor)


@work("bulk")
async def bulk(seconds: float) -> Sample:
    loop = asyncio.get_running_loop()
    window = _Window(seconds)

    class Sink(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            window.received += len(data)

    server = await loop.create_server(Sink, HOST, 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while not window.is_over():
        writer.write(CHUNK)
        await writer.drain()
    sample = window.sample()
    writer.transport.abort()
    server.close()
    return sample


@work("both-ends")
async def both_ends(seconds: float) -> Sample:
    loop = asyncio.get_running_loop()

    class Client(Echo):
        missing = 0
        answered: asyncio.Future[None]

        def ask(self) -> asyncio.Future[None]:
            self.missing, self.answered = len(MESSAGE), loop.create_future()
            self.transport.write(MESSAGE)
            return self.answered

        def data_received(self, data: bytes) -> None:
            self.missing -= len(data)
            if not self.missing:
                self.answered.set_result(None)

    server = await loop.create_server(Echo, HOST, 0)
    _, client = await loop.create_connection(Client, *server.sockets[0].getsockname())
    sample = await _repeat(seconds, client.ask)
    client.transport.abort()
    server.close()
    return sample


@work("spawn")
async def spawn(seconds: float) -> Sample:
    async def child() -> None:
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()

    return await _repeat(seconds, child)


@work("pipe")
async def pipe(seconds: float) -> Sample:
    """Through /bin/cat and back."""
    ends = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=ends, stdout=ends)
    assert process.stdin and process.stdout
    window = _Window(seconds)
    written, source, sink = 0, process.stdin, process.stdout

    async def feed() -> Sample:
        nonlocal written
        while not window.is_over():
            source.write(CHUNK)
            written += len(CHUNK)
            await source.drain()
        sample = window.sample()
        source.close()
        return sample

    feeder = asyncio.create_task(feed())
    while data := await sink.read(4 * len(CHUNK)):
        window.received += len(data)
    await process.wait()
    if window.received != written:
        raise RuntimeError(f"{window.received} bytes of {written} came back")
    return await feeder


@work("getaddrinfo")
async def getaddrinfo(seconds: float) -> Sample:
    loop = asyncio.get_running_loop()
    return await _repeat(seconds, lambda: loop.getaddrinfo(HOST, 80, type=socket.SOCK_STREAM))


async def _select(seconds: float, connections: int) -> Sample:
    """From a PostgreSQL on the other core."""
    import asyncpg

    sys.path.append(os.fspath(ROOT / "tests"))
    from support.servers import postgres

    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or {first})
    with postgres() as words:
        os.sched_setaffinity(0, {first})
        where = dict(word.split("=") for word in words.split())
        where["database"] = where.pop("dbname")
        made = [await asyncpg.connect(**where) for _ in range(connections)]
        sample = await _repeat(seconds, *(lambda it=it: it.fetchval("select 1") for it in made))
        for connection in made:
            connection.terminate()
        return sample


@work("asyncpg")
async def asyncpg_1(seconds: float) -> Sample:
    return await _select(seconds, 1)


@work("asyncpg-c16")
async def asyncpg_16(seconds: float) -> Sample:
    return await _select(seconds, 16)
