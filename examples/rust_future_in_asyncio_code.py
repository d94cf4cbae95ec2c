"""pyloop.sleep is a Rust future on tokio's timer; asyncio's tools take it like any awaitable.

python examples/rust_future_in_asyncio_code.py
"""

import asyncio

import pyloop


async def main() -> None:
    # Awaited in place: no task, no callback, no other thread.
    assert await pyloop.sleep(0.01, "rested") == "rested"

    # gather and wait_for make a task of it, as they do of a coroutine.
    rust, stock = await asyncio.gather(pyloop.sleep(0.02, "Rust's"), asyncio.sleep(0.01, "asyncio's"))
    assert (rust, stock) == ("Rust's", "asyncio's")
    assert await asyncio.wait_for(pyloop.sleep(0.01, "in time"), timeout=5) == "in time"

    # A timeout cancels it: the Rust future is dropped at once.
    try:
        async with asyncio.timeout(0.01):
            await pyloop.sleep(3600)
    except TimeoutError:
        print("an hour was too long")
    else:
        raise AssertionError("the timeout did not come")

    # So does the failure of a sibling in a TaskGroup.
    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += group.create_task(pyloop.sleep(3600)), group.create_task(fail())
    except* ValueError as errors:
        print("the group ended with", errors.exceptions[0])
    assert tasks[0].cancelled()


async def fail() -> None:
    await pyloop.sleep(0.01)
    raise ValueError("a sibling's error")


if __name__ == "__main__":
    pyloop.run(main())
