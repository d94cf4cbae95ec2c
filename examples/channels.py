"""Channels between a loop, threads and another loop: a small pipeline with backpressure.

    python examples/channels.py

Threads read numbers, a pyloop loop squares them, at most two at a time, an asyncio loop in another thread
adds them up. The queues between them are short: who is ahead waits.
"""

import asyncio
import threading

import pyloop
from pyloop import sync


def read(numbers: range, out: sync.Sender[int]) -> None:
    """A plain thread: its sends wait without the GIL."""
    with out:
        for number in numbers:
            out.blocking_send(number)


async def square(source: sync.Receiver[int], out: sync.Sender[int], stage: sync.WatchSender[str]) -> None:
    """On pyloop: four workers take from one receiver, a semaphore lets two of them work."""
    semaphore = sync.Semaphore(2)

    async def work() -> None:
        async for number in source:
            async with semaphore.acquire():
                await pyloop.sleep(0)
            await out.send(number * number)

    with out, stage:
        stage.send("squaring")
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(work())
        stage.send("squared")


async def add(source: sync.Receiver[int]) -> int:
    """On asyncio's own loop."""
    total = 0
    async for number in source:
        total += number
    return total


def main() -> None:
    """Three parts, two queues, a oneshot for the result."""
    numbers_in, numbers = sync.mpsc(4)
    squares_in, squares = sync.mpsc(4)
    stage_in, stage = sync.watch("reading")
    answer, answered = sync.oneshot()

    readers = [
        threading.Thread(target=read, args=(range(start, 100, 3), numbers_in.clone())) for start in range(3)
    ]
    numbers_in.close()  # the clones are left: the queue ends with the last of them
    adder = threading.Thread(target=lambda: answer.send(asyncio.run(add(squares))))
    for thread in (*readers, adder):
        thread.start()
    pyloop.run(square(numbers, squares_in, stage_in))
    total = answered.blocking_recv(timeout=5)
    for thread in (*readers, adder):
        thread.join()
    assert total == sum(number * number for number in range(100)), total
    assert stage.value == "squared"
    print(f"{stage.value}: the sum is {total}")


if __name__ == "__main__":
    main()
