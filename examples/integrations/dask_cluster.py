"""Dask: its scheduler, workers and clients are asyncio's, and run on the loop that runs.

python examples/integrations/dask_cluster.py

Its setting `distributed.admin.event-loop` knows three loops and takes no other. With "asyncio" or "tornado",
the default, its commands use the loop of the policy: `python -m pyloop -m distributed.cli.dask_scheduler`,
and for a worker `python -m pyloop -m distributed.cli.dask_worker --no-nanny tcp://...` (a nanny starts its
worker as a process of its own).
"""

import asyncio
import logging
from typing import Any

import dask
from distributed import Client, Scheduler, Worker, get_worker

import pyloop


def loop_of_the_worker() -> str:
    # The thread that runs Dask's tasks has no loop: the worker's own is asked.
    worker: Any = get_worker()
    return type(worker.loop.asyncio_loop).__module__


async def main() -> str:
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address=None) as scheduler:
        async with Worker(scheduler.address, nthreads=1, dashboard=False):
            async with Client(scheduler.address, asynchronous=True) as client:  # type: ignore[no-untyped-call]
                answer: str = await client.submit(loop_of_the_worker)
                return answer


if __name__ == "__main__":
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with dask.config.set({"distributed.admin.event-loop": "asyncio"}):
        answer = asyncio.run(main(), loop_factory=pyloop.new_event_loop)
    assert answer == "pyloop._loop", answer
    print("Dask: on pyloop")
