"""The ends of loops, threads and interpreters while Rust futures are under way; which threads there are."""

from __future__ import annotations

import pytest

from support import process
from support.extension import ext

pytestmark = pytest.mark.usefixtures("pyloop_factory")

PRELUDE = """
import asyncio, gc, os, sys, threading
import pyloop_extension as ext

def threads():
    return len(os.listdir("/proc/self/task"))
"""

kinds = pytest.mark.parametrize("kind", ["asyncio", "pyloop"])


@pytest.fixture(autouse=True)
def _installed() -> None:
    assert ext.WORKERS == 2


def run(kind: str, script: str) -> list[str]:
    return process.output(kind, PRELUDE + script).splitlines()


def run_to_a_sudden_end(kind: str, script: str) -> list[str]:
    """A script that leaves its loop open, which alone asyncio would complain of."""
    return process.output(kind, PRELUDE + script, ["-W", "ignore::ResourceWarning"]).splitlines()


# Threads.


def test_futures_of_the_loops_own_copy_need_no_thread() -> None:
    script = """
import pyloop
from pyloop import _native
rust = _native._testing

async def main():
    await rust.yield_once()
    await asyncio.gather(*(pyloop.sleep(0.001) for _ in range(100)), rust.local(), rust.yield_n(10))
    print(threads())

asyncio.run(main(), loop_factory=new_event_loop)
print(threads())
"""
    assert run("pyloop", script) == ["1", "1"]


def test_futures_of_an_extension_need_its_runtime_alone() -> None:
    script = """
async def main():
    # What is ready needs none... but the runtime is there from the first poll on: it is what is polled in.
    await ext.yield_once()
    await asyncio.gather(*(ext.sleep(0.001) for _ in range(100)), ext.local(), ext.spawns_local())
    print(threads() - 1 == ext.WORKERS)
    await asyncio.gather(*(ext.spawned() for _ in range(100)))
    print(threads() - 1 == ext.WORKERS)

print(threads())
asyncio.run(main(), loop_factory=new_event_loop)
asyncio.run(main(), loop_factory=new_event_loop)
print(threads() - 1 == ext.WORKERS)
"""
    assert run("pyloop", script) == ["1"] + ["True"] * 5


def test_importing_the_extension_starts_nothing() -> None:
    script = """
import pyloop
print(threads(), "pyloop._native" in sys.modules)
"""
    assert run("asyncio", script) == ["1 True"]


def test_without_pyloop_an_extension_works_on_asyncio() -> None:
    script = """
async def main():
    assert await ext.yield_once() is None
    assert await asyncio.gather(ext.from_thread(), ext.local(), ext.spawned(), ext.spawns_local())
    assert [item async for item in ext.ticks(3)] == [0, 1, 2]
    assert await ext.awaits(asyncio.sleep(0, "slept")) == "slept"
    assert await ext.awaits_spawned(asyncio.sleep(0, "slept")) == "slept"

asyncio.run(main())
assert ext.runs(asyncio.sleep(0, 1)) == 1
print(sorted(name for name in sys.modules if name.startswith("pyloop.")) )
"""
    # `runs` imports pyloop, if it can.
    printed = run("asyncio", script.replace("assert ext.runs(asyncio.sleep(0, 1)) == 1\n", ""))
    assert printed == ["[]"]
    assert "'pyloop._native'" in run("asyncio", script)[0]


def test_pyloop_imported_after_the_first_futures_is_found() -> None:
    script = """
async def main():
    await ext.yield_once()
    return await ext.from_thread()

print(asyncio.run(main()))
import pyloop

class Loop(pyloop.EventLoop):
    def call_soon_threadsafe(self, *args, **kwargs):
        print("not by the waker")
        return super().call_soon_threadsafe(*args, **kwargs)

print(asyncio.run(main(), loop_factory=Loop))
"""
    assert run("asyncio", script) == ["42", "42"]


# Ends.


@kinds
@pytest.mark.parametrize(
    "make",
    [
        "ext.never()",
        "ext.sleep(3600)",
        "ext.spawned_never()",
        "ext.shielded(3600, [])",
        "ext.calls_when_dropped(print)",
        "ext.awaits(asyncio.sleep(3600))",
        "ext.awaits_spawned(asyncio.sleep(3600))",
        "ext.collects(ext.ticks(1_000_000))",
        "ext.collects(ext.ticks(1_000_000), spawned=True)",
    ],
)
def test_the_interpreter_ends_in_peace_while_it_is_pending(kind: str, make: str) -> None:
    script = f"""
loop = new_event_loop()
async def main():
    global task
    task = asyncio.ensure_future({make})
    await ext.sleep(0.001)

loop.run_until_complete(main())
task._log_destroy_pending = False
for each in asyncio.all_tasks(loop):
    each._log_destroy_pending = False
del each
os.write(1, b"end\\n")
"""
    assert run_to_a_sudden_end(kind, script)[0] == "end"


@kinds
def test_asyncio_run_cancels_what_is_pending(kind: str) -> None:
    script = """
def dropped():
    print("dropped")

async def main():
    for future in ext.never(), ext.spawned_never(), ext.sleep(3600), ext.calls_when_dropped(dropped):
        asyncio.create_task(future)
    await ext.sleep(0.001)

asyncio.run(main(), loop_factory=new_event_loop)
while ext.live():
    os.sched_yield()
print(ext.live())
"""
    assert run(kind, script) == ["dropped", "0"]


@kinds
def test_threads_go_on_waking_while_the_interpreter_ends(kind: str) -> None:
    script = """
loop = new_event_loop()
probe = ext.Probe()

async def main():
    for _ in range(20):
        task = asyncio.ensure_future(probe.future())
        task._log_destroy_pending = False
    await asyncio.sleep(0)

loop.run_until_complete(main())
for _ in range(2):
    threading.Thread(target=probe.wake, args=(3_000_000,), daemon=True).start()
os.write(1, b"end\\n")
"""
    assert run_to_a_sudden_end(kind, script) == ["end"]


@kinds
def test_the_loop_closes_while_threads_wake_it(kind: str) -> None:
    script = """
for number in range(30):
    loop = new_event_loop()
    probe = ext.Probe()
    async def main():
        tasks = [asyncio.ensure_future(probe.future()) for _ in range(5)]
        await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(main())
    thread = threading.Thread(target=probe.wake, args=(10_000,))
    thread.start()
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()
    thread.join()
print("end")
"""
    assert run(kind, script) == ["end"]


def test_a_local_future_of_a_thread_that_has_ended_is_never_dropped() -> None:
    script = """
held = []
def other():
    async def main():
        task = asyncio.create_task(ext.local())
        await asyncio.sleep(0)
        held.append(ext.calls_when_dropped(lambda: print("dropped")))
        task.cancel()
    asyncio.run(main(), loop_factory=new_event_loop)

thread = threading.Thread(target=other)
thread.start()
thread.join()
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    held.clear()
print("end")
"""
    assert run("pyloop", script) == ["end"]


@kinds
def test_a_forked_child_has_a_runtime_of_its_own(kind: str) -> None:
    script = """
async def main():
    await ext.sleep(0.001)
    assert await ext.spawned() == 'Some("pyloop-background")'
    return await ext.from_thread()

asyncio.run(main(), loop_factory=new_event_loop)
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
pid = os.fork()
if pid == 0:
    code = 1
    try:
        code = asyncio.run(main(), loop_factory=new_event_loop)
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == ["42", "42"]


ALL_THE_API = """
import atexit

def use(when):
    async def main():
        await ext.sleep(0.001)
        assert await ext.spawned() == 'Some("pyloop-background")'
        assert await ext.blocking(0.001) == 0.001
        return await ext.from_thread()
    got = asyncio.run(main(), loop_factory=new_event_loop)
    print(when, got, ext.block_on(), ext.runs(asyncio.sleep(0, 1)))
"""


@kinds
@pytest.mark.parametrize("used", ["before", "as it ends", "at exit"])
def test_the_programs_own_exit_functions_have_the_runtime(kind: str, used: str) -> None:
    """Registered before the extension was imported, and after its runtime was started."""
    script = (
        """
import atexit
atexit.register(lambda: use("first registered"))
"""
        + PRELUDE
        + ALL_THE_API
        + f"USED = {used!r}\n"
        + """
class AtTheVeryEnd:
    def __del__(self, write=os.write, listed=os.listdir, ext=ext):
        for work in (ext.block_on, lambda: ext.yield_once().send(None), lambda: ext.spawned().send(None)):
            try:
                work()
            except RuntimeError as error:
                write(1, f"{error}\\n".encode())
        write(1, f"{listed('/proc/self/task')}\\n".encode())

atexit.register(use, "second")
if USED == "before":
    use("program")
atexit.register(use, "last")
if USED != "at exit":
    threading._register_atexit(use, "threads have ended")
    # It keeps what the main module has beyond that module's end.
    atexit.register(threading._threading_atexits.clear)
at_the_very_end = AtTheVeryEnd()
sys.stdout.reconfigure(line_buffering=True)
"""
    )
    printed = process.output(kind, script).splitlines()
    expected = ["program"] if used == "before" else []
    expected += ["threads have ended"] if used != "at exit" else []
    expected += ["last", "second", "first registered"]
    assert printed[: len(expected)] == [f"{when} 42 5 1" for when in expected]
    stopped = "the background runtime has stopped: the interpreter is ending"
    *late, threads = printed[len(expected) :]
    assert late == [stopped] * 3
    assert threads.count("'") == 2, "one thread is left"


def test_exit_functions_that_are_taken_back_stop_nothing() -> None:
    script = (
        ALL_THE_API
        + """
use("before")
atexit._clear()
use("after")
atexit._run_exitfuncs()
use("still")
"""
    )
    assert run("pyloop", script) == ["before 42 5 1", "after 42 5 1", "still 42 5 1"]


SUBINTERPRETER = """
if sys.version_info >= (3, 13):
    import _interpreters
    other = _interpreters.create("legacy")
else:
    import _xxsubinterpreters as _interpreters
    other = _interpreters.create(isolated=False)
"""


@pytest.mark.parametrize("first", ["main", "subinterpreter"])
def test_a_subinterpreter_is_refused_what_is_awaited(first: str) -> None:
    """A thread of the main interpreter would wake its loop, and what it makes first would end with it."""
    refused = "Rust futures are awaited in the main interpreter only, not in a subinterpreter"
    theirs = f"""
import asyncio, warnings
import pyloop_extension as ext
warnings.simplefilter("ignore", RuntimeWarning)  # what is refused by the `await` only

def refused(use):
    async def main():
        return await use()
    try:
        asyncio.run(main())
    except RuntimeError as error:
        assert str(error) == {refused!r}, error
    else:
        raise AssertionError("it is taken")

async def iterates():
    async for _ in ext.ticks(3):
        pass

async def later():
    await asyncio.sleep(0)

refused(ext.yield_once)
refused(ext.from_thread)
refused(ext.spawned)
refused(ext.Counter().add)
refused(iterates)
refused(lambda: ext.calls_async(later))
refused(lambda: ext.asks(print, 1))
refused(lambda: ext.awaits_detached(later(), print))
assert ext.block_on() == 5
"""
    script = (
        f"FIRST, THEIRS = {first!r}, {theirs!r}"
        """
async def main():
    return await ext.spawned(), await ext.from_thread(), [item async for item in ext.ticks(2)]

if FIRST == "main":
    asyncio.run(main(), loop_factory=new_event_loop)
"""
        + SUBINTERPRETER
        + """
# CPython 3.12 raises what the code has raised, 3.13 returns it.
print(_interpreters.run_string(other, THEIRS))
_interpreters.destroy(other)
print(asyncio.run(main(), loop_factory=new_event_loop), ext.block_on())
"""
    )
    assert run("asyncio", script) == ["None", "('Some(\"pyloop-background\")', 42, [0, 1]) 5"]


@pytest.mark.parametrize("first", ["main", "subinterpreter"])
def test_the_end_of_a_subinterpreter_stops_nothing(first: str) -> None:
    """Of one that shares the GIL, which alone CPython lets import such a module."""
    script = (
        f"FIRST = {first!r}"
        """
async def main():
    return await ext.spawned(), await ext.from_thread()

if FIRST == "main":
    asyncio.run(main(), loop_factory=new_event_loop)
"""
        + SUBINTERPRETER
        + """
_interpreters.run_string(other, "import pyloop_extension as ext; assert ext.block_on() == 5")
_interpreters.destroy(other)
print(asyncio.run(main(), loop_factory=new_event_loop), ext.block_on())
"""
    )
    assert run("asyncio", script) == ["('Some(\"pyloop-background\")', 42) 5"]
