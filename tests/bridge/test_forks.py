"""Forks of processes whose Rust threads run: the child has a runtime of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import process
from support.extension import ext
from support.patience import patient

pytestmark = pytest.mark.usefixtures("pyloop_factory")

PRELUDE = """
import asyncio, gc, multiprocessing, os, signal, sys, time, warnings
import pyloop_extension as ext
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

if KIND == "uvloop":
    from uvloop import new_event_loop

async def awaits(awaitable):
    return await awaitable

async def numbers():
    for i in range(4):
        await asyncio.sleep(0)
        yield i

async def work():
    await ext.sleep(0.001)
    await ext.yield_once()
    await ext.spawned()
    await ext.blocking(0.001)
    assert await ext.from_thread() == 42
    await ext.shielded(0.001, [])
    assert await ext.spawns_local() == 4
    assert await ext.awaits(awaits(ext.ready(3))) == 3
    assert await ext.awaits_spawned(awaits(ext.ready(3))) == 3
    assert await ext.sums(numbers(), 9) == 6
    assert [i async for i in ext.ticks(3)] == [0, 1, 2]

def run():
    asyncio.run(work(), loop_factory=new_event_loop)
    return 0

def fork(child):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = child()
        finally:
            os._exit(code)
    for _ in range(5000):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"
"""

kinds = pytest.mark.parametrize("kind", ["asyncio", "pyloop", "uvloop"])


@pytest.fixture(autouse=True)
def _installed() -> None:
    assert ext.WORKERS == 2


def run(kind: str, script: str) -> str:
    return process.output("pyloop" if kind == "pyloop" else "asyncio", f"KIND = {kind!r}\n{PRELUDE}{script}")


@kinds
def test_children_and_their_children_work(kind: str) -> None:
    script = """
run()
print([fork(run) for _ in range(5)], fork(lambda: run() or fork(run)), run())
"""
    assert run(kind, script) == "[0, 0, 0, 0, 0] 0 0\n"


@kinds
def test_a_child_of_a_coroutine_works_and_so_does_its_parent(kind: str) -> None:
    script = """
async def main():
    await work()
    code = fork(run)
    await work()
    return code

print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == "0\n"


@kinds
def test_a_child_may_drop_what_is_pending_in_its_parent(kind: str) -> None:
    script = """
pending = []

def child():
    for task in pending:
        task._log_destroy_pending = False
    pending.clear()
    gc.collect()
    return run()

async def main():
    futures = ext.never(), ext.spawned_never(), ext.sleep(100), ext.blocking(0.05), ext.shielded(100, [])
    pending.extend(asyncio.ensure_future(awaits(future)) for future in futures)
    await asyncio.sleep(0.005)
    codes = fork(run), fork(child)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    await work()
    return codes

print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == "(0, 0)\n"


@kinds
def test_a_child_awaits_what_its_parent_made_and_no_more(kind: str) -> None:
    script = """
def child():
    async def main():
        await made[0]
        await made[1]
        try:
            await begun
        except RuntimeError as refused:
            return 0 if "already awaited" in str(refused) else 2
        return 3
    return asyncio.run(main(), loop_factory=new_event_loop)

async def main():
    global begun, made
    begun, made = ext.sleep(30), (ext.sleep(0.001), ext.spawned())
    task = asyncio.ensure_future(awaits(begun))
    await asyncio.sleep(0.001)
    code = fork(child)
    task.cancel()
    for future in made:
        await future
    return code

print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == "0\n"


@kinds
def test_a_fork_finds_no_lock_that_another_thread_has(kind: str) -> None:
    script = """
run()
ext.asks_for_the_runtime_for_ever()
kept = ext.Kept()

async def main():
    task = asyncio.ensure_future(awaits(kept.wait()))
    await asyncio.sleep(0)
    kept.wake_for_ever()
    codes = set()
    for _ in range(15):
        codes.add(fork(run))
        await asyncio.sleep(0)
    task.cancel()
    return codes

print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert run(kind, script) == "{0}\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_starts_working_children(method: str, tmp_path: Path) -> None:
    script = f"""
if __name__ == "__main__":
    run()
    child = multiprocessing.get_context({method!r}).Process(target=run)
    child.start()
    child.join()
    print(child.exitcode, run())
"""
    path = tmp_path / "script.py"
    path.write_text(process.PRELUDE.format(kind="pyloop") + f"KIND = 'pyloop'\n{PRELUDE}{script}")
    ended = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=patient(20), check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "0 0\n", "")


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        *((kind, "future.close(); os._exit(3)") for kind in ("asyncio", "pyloop", "uvloop")),
        # The others' own loops would not survive this.
        ("pyloop", "sys.exit(3)"),
    ],
)
def test_a_child_that_drops_a_future_leaves_its_parents_sockets_alone(kind: str, end: str) -> None:
    script = f"""
import socket
server = socket.create_server(("127.0.0.1", 0))

def fork_and_end(future):
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        {end}
    return pid

async def main():
    future = ext.round_trip(server.getsockname()[1], b"meow")
    task = asyncio.ensure_future(awaits(future))
    peer = await asyncio.to_thread(lambda: server.accept()[0])
    with peer:
        assert await asyncio.to_thread(peer.recv, 4) == b"meow"
        await asyncio.sleep(0.001)
        pid = fork_and_end(future)
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            await asyncio.sleep(0.001)
        peer.send(b"purr")
        print(os.waitstatus_to_exitcode(ended[1]), bytes(await task))

if __name__ == "__main__":
    with server:
        asyncio.run(main(), loop_factory=new_event_loop)
"""
    assert run(kind, script) == "3 b'purr'\n"
