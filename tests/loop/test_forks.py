"""Forks: the child leaves the parent's loop alone, whatever becomes of the child.

On pyloop alone: asyncio's own child takes the loop's wake-up socket out of the epoll that it shares with its
parent (python/cpython#66285), and runs its parent's tasks.
"""

from __future__ import annotations

import pytest

from support import process

pytestmark = pytest.mark.usefixtures("pyloop_factory")

PRELUDE = """
import gc, os, socket, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
sys.unraisablehook = lambda raised: os.write(1, f"unraisable {raised.exc_value!r}".encode())

def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def silent():
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

async def all_works(loop):
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    with ours, peer:
        loop.call_later(0.001, peer.send, b"r")
        assert await loop.sock_recv(ours, 1) == b"r"
        heard = loop.create_future()
        loop.add_reader(ours, lambda: heard.done() or heard.set_result(ours.recv(1)))
        peer.send(b"s")
        assert await heard == b"s"
        loop.remove_reader(ours)
        called = loop.create_future()
        threading.Timer(0.001, loop.call_soon_threadsafe, (called.set_result, None)).start()
        await called
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0
    return "works"
"""


def output(script: str) -> str:
    return process.output("pyloop", PRELUDE + script)


ENDS = {
    "returns": ("pass", 0),
    "exits": ("sys.exit(9)", 9),
    "raises": ("silent(); 1 / 0", 1),
    "collects": ("del loop; gc.collect(); sys.exit(4)", 4),
    "closes": ("loop.close(); assert loop.is_closed(); sys.exit(5)", 5),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_ends_leaves_its_parent_a_loop_that_works(end: str) -> None:
    body, code = ENDS[end]
    script = f"""
loop = new_event_loop()
ours, peer = socket.socketpair()
ours.setblocking(False)
heard = []
loop.add_reader(ours, lambda: heard.append(ours.recv(1)))
print(loop.run_until_complete(all_works(loop)), flush=True)
waits = loop.create_task(loop.sock_recv(peer, 1))
peer.setblocking(False)
loop.run_until_complete(asyncio.sleep(0.001))
pid = os.fork()
if not pid:
    {body}
else:
    print(code_of(pid))
    print(loop.run_until_complete(all_works(loop)))
    ours.send(b"x")
    print(loop.run_until_complete(waits))
    peer.send(b"y")
    loop.run_until_complete(asyncio.sleep(0.001))
    print(heard)
    loop.remove_reader(ours)
    loop.close()
ours.close()
peer.close()
"""
    assert output(script) == f"works\n{code}\nworks\nb'x'\n[b'y']\n"


FROM_INSIDE = {
    "returns": ("return 'child'", 0),
    "exits": ("sys.exit(9)", 9),
    "raises": ("silent(); 1 / 0", 1),
    "gives way and returns": ("await asyncio.sleep(0); await asyncio.sleep(0); return 'child'", 0),
    "leaves abruptly": ("os._exit(7)", 7),
    "runs a loop of its own": (
        "other = new_event_loop(); other.run_until_complete(all_works(other)); other.close(); sys.exit(3)",
        3,
    ),
}


@pytest.mark.parametrize("end", FROM_INSIDE)
@pytest.mark.parametrize("fork", ["os.fork()", "os.forkpty()[0]"])
def test_a_child_of_a_coroutine_ends_as_it_likes(end: str, fork: str) -> None:
    body, code = FROM_INSIDE[end]
    script = f"""
async def sibling():
    try:
        await asyncio.sleep(0)
        await asyncio.Event().wait()
    finally:
        os.write(1, b"finally\\n")

async def rust():
    await __import__("pyloop").sleep(1000)

async def generate():
    try:
        while True:
            yield 1
    finally:
        os.write(1, b"generated\\n")

async def main():
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(sibling()), loop.create_task(rust())]
    loop.call_later(0.001, int)
    generator = generate()
    await anext(generator)
    await asyncio.to_thread(int)
    await asyncio.sleep(0)
    loop.call_soon(lambda: os.write(1, b"called\\n"))
    pid = {fork}
    if not pid:
        silent()
        {body}
    assert await asyncio.to_thread(code_of, pid) == {code}
    print(await all_works(loop), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await generator.aclose()
    return "parent"

result = asyncio.run(main(), loop_factory=new_event_loop)
if result == "parent":
    print(result)
"""
    assert output(script) == "called\nworks\nfinally\ngenerated\nparent\n"


def test_who_waits_for_the_coroutine_that_forked_goes_on_in_the_child() -> None:
    script = """
async def forks():
    return os.fork()

async def main():
    pids = await asyncio.gather(forks(), forks.done)
    return pids[0]

async def prepare():
    forks.done = asyncio.get_running_loop().create_future()
    forks.done.set_result(None)
    return await main()

pid = asyncio.run(prepare(), loop_factory=new_event_loop)
if not pid:
    sys.exit(6)
print(code_of(pid))
"""
    assert output(script) == "6\n"


def test_an_eager_step_that_forked_ends_in_the_child() -> None:
    script = """
import pyloop

async def forks():
    return os.fork()

async def main():
    task = pyloop.Task(forks(), loop=asyncio.get_running_loop(), eager_start=True)
    await asyncio.sleep(0)
    return task.result()

pid = asyncio.run(main(), loop_factory=new_event_loop)
if not pid:
    sys.exit(6)
print(code_of(pid))
"""
    assert output(script) == "6\n"


def test_who_waits_for_the_parents_work_is_told_so_in_the_child() -> None:
    script = """
async def forks():
    return os.fork()

async def main():
    pids = await asyncio.gather(forks(), asyncio.sleep(0))
    return pids[0]

print(code_of(asyncio.run(main(), loop_factory=new_event_loop)))
"""
    with process.start("pyloop", PRELUDE + script) as started:
        printed, errors = started.communicate(timeout=15)
    assert printed == "1\n"
    assert "RuntimeError: This event loop was made before a fork" in errors


def test_a_runner_is_closed_in_the_child_of_its_block() -> None:
    script = """
with asyncio.Runner(loop_factory=new_event_loop) as runner:
    loop = runner.get_loop()
    assert runner.run(all_works(loop)) == "works"
    tasks = [loop.create_task(asyncio.sleep(100)), asyncio.Task(asyncio.sleep(100), loop=loop)]
    runner.run(asyncio.sleep(0))
    pid = os.fork()
    if not pid:
        sys.exit(9)
    print(code_of(pid), runner.run(all_works(loop)))
print([task.cancelled() for task in tasks])
"""
    assert output(script) == "9 works\n[True, True]\n"


def test_a_child_finds_no_tasks_of_its_parents_loop() -> None:
    script = """
loop = new_event_loop()
tasks = [loop.create_task(asyncio.sleep(100)), asyncio.Task(asyncio.sleep(100), loop=loop)]
loop.set_task_factory(asyncio.eager_task_factory)
async def main():
    return loop.create_task(asyncio.sleep(100))
tasks.append(loop.run_until_complete(main()))
pid = os.fork()
if not pid:
    os._exit(len(asyncio.all_tasks(loop)))
print(code_of(pid), len(asyncio.all_tasks(loop)))
for task in tasks:
    task.cancel()
loop.run_until_complete(asyncio.wait(tasks))
loop.close()
"""
    assert output(script) == "0 3\n"


def test_a_child_may_end_a_loop_that_a_thread_of_its_parent_runs() -> None:
    script = """
loop = new_event_loop()
thread = threading.Thread(target=loop.run_forever)
thread.start()
asyncio.run_coroutine_threadsafe(all_works(loop), loop).result()
pid = os.fork()
if not pid:
    assert not loop.is_running()
    loop.call_soon_threadsafe(int)
    loop.stop()
    loop.close()
    assert loop.is_closed()
    sys.exit(2)
print(code_of(pid), asyncio.run_coroutine_threadsafe(all_works(loop), loop).result())
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
"""
    assert output(script) == "2 works\n"


def test_a_child_is_refused_what_would_reach_its_parents_kernel() -> None:
    script = """
loop = new_event_loop()
ours, peer = socket.socketpair()
ours.setblocking(False)
loop.add_reader(ours, int)
loop.run_until_complete(asyncio.sleep(0))

def refused(call, *args):
    try:
        call(*args)
    except RuntimeError as error:
        return "made before a fork" in str(error)

pid = os.fork()
if not pid:
    coroutine = asyncio.sleep(0)
    assert refused(loop.run_forever)
    assert refused(loop.run_until_complete, coroutine)
    coroutine.close()
    assert refused(loop.run_until_complete, loop.create_future())
    assert refused(loop.add_reader, peer, int)
    assert refused(loop.add_writer, peer, int)
    assert refused(loop.sock_recv, ours, 1)
    assert not loop.remove_reader(ours)
    assert not loop.remove_writer(ours)
    loop.call_soon(int).cancel()
    loop.call_later(1, int).cancel()
    sys.exit(2)
print(code_of(pid), loop.run_until_complete(all_works(loop)))
print(loop.remove_reader(ours))
loop.close()
ours.close()
peer.close()
"""
    assert output(script) == "2 works\nTrue\n"


def test_a_child_of_a_childs_coroutine_ends_as_it_likes() -> None:
    script = """
async def forks(then):
    pid = os.fork()
    if not pid:
        then()
    return await asyncio.to_thread(code_of, pid)

def child():
    code = asyncio.run(forks(lambda: sys.exit(4)), loop_factory=new_event_loop)
    sys.exit(code + 1)

print(asyncio.run(forks(child), loop_factory=new_event_loop))
"""
    assert output(script) == "5\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_in_a_coroutine_leaves_the_loop_alone(method: str) -> None:
    # `spawn` would import this very script: its child runs a function of the standard library.
    script = f"""
import multiprocessing, operator
async def main():
    loop = asyncio.get_running_loop()
    await all_works(loop)
    child = multiprocessing.get_context({method!r}).Process(target=operator.not_, args=(1,))
    child.start()
    await asyncio.to_thread(child.join)
    return child.exitcode, await all_works(loop)
if __name__ == "__main__":
    print(asyncio.run(main(), loop_factory=new_event_loop))
"""
    assert output(script) == "(0, 'works')\n"


def test_a_child_lets_the_subprocesses_of_its_parent_be() -> None:
    script = """
async def main():
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    pid = os.fork()
    if not pid:
        silent()
        sys.exit(8)
    code = await asyncio.to_thread(code_of, pid)
    print(code, await process.communicate(b"meow"), process.returncode)
    return code
asyncio.run(main(), loop_factory=new_event_loop)
"""
    assert output(script) == "8 (b'meow', None) 0\n"


def test_signals_of_a_child_are_its_own() -> None:
    script = """
import signal
async def main():
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, seen.set)
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.set_wakeup_fd(-1) == -1
        sys.exit(3)
    print(await asyncio.to_thread(code_of, pid), seen.is_set())
    os.kill(os.getpid(), signal.SIGUSR1)
    await seen.wait()
asyncio.run(main(), loop_factory=new_event_loop)
"""
    assert output(script) == "3 False\n"
