"""Dask distributed: a scheduler, two workers and a client in processes of their own, on loops of one kind."""

from __future__ import annotations

from support import process

PRELUDE = """
import dask
dask.config.set({"distributed.dashboard.link": "", "distributed.worker.memory.terminate": False})

def the_loop():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""

SCHEDULER = """
from distributed import Scheduler

async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=None, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await scheduler.finished()

asyncio.run(main(), loop_factory=new_event_loop)
"""

WORKER = """
from distributed import Worker

async def main():
    async with Worker({address!r}, nthreads=1, dashboard=False) as worker:
        await worker.finished()

asyncio.run(main(), loop_factory=new_event_loop)
"""

CLIENT = """
import hashlib, os
from distributed import Client

def digest(data):
    return hashlib.sha256(data).hexdigest()

async def main():
    async with Client({address!r}, asynchronous=True) as client:
        await client.wait_for_workers(2)
        squares = client.map(lambda number: number ** 2, range(200))
        assert await client.submit(sum, squares) == sum(number ** 2 for number in range(200))
        data = os.urandom(1000) * 3000
        [there] = await client.scatter([data], broadcast=True)
        assert await client.submit(digest, there) == digest(data)
        assert await there == data

        async def where():
            return the_loop(), os.getpid()

        places = await client.run(where)
        assert {{kind for kind, _ in places.values()}} == {{the_loop()}}
        assert len({{pid for _, pid in places.values()}} - {{os.getpid()}}) == 2
        failing = client.submit(lambda: 1 / 0)
        try:
            await failing
        except ZeroDivisionError:
            print("done")
        await client.shutdown()

asyncio.run(main(), loop_factory=new_event_loop)
"""


def test_a_cluster_works_and_ends(loop_kind: str) -> None:
    flags = ["-W", "default"]
    with process.start(loop_kind, PRELUDE + SCHEDULER, flags) as scheduler:
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().strip()
        assert address.startswith("tcp://")
        started = [
            process.start(loop_kind, PRELUDE + script.format(address=address), flags)
            for script in (WORKER, WORKER, CLIENT)
        ]
        *workers, client = started
        try:
            printed, errors = client.communicate(timeout=9)
            assert (printed.split(), client.returncode) == (["done"], 0), errors
            for each in (*workers, scheduler):
                _, errors = each.communicate(timeout=9)
                assert each.returncode == 0, errors
        finally:
            for each in (*started, scheduler):
                each.kill()
                each.communicate()
