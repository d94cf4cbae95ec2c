"""A process that has run out of descriptors or memory: who asks for more is told, the loop goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from typing import Any, NoReturn

import pytest

from support.loops import Loop, LoopFactory
from support.process import output, start
from support.rust import pyloop

# `fill()` takes every descriptor that is left (and gives them back in a list); `spare(n)` leaves n.
FILL = """
import errno, gc, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
def fill():
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE
            return taken
def free(taken):
    while taken:
        os.close(taken.pop())
"""


def test_the_first_timer_of_a_run_needs_no_descriptor(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        FILL
        + """
async def main():
    taken = fill()
    print(await asyncio.sleep(0.002, "slept"))
    free(taken)
asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "slept\n"


def test_a_later_run_without_descriptors_has_timers(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        FILL
        + """
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
taken = fill()
for _ in range(3):
    print(loop.run_until_complete(asyncio.sleep(0.002, "slept")))
free(taken)
loop.close()
""",
    )
    assert printed == "slept\n" * 3


# `first_loop(taken)` is the loop that has run with the fewest descriptors left.
FIRST_LOOP = """
import warnings
warnings.simplefilter("ignore")  # coroutines that did not run
new_event_loop().close()
def first_loop(taken):
    while True:
        loop = None
        try:
            loop = new_event_loop()
            assert loop.run_until_complete(asyncio.sleep(0.002, "slept")) == "slept"
            return loop
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        if loop is not None:
            loop.close()
        gc.collect()
        os.close(taken.pop())
"""


def test_a_loop_made_with_the_last_descriptors_is_refused_or_works(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        FILL
        + FIRST_LOOP
        + """
before = sorted(os.listdir("/dev/fd"))
taken = fill()
loop = first_loop(taken)
while taken:
    loop.close()
    os.close(taken.pop())
    loop = new_event_loop()
    print(loop.run_until_complete(asyncio.sleep(0.002, "slept")))
    if len(taken) < 40:
        free(taken)
loop.close()
gc.collect()
print(sorted(os.listdir("/dev/fd")) == before)
""",
    )
    assert printed.endswith("slept\nTrue\n")


def test_timers_are_exact_in_the_first_run_that_has_a_descriptor_for_them(
    pyloop_factory: LoopFactory,
) -> None:
    printed = output(
        "pyloop",
        FILL
        + FIRST_LOOP
        + """
def timerfds():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink("/proc/self/fd/" + name))
        except OSError:  # the one that lists
            pass
    return links.count("anon_inode:[timerfd]")
taken = fill()
loop = first_loop(taken)
os.close(taken.pop())  # for the list itself
print(timerfds())
free(taken)
loop.run_until_complete(asyncio.sleep(0))
print(timerfds())
loop.close()
print(timerfds())
""",
    )
    assert printed == "0\n1\n0\n"


# `no_threads()` leaves none that could be started. They are counted for each user, but not for root.
NO_THREADS = """
import concurrent.futures.thread, os, resource, socket, tempfile, encodings.idna
place = tempfile.mkdtemp()
os.chmod(place, 0o777)
if KIND == "pyloop":
    import pyloop.fs
if os.getuid() == 0:
    os.setuid(65534)
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
def no_threads():
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
def threads():
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
"""


def without_threads(kind: str, script: str) -> str:
    """What a script prints. A Rust thread that cannot be started is reported by Rust, too."""
    with start(kind, f"KIND = {kind!r}\n{NO_THREADS}{script}") as process:
        printed, errors = process.communicate(timeout=15)
    assert not process.returncode, errors
    return printed


def test_an_executor_without_threads_is_a_runtime_error(loop_kind: str) -> None:
    printed = without_threads(
        loop_kind,
        """
async def main():
    loop = asyncio.get_running_loop()
    no_threads()
    for call in (lambda: asyncio.to_thread(int), lambda: loop.getaddrinfo("localhost", 80)):
        try:
            await call()
        except RuntimeError as error:
            print(error)
    threads()
    print(await asyncio.to_thread(int))
asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "can't start new thread\n" * 2 + "0\n"


def test_files_without_threads_are_a_runtime_error_and_remain(pyloop_factory: LoopFactory) -> None:
    printed = without_threads(
        "pyloop",
        """
path = place + "/file"
async def make():
    await pyloop.fs.write(path, b"0123456789")
    return await pyloop.fs.open(path, "r+b")
def run(main):
    return asyncio.run(main, loop_factory=new_event_loop)
file = run(make())  # the threads end with their loop

async def main():
    no_threads()
    calls = [
        lambda: file.read(5), lambda: file.seek(7), lambda: file.write(b"x"), lambda: file.sync_all(),
        lambda: file.close(), lambda: pyloop.fs.read(path), lambda: pyloop.fs.write(path, b""),
        lambda: pyloop.fs.remove_file(path), lambda: pyloop.fs.open(path),
        lambda: anext(pyloop.fs.read_dir(place)),
    ]
    for call in calls:
        try:
            await call()
        except RuntimeError as error:
            print(error)
    threads()
    print(await file.read(5), await file.seek(2), await file.write(b"x"), await file.read(5))
    await file.close()
    print(await pyloop.fs.read(path))
run(main())
""",
    )
    assert printed == "can't start new thread\n" * 10 + "b'01234' 2 1 b'34567'\nb'01x3456789'\n"


def test_memory_that_a_file_would_need_is_a_memory_error(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import pyloop.fs, resource
async def main():
    file = await pyloop.fs.open("/dev/zero", "rb")
    await file.read(10)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, hard))
    for size in (2**62, -1):
        try:
            await file.read(size)
        except MemoryError:
            print("MemoryError")
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    print(len(await file.read(10)))
    await file.close()
asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "MemoryError\nMemoryError\n10\n"


@pytest.mark.parametrize("missing", ["pidfd_open", "_add_reader"])
def test_a_child_is_waited_for_by_a_thread_where_there_is_no_descriptor_for_it(
    pyloop_loop: Loop, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    refuse_child(monkeypatch, missing)

    async def main() -> int:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
        return await child.wait()

    assert pyloop_loop.run_until_complete(main()) == 7


def test_a_child_that_nobody_could_wait_for_is_ended(
    pyloop_loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_child(monkeypatch, "pidfd_open")

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    children: list[Any] = []
    popen = subprocess.Popen

    def kept(*args: Any, **kwargs: Any) -> Any:
        children.append(popen(*args, **kwargs))
        return children[-1]

    monkeypatch.setattr(subprocess, "Popen", kept)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
        assert children[0].wait() < 0
        for _ in range(5):
            await asyncio.sleep(0)  # the transport of the pipe ends
        assert children[0].stdin.closed

    pyloop_loop.run_until_complete(main())


def refuse_child(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """Have the process without a descriptor, or the system without a watch, for a child."""

    def refuse(*_: Any) -> NoReturn:
        raise OSError(errno.EMFILE if missing == "pidfd_open" else errno.ENOSPC, "none left")

    if missing == "pidfd_open":
        monkeypatch.setattr(os, "pidfd_open", refuse)
        return
    usual = pyloop.EventLoop._add_reader

    def add_reader(loop: Any, fd: Any, callback: Any, *args: Any) -> Any:
        return refuse() if callback == loop._child_exited else usual(loop, fd, callback, *args)

    monkeypatch.setattr(pyloop.EventLoop, "_add_reader", add_reader)
