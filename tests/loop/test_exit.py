"""The end of the interpreter while daemon threads are still at work: it is an exit like any other.

CPython before 3.14 ends such threads by force, where they next ask for the GIL.
"""

from __future__ import annotations

import pytest

from support import process

PRELUDE = """
import concurrent.futures, inspect, socket, sys, threading, time

def busy(loop):
    loop.call_soon(busy, loop)

def timers(loop):
    loop.call_later(0.0003, timers, loop)

def blocks(loop):
    time.sleep(0.0003)
    loop.call_soon(blocks, loop)

def raises(loop):
    loop.set_exception_handler(lambda loop, context: str(context))
    loop.call_soon(raises, loop)
    raise ValueError

async def ping(queue, other):
    while True:
        await other.put(await queue.get())

async def tasks(loop):
    one, other = asyncio.Queue(), asyncio.Queue()
    one.put_nowait(1)
    await asyncio.gather(ping(one, other), ping(other, one))

async def spawns(loop):
    while True:
        await asyncio.gather(*map(asyncio.sleep, [0, 0.0001, 0]))

async def sockets(loop):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    while True:
        await loop.sock_sendall(peer, b"x")
        await loop.sock_recv(ours, 10)

async def datagrams(loop):
    ours, peer = socket.socketpair(type=socket.SOCK_DGRAM)
    ours.setblocking(False)
    peer.setblocking(False)
    while True:
        await loop.sock_sendall(peer, b"x")
        await loop.sock_recvfrom(ours, 10)

async def readers(loop):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    loop.add_reader(ours, lambda: peer.send(ours.recv(1)))
    loop.add_reader(peer, lambda: ours.send(peer.recv(1)))
    ours.send(b"x")
    await asyncio.Event().wait()

async def streams(loop):
    async def echo(reader, writer):
        while True:
            writer.write(await reader.read(10))
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    while True:
        writer.write(b"x")
        await reader.read(10)

async def executes(loop):
    try:
        while True:
            await loop.run_in_executor(None, time.sleep, 0.0001)
    except RuntimeError:  # the executor takes nothing more
        await idle(loop)

async def idle(loop):
    await asyncio.Event().wait()

class Dies:
    def __del__(self):
        sum(range(100))

async def destroys(loop):
    while True:
        loop.call_soon(Dies)
        future = loop.create_future()
        future.set_exception(ValueError(Dies()))
        future.exception()
        await asyncio.sleep(0)

def run(work):
    loop = new_event_loop()
    if inspect.iscoroutinefunction(work):
        loop.create_task(work(loop))
    else:
        loop.call_soon(work, loop)
    loop.run_forever()

def end(target, *args):
    for _ in range(2):
        threading.Thread(target=target, args=args, daemon=True).start()
    time.sleep(0.05)
    sys.exit(3)
"""

WORK = [
    *("busy", "timers", "blocks", "raises", "tasks", "spawns", "sockets", "datagrams", "readers", "streams"),
    *("executes", "idle", "destroys"),
]


def check(kind: str, script: str, **env: str) -> None:
    for _ in range(2):
        with process.start(kind, PRELUDE + script, **env) as ended:
            printed, errors = ended.communicate(timeout=15)
        assert (ended.returncode, printed) == (3, "")
        # asyncio does not keep its tasks alive, and tells so when it loses them.
        assert not errors or (kind == "asyncio" and "Task was destroyed" in errors), errors


@pytest.mark.parametrize("work", WORK)
def test_a_loop_in_a_daemon_thread_does_not_disturb_the_exit(loop_kind: str, work: str) -> None:
    check(loop_kind, f"end(run, {work})")


def test_a_loop_in_debug_mode_does_not_disturb_it_either(loop_kind: str) -> None:
    check(loop_kind, "end(run, tasks)", PYTHONASYNCIODEBUG="1")


RUST = {
    "timers": "while True: await pyloop.sleep(0.0001)",
    "a ready one": "while True: await pyloop.sleep(0)",
    "a channel": """
    while True:
        sender, receiver = sync.oneshot()
        loop.call_soon(sender.send, Dies())
        await receiver.recv()""",
    "files": """
    try:
        while True:
            async with await fs.open("/dev/null") as file:
                await file.read()
    except OSError:
        await idle(loop)""",
}


@pytest.mark.parametrize("work", RUST)
@pytest.mark.usefixtures("pyloop_factory")
def test_rust_futures_in_a_daemon_thread_do_not_disturb_the_exit(work: str) -> None:
    check(
        "pyloop",
        f"""
import pyloop
from pyloop import fs, sync
async def rust(loop):
    {RUST[work]}
end(run, rust)
""",
    )


@pytest.mark.usefixtures("pyloop_factory")
@pytest.mark.parametrize("work", ["tasks", "spawns", "destroys"])
def test_our_tasks_on_a_loop_of_asyncios_do_not_disturb_it(work: str) -> None:
    script = f"""
import pyloop
def run():
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(lambda loop, coro, **kwargs: pyloop.Task(coro, loop=loop, **kwargs))
    loop.run_until_complete({work}(loop))
end(run)
"""
    check("asyncio", script)


@pytest.mark.usefixtures("pyloop_factory")
def test_run_in_thread_by_a_daemon_thread_does_not_disturb_it() -> None:
    script = """
import pyloop
async def short():
    await asyncio.sleep(0)
def run():
    while True:
        pyloop.run_in_thread(short())
end(run)
"""
    check("pyloop", script)


@pytest.mark.usefixtures("pyloop_factory")
def test_a_loop_that_runs_inside_another_does_not_disturb_it() -> None:
    script = """
async def outer(loop):
    asyncio._set_running_loop(None)
    run(tasks)
end(run, outer)
"""
    check("pyloop", script)


@pytest.mark.usefixtures("pyloop_factory")
def test_a_loop_that_outlives_its_module_goes_in_silence() -> None:
    script = """
import gc
from pyloop import _forks
loop = new_event_loop()
loop.close()
# As the interpreter empties a module that is alive at its end.
for name in [name for name in vars(_forks) if name[:2] != "__"]:
    vars(_forks)[name] = None
del loop
gc.collect()
"""
    assert process.output("pyloop", script) == ""
