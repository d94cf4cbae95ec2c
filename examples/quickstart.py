"""An asyncio program on pyloop: only the loop factory is new.

python examples/quickstart.py
"""

import asyncio

import pyloop


async def square(number: int) -> int:
    await asyncio.sleep(0.01)
    return number * number


async def main() -> list[int]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, pyloop.EventLoop), loop
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(square(number)) for number in range(5)]
    return [task.result() for task in tasks]


if __name__ == "__main__":
    # The way that works with every loop ...
    squares = asyncio.run(main(), loop_factory=pyloop.new_event_loop)
    assert squares == [0, 1, 4, 9, 16], squares

    # ... and the short one.
    assert pyloop.run(main()) == squares
    print("squares:", squares)
