"""What befalls a whole process: fork, exit, no more descriptors, a second interpreter."""

from __future__ import annotations

import pytest

from support.loops import LoopFactory
from support.process import output, start


def test_a_forked_child_has_no_running_loop_and_runs_a_new_one(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)

async def main(word):
    await asyncio.sleep(0.001)
    return word

async def parent():
    await asyncio.sleep(0)
    child = os.fork()
    if not child:
        code = 1
        try:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                loop = new_event_loop()
                assert loop.run_until_complete(main("child")) == "child"
                loop.close()
                code = 7
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status))
    print(await main("parent"))

asyncio.run(parent(), loop_factory=new_event_loop)
""",
    )
    assert printed == "7\nparent\n"


def test_a_child_of_a_fork_outside_the_loop_does_not_disturb_its_parent(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import os, socket
loop = new_event_loop()
ours, theirs = socket.socketpair()
seen = []
loop.add_reader(ours, lambda: (seen.append(ours.recv(1)), loop.stop()))
loop.run_until_complete(asyncio.sleep(0))
child = os.fork()
if not child:
    other = new_event_loop()
    other.run_until_complete(asyncio.sleep(0.001))
    other.close()
    os._exit(0)
os.waitpid(child, 0)
theirs.send(b"x")
loop.run_forever()
print(seen)
loop.remove_reader(ours)
loop.close()
ours.close()
theirs.close()
""",
    )
    assert printed == "[b'x']\n"


def test_the_loop_of_the_parent_is_refused_in_a_child(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import os
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
child = os.fork()
if not child:
    code = 1
    try:
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
        except RuntimeError as error:
            code = 7 if "fork" in str(error) else 2
    finally:
        os._exit(code)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loop.close()
""",
    )
    assert printed == "7\n"


def test_a_process_pool_works_as_an_executor(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import concurrent.futures, math, multiprocessing
async def main():
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return await asyncio.get_running_loop().run_in_executor(pool, math.factorial, 5)
if __name__ == "__main__":
    print(asyncio.run(main(), loop_factory=new_event_loop))
""",
    )
    assert printed == "120\n"


@pytest.mark.parametrize("where", ["call_soon", "create_task"])
def test_sys_exit_inside_is_the_exit_code(loop_kind: str, where: str) -> None:
    script = """
import sys
loop = new_event_loop()
async def leave():
    sys.exit(3)
if WHERE == "call_soon":
    loop.call_soon(sys.exit, 3)
else:
    task = loop.create_task(leave())
try:
    loop.run_forever()
finally:
    loop.close()
"""
    with start(loop_kind, f"WHERE = {where!r}\n{script}") as process:
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 3
    assert "panicked" not in errors


def test_an_exit_in_the_middle_of_everything_is_only_an_exit(loop_kind: str) -> None:
    script = """
import os, threading
async def main():
    loop = asyncio.get_running_loop()
    for _ in range(10):
        loop.run_in_executor(None, threading.Event().wait, 0.05)
        loop.call_later(0.001, int)
        asyncio.ensure_future(asyncio.sleep(10))
    await asyncio.sleep(0.002)
    os._exit(5)
asyncio.run(main(), loop_factory=new_event_loop)
"""
    with start(loop_kind, script) as process:
        assert process.communicate(timeout=15) == ("", "")
    assert process.returncode == 5


def test_a_loop_for_which_there_are_no_descriptors_is_an_os_error(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import errno, gc, os, resource, warnings
warnings.simplefilter("ignore", ResourceWarning)
new_event_loop().close()
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
first = len(os.listdir("/dev/fd"))
kept = []
while True:
    try:
        kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
for free in range(9):
    loop = None
    try:
        loop = new_event_loop()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        print("made")
        break
    except OSError as error:
        assert error.errno == errno.EMFILE, error
        if loop is not None:
            loop.close()
    os.close(kept.pop())
else:
    raise SystemExit("a loop needs more than eight descriptors")
for fd in kept:
    os.close(fd)
print(len(os.listdir("/dev/fd")) == first)
""",
    )
    assert printed == "made\nTrue\n"


def test_a_server_without_descriptors_accepts_again_when_there_are_some(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import resource, socket
from asyncio import constants
constants.ACCEPT_RETRY_DELAY = 0.01
async def main():
    loop = asyncio.get_running_loop()
    messages = []
    complained = asyncio.Event()
    loop.set_exception_handler(lambda _, context: (messages.append(context["message"]), complained.set()))
    accepted = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    clients = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (clients[-1].fileno() + 3, hard))
    await complained.wait()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    writers = [await accepted.get() for _ in range(5)]
    print(len(writers), set(messages))
    for client in clients:
        client.close()
    for writer in writers:
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
asyncio.run(main(), loop_factory=new_event_loop)
""",
    )
    assert printed == "5 {'socket.accept() out of system resource'}\n"


def test_a_second_interpreter_refuses_the_import(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import sys, warnings
warnings.simplefilter("ignore")
name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
interpreters = __import__(name)
import pyloop
one = interpreters.create()
code = '''
try:
    import pyloop
except ImportError:
    print("refused", flush=True)
'''
interpreters.run_string(one, code)
interpreters.destroy(one)
print(asyncio.run(asyncio.sleep(0.001, "on"), loop_factory=new_event_loop))
""",
    )
    assert printed == "refused\non\n"


def test_an_interpreter_that_shares_the_gil_refuses_the_import_too(pyloop_factory: LoopFactory) -> None:
    printed = output(
        "pyloop",
        """
import sys, warnings
warnings.simplefilter("ignore")
code = '''
try:
    import pyloop
except ImportError as refused:
    print(refused, flush=True)
'''
if sys.version_info >= (3, 13):
    import _interpreters
    assert _interpreters.exec(_interpreters.create("legacy"), code) is None
else:
    import _xxsubinterpreters
    _xxsubinterpreters.run_string(_xxsubinterpreters.create(isolated=False), code)
print(asyncio.run(asyncio.sleep(0.001, "on"), loop_factory=new_event_loop))
""",
    )
    assert printed == "pyloop works in the main interpreter only, not in a subinterpreter\non\n"


def test_a_profiler_sees_callbacks_and_coroutines(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import sys
called = set()
def profile(frame, event, argument):
    if event == "call":
        called.add(frame.f_code.co_name)
def callback():
    pass
async def coroutine():
    await asyncio.sleep(0)
loop = new_event_loop()
sys.setprofile(profile)
loop.call_soon(callback)
loop.run_until_complete(coroutine())
sys.setprofile(None)
print(sorted(called & {"callback", "coroutine"}))
loop.close()
""",
    )
    assert printed == "['callback', 'coroutine']\n"


def test_a_collection_at_every_allocation_breaks_nothing(loop_kind: str) -> None:
    printed = output(
        loop_kind,
        """
import gc
async def step(i):
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_soon(int)
    loop.call_later(0, int).cancel()
    future = loop.create_future()
    loop.call_soon(future.set_result, i)
    return await future
async def main():
    return sum(await asyncio.gather(*map(step, range(30))))
gc.set_threshold(1, 1, 1)
print(asyncio.run(main(), loop_factory=new_event_loop))
""",
    )
    assert printed == "435\n"
