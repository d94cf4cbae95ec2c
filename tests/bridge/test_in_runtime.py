"""PyO3's own `async fn` around `pyloop::in_runtime`: on each loop and thread, in children, with no set-up."""

from __future__ import annotations

import asyncio

import pytest

from support import making, process
from support.extension import ext
from support.loops import Loop, LoopFactory
from support.threads import in_thread

pytestmark = [pytest.mark.usefixtures("pyloop_factory")]

kinds = pytest.mark.parametrize("kind", ["asyncio", "pyloop", "uvloop"])


async def works() -> None:
    seen = list[bool]()
    got = await asyncio.gather(*(ext.works_in_runtime(seen) for _ in range(3)))
    assert got == [7] * 3
    assert seen == [True] * 3


@making.on_every_host
@pytest.mark.usefixtures("nothing_left")
def test_everything_that_wants_a_runtime_works_on_any_thread(loop: Loop, loop_factory: LoopFactory) -> None:
    def run() -> None:
        # Nothing else of the extension has been polled in this thread.
        theirs = loop_factory()
        try:
            theirs.run_until_complete(works())
        finally:
            theirs.close()

    loop.run_until_complete(works())
    in_thread(run)


@making.on_every_host
@pytest.mark.usefixtures("nothing_left")
def test_cancelled_it_is_dropped_in_the_runtime(loop: Loop) -> None:
    seen = list[bool]()

    async def wait() -> None:
        await ext.waits_in_runtime(seen)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())
    assert seen == [True]


SCRIPT = """
import os, threading, warnings
import pyloop_extension as ext
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

if KIND == "uvloop":
    from uvloop import new_event_loop

def run():
    async def main():
        seen = []
        assert await ext.works_in_runtime(seen) == 7
        await ext.doze(0.001)
        assert seen == [True]
    asyncio.run(main(), loop_factory=new_event_loop)

def fork():
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run()
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

print(len(os.listdir("/proc/self/task")))
if FIRST == "entered":
    ext.enter_runtime()
if FIRST == "polled":
    run()
print(fork(), fork())
run()
print(fork())
"""


@kinds
@pytest.mark.parametrize("first", ["nothing", "entered", "polled"])
def test_a_child_works_whatever_its_parent_has_done_and_an_import_starts_nothing(
    kind: str, first: str
) -> None:
    assert ext.WORKERS
    script = f"KIND = {kind!r}\nFIRST = {first!r}\n{SCRIPT}"
    assert process.output("pyloop" if kind == "pyloop" else "asyncio", script) == "1\n0 0\n0\n"
