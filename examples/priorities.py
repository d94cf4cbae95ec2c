"""Priorities: a task that answers people goes before the batch work, a LOW one takes the time that is left.

python examples/priorities.py
"""

import asyncio

import pyloop


async def steps(name: str, trace: list[str]) -> None:
    for _ in range(3):
        trace.append(name)
        await asyncio.sleep(0)


async def main() -> list[str]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, pyloop.EventLoop), loop  # other loops know no priorities
    trace: list[str] = []
    tasks = [
        loop.create_task(steps("low", trace), priority=pyloop.LOW),
        loop.create_task(steps("normal", trace)),  # NORMAL is what a task has that asks for nothing
        loop.create_task(steps("high", trace), priority=pyloop.HIGH),
    ]
    await asyncio.wait(tasks)
    return trace


if __name__ == "__main__":
    trace = pyloop.run(main())
    print(" ".join(trace))
    # The last that was made comes first, turn by turn, and LOW runs when the others are done.
    assert trace == ["high", "normal"] * 3 + ["low"] * 3, trace
