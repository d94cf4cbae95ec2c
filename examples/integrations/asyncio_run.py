"""asyncio itself: `asyncio.run`, `asyncio.Runner`, `pyloop.run`, and every loop of a program.

python examples/integrations/asyncio_run.py
"""

import asyncio
import sys

import pyloop


async def main() -> str:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__


if __name__ == "__main__":
    # One line, with Python's own function. Nothing else of the program changes.
    assert asyncio.run(main(), loop_factory=pyloop.new_event_loop) == "pyloop._loop"

    # The same, shorter.
    assert pyloop.run(main()) == "pyloop._loop"

    # Several runs on one loop.
    with asyncio.Runner(loop_factory=pyloop.new_event_loop) as runner:
        assert runner.run(main()) == runner.run(main()) == "pyloop._loop"

    # Every loop that is made without naming another, as by asyncio.run alone. CPython before 3.16.
    if sys.version_info < (3, 16):
        pyloop.install()
        assert asyncio.run(main()) == "pyloop._loop"

    # What names another is not reached by that.
    assert asyncio.run(main(), loop_factory=asyncio.SelectorEventLoop) == "asyncio.unix_events"
    print("asyncio.run, pyloop.run, asyncio.Runner, pyloop.install: all on pyloop")
