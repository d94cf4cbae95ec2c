"""The C ABI: `pyloop.h`, a client without any Rust, clients and loops of different versions."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support import process
from support.extension import ext
from support.loops import Loop, LoopFactory, turn
from support.rust import pyloop as package
from support.threads import in_thread

pytestmark = pytest.mark.usefixtures("pyloop_factory")

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "tests" / "support" / "c_client.c"
STRICT = ["-Wall", "-Wextra", "-Werror"]


def compile_with(compiler: str, *arguments: object) -> None:
    words = [*shlex.split(compiler), *STRICT, "-isystem", sysconfig.get_path("include"), *map(str, arguments)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, f"{shlex.join(words)}\n{ran.stderr}"


def header() -> str:
    return Path(package.get_include(), "pyloop.h").read_text()


def build(folder: Path, include: str | Path, *flags: str) -> Path:
    """The client, compiled for this Python."""
    made = folder / f"c_client{sysconfig.get_config_var('EXT_SUFFIX')}"
    link = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
    compile_with(
        "cc",
        "-std=c11",
        "-O1",
        "-fPIC",
        "-shared",
        "-pthread",
        *link,
        *flags,
        "-I",
        include,
        SOURCE,
        "-o",
        made,
    )
    return made


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("c_client", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("client"), package.get_include())


@pytest.fixture(scope="module")
def client(built: Path) -> Any:
    module = load(built)
    assert module.register_waiting() == 0
    return module


# The header.


def test_the_header_is_installed_with_the_package() -> None:
    assert package.get_include() == str(Path(package.__file__).parent / "include")
    assert "PyLoop_Api" in header()


@pytest.mark.parametrize(
    ("compiler", "flags"),
    [("cc", ["-x", "c", "-std=c11", "-pedantic"]), ("c++", ["-x", "c++", "-std=c++11", "-pedantic"])],
    ids=["C11", "C++11"],
)
@pytest.mark.parametrize("limited", [False, True], ids=["", "limited API"])
def test_it_compiles_without_a_warning(
    tmp_path: Path, compiler: str, flags: list[str], limited: bool
) -> None:
    source = tmp_path / "source"
    define = "#define Py_LIMITED_API 0x030c0000\n" if limited else ""
    source.write_text(
        define + '#include "pyloop.h"\n#include "pyloop.h"\n'
        "size_t answer(void);\n"
        "size_t answer(void) { const PyLoop_Api *api = PyLoop_Get(); return api ? api->size : 0; }\n"
    )
    compile_with(compiler, *flags, "-I", package.get_include(), "-c", source, "-o", tmp_path / "made.o")


def test_it_says_what_the_rust_side_says(client: Any) -> None:
    """Names, order and number of arguments; what the types are is compared by hand, once."""
    rust = (ROOT / "src" / "bridge" / "abi.rs").read_text()
    body = rust[rust.index("pub struct Api {") :]
    in_rust = [
        (
            name,
            arguments.count(":") if ":" in arguments else len([a for a in arguments.split(",") if a.strip()]),
        )
        for name, arguments in re.findall(r'pub (\w+): unsafe extern "C" fn\(((?:[^()]|\([^()]*\))*)\)', body)
    ]
    struct = re.sub(r"/\*.*?\*/", "", header(), flags=re.DOTALL)
    struct = struct[struct.index("typedef struct PyLoop_Api {") : struct.index("} PyLoop_Api;")]
    names = re.findall(r"\(\*(\w+)\)\(((?:[^()]|\((?:[^()])*\))*)\);", struct)
    in_c = [name for name, _ in names]
    assert in_c == [name for name, _ in in_rust]
    assert len(in_c) == 16
    assert re.findall(r"\b(size|major|minor);", struct) == ["size", "major", "minor"]
    assert f"pub const MAJOR: u32 = {client.MAJOR};" in rust
    assert f"pub const MINOR: u32 = {client.MINOR};" in rust


def test_the_table_has_the_size_that_c_computes(client: Any) -> None:
    assert client.is_there()
    assert process.output("pyloop", FAKES + "print(len(REAL))") == f"{client.SIZE}\n"


# A client in C.


@pytest.mark.parametrize("whole", [True, False], ids=["the whole task", "awaited"])
def test_a_thread_of_cs_wakes_a_task(pyloop_loop: Loop, client: Any, whole: bool) -> None:
    async def wait() -> Any:
        return await client.Waiting(1)

    async def main() -> None:
        waiting = [wait() for _ in range(50)]
        assert await asyncio.gather(*waiting) == [42] * 50
        assert await client.Waiting(0) == 42
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait()) for _ in range(3)]
        assert [task.result() for task in tasks] == [42] * 3

    async def deep(levels: int) -> Any:
        return await (deep(levels - 1) if levels else client.Waiting(1))

    pyloop_loop.run_until_complete(main() if whole else deep(10))


def test_it_is_iterated_when_one_step_asks_twice(pyloop_loop: Loop, client: Any) -> None:
    async def main() -> None:
        iterated = client.Waiting(1000)  # not before it is asked for the second time
        with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
            list(iterated)
        assert await client.Waiting(1) == 42

    pyloop_loop.run_until_complete(main())


def test_its_cancel_is_called_before_the_error_is_thrown(pyloop_loop: Loop, client: Any) -> None:
    awaitable = client.Waiting(1)
    seen = list[int]()

    async def wait() -> None:
        try:
            await awaitable
        except asyncio.CancelledError:
            seen.append(awaitable.cancelled)
            raise

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert awaitable.cancelled == 0
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        # The thread's wake comes all the same.
        assert await client.Waiting(5) == 42

    pyloop_loop.run_until_complete(main())
    assert seen == [1]


def test_a_wake_from_c_after_the_loop_has_closed(pyloop_factory: LoopFactory, client: Any) -> None:
    loop = pyloop_factory()

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    async def wait() -> None:
        await client.Waiting(2)

    loop.run_until_complete(main())
    loop.close()
    other = pyloop_factory()

    async def longer() -> Any:
        return await client.Waiting(5)

    assert other.run_until_complete(longer()) == 42
    other.close()


def test_outside_of_a_task_there_is_no_waker(pyloop_loop: Loop, client: Any) -> None:
    assert client.flags_of_step() is None
    with pytest.raises(RuntimeError, match="not inside a task"):
        next(iter(client.Waiting(0)))
    seen = list[Any]()
    pyloop_loop.call_soon(lambda: seen.append(client.flags_of_step()))
    turn(pyloop_loop, 2)
    assert seen == [None]

    async def main() -> Any:
        return client.flags_of_step()

    pyloop_loop.set_debug(False)
    assert pyloop_loop.run_until_complete(main()) == 0
    pyloop_loop.set_debug(True)
    assert pyloop_loop.run_until_complete(main()) == 1

    async def stock() -> Any:
        return await asyncio.Task(main())

    assert pyloop_loop.run_until_complete(stock()) is None


def test_a_loop_is_known_by_its_object_and_by_its_thread(pyloop_loop: Loop, client: Any) -> None:
    assert client.is_current(pyloop_loop) is False
    here = threading.get_ident()
    assert client.loop_of_thread(here) == (False, False)

    async def main() -> None:
        assert client.is_current(pyloop_loop) is True
        assert client.loop_of_thread(here) == (True, True)
        assert await asyncio.to_thread(client.is_current, pyloop_loop) is False
        assert await asyncio.to_thread(client.loop_of_thread, here) == (True, False)

    pyloop_loop.run_until_complete(main())
    pyloop_loop.run_until_complete(pyloop_loop.shutdown_default_executor())
    stock = asyncio.SelectorEventLoop()
    for wrong in (stock, None, object()):
        with pytest.raises(TypeError, match="not a loop of pyloop's"):
            client.is_current(wrong)
    stock.close()


@pytest.mark.parametrize("from_thread", [False, True])
def test_the_loop_polls_a_future_of_cs(pyloop_loop: Loop, client: Any, from_thread: bool) -> None:
    seen = list[tuple[str, int]]()

    def report(what: str, current: int) -> None:
        seen.append((what, current))
        if what == "dropped":
            pyloop_loop.stop()

    def spawn() -> None:
        client.spawn(pyloop_loop, 5, report)

    if from_thread:
        in_thread(spawn)
    else:
        spawn()
    assert seen == []
    pyloop_loop.run_forever()
    assert seen == [("polled", 1)] * 5 + [("dropped", 1)]


def test_a_future_of_cs_is_dropped_when_the_loop_closes(pyloop_factory: LoopFactory, client: Any) -> None:
    loop = pyloop_factory()
    seen = list[str]()
    client.spawn(loop, 5, lambda what, _: seen.append(what))
    loop.close()
    assert seen == ["dropped"]
    with pytest.raises(RuntimeError, match="closed"):
        client.spawn(loop, 5, lambda what, _: seen.append(what))
    assert seen == ["dropped"]


def test_a_future_of_cs_that_was_polled_is_dropped_when_the_loop_closes(
    pyloop_factory: LoopFactory, client: Any
) -> None:
    loop = pyloop_factory()
    seen = list[str]()
    client.spawn(loop, 1_000_000, lambda what, _: seen.append(what))
    turn(loop, 3)
    assert seen[0] == "polled"
    loop.close()
    assert seen[-1] == "dropped"
    assert seen.count("dropped") == 1


def test_a_thread_has_the_loop_call_something(pyloop_loop: Loop, client: Any) -> None:
    threads = list[int]()

    def called() -> None:
        threads.append(threading.get_ident())

    client.callback(pyloop_loop, called, 1)
    assert threads == []
    turn(pyloop_loop, 2)
    assert threads == [threading.get_ident()]
    # A burst of wakes before the loop has looked is one call.
    client.callback(pyloop_loop, called, 100_000)
    turn(pyloop_loop, 2)
    assert len(threads) == 2
    client.callback(pyloop_loop, called, 0)
    turn(pyloop_loop, 2)
    assert len(threads) == 2


def test_a_callback_wakes_a_loop_that_sleeps(pyloop_loop: Loop, client: Any) -> None:
    thread = threading.Thread(target=client.callback, args=(pyloop_loop, pyloop_loop.stop, 1))
    pyloop_loop.call_soon(thread.start)
    pyloop_loop.run_forever()
    thread.join()


def test_what_a_callback_raises_is_reported(pyloop_loop: Loop, client: Any, unraisable: list[str]) -> None:
    def fails() -> None:
        raise ValueError("in a callback")

    client.callback(pyloop_loop, fails, 1)
    turn(pyloop_loop, 2)
    assert len(unraisable) == 1
    assert unraisable[0].startswith("ValueError: in a callback in ")


def test_a_callback_of_a_closed_loop_is_not_called(pyloop_factory: LoopFactory, client: Any) -> None:
    loop = pyloop_factory()
    loop.close()
    seen = list[int]()
    client.callback(loop, lambda: seen.append(1), 1000)
    assert seen == []


def test_timers_are_never_early(pyloop_loop: Loop, client: Any) -> None:
    due = dict[float, float]()
    started = pyloop_loop.time()

    def called(seconds: float) -> None:
        due[seconds] = pyloop_loop.time() - started
        if len(due) == 3:
            pyloop_loop.stop()

    timers = [
        client.timer(pyloop_loop, round(seconds * 1e9), lambda seconds=seconds: called(seconds), False)
        for seconds in (0.02, 0.0, 0.005)
    ]
    pyloop_loop.run_forever()
    assert list(due) == [0.0, 0.005, 0.02]
    assert all(took >= seconds for seconds, took in due.items())
    for timer in timers:
        client.drop_timer(timer)


def test_a_dropped_timer_does_not_wake(pyloop_loop: Loop, client: Any) -> None:
    seen = list[str]()
    client.timer(pyloop_loop, 0, lambda: seen.append("dropped on its way"), True)
    running = client.timer(pyloop_loop, 200_000_000, lambda: seen.append("dropped while it ran"), False)
    turn(pyloop_loop, 2)
    client.drop_timer(running)
    far = client.timer(pyloop_loop, 2**64 - 1, lambda: seen.append("in some centuries"), False)
    last = client.timer(pyloop_loop, 250_000_000, pyloop_loop.stop, False)
    pyloop_loop.run_forever()
    assert seen == []
    client.drop_timer(last)
    client.drop_timer(far)


def test_timers_and_clients_outlive_the_loop(pyloop_factory: LoopFactory, client: Any) -> None:
    loop = pyloop_factory()
    timer = client.timer(loop, 1_000_000_000, lambda: None, False)
    turn(loop, 2)
    loop.close()
    client.drop_timer(timer)
    client.drop_timer(client.timer(loop, 0, lambda: None, False))


def test_an_unregistered_awaitable_is_taken_for_what_it_looks_like(built: Path) -> None:
    script = (
        LOAD
        + """
async def main():
    try:
        await c_client.Waiting(1)
    except RuntimeError as error:
        print(error)

asyncio.run(main(), loop_factory=new_event_loop)
"""
    )
    printed = process.output("pyloop", script.replace("PATH", repr(str(built))))
    assert "Task got bad yield: <c_client.Waiting object" in printed


# Versions. A provider's table is laid out by hand, as long as it says and followed by what must not be read.

FAKES = """
import ctypes, struct
import pyloop
from pyloop import _native

NAME = b"pyloop._native._bridge"
new, get = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetPointer
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_real = get(_native._bridge, NAME)
REAL = ctypes.string_at(_real, struct.unpack("N", ctypes.string_at(_real, 8))[0])
POINTER = struct.calcsize("P")

def provide(fields=0, major=1, minor=0):
    size = len(REAL) + fields * POINTER
    table = bytearray(REAL[:size] + bytes([0xDB]) * 256)
    struct.pack_into("NII", table, 0, size, major, minor)
    global kept
    kept = ctypes.create_string_buffer(bytes(table), len(table))
    _native._bridge = new(ctypes.addressof(kept), NAME, None)
"""

LOAD = """
import importlib.util
spec = importlib.util.spec_from_file_location("c_client", PATH)
c_client = importlib.util.module_from_spec(spec)
spec.loader.exec_module(c_client)
"""

RUST_CLIENT = """
import pyloop_extension as ext

class Loop(pyloop.EventLoop):
    calls = 0

    def call_soon_threadsafe(self, *args, **kwargs):
        Loop.calls += 1
        return super().call_soon_threadsafe(*args, **kwargs)

async def main():
    assert await ext.ready(1) == 1
    assert await asyncio.gather(ext.yield_once(), ext.local(), ext.spawns_local()) == [None, 2, 4]
    probe = ext.Probe()
    task = asyncio.create_task(probe.future())
    await asyncio.sleep(0)
    probe.done()
    probe.wake(10)
    assert await task == "done"
    task = asyncio.create_task(ext.never())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and not ext.live()
    assert await ext.awaits(asyncio.sleep(0, "slept")) == "slept"
    assert await ext.awaits_spawned(asyncio.sleep(0, "slept")) == "slept"
    assert await ext.collects(ext.ticks(3)) == [0, 1, 2]
    print("calls" if Loop.calls else "none")

asyncio.run(main(), loop_factory=Loop)
"""


@pytest.mark.parametrize(
    ("fake", "calls"),
    [
        ("provide()", "none"),
        ("provide(fields=+4, minor=9)", "none"),
        ("provide(fields=-1)", "none"),
        ("provide(fields=-4)", "none"),
        ("provide(fields=-5)", "calls"),
        ("provide(fields=-15)", "calls"),
        ("provide(major=2)", "calls"),
        ("provide(major=0)", "calls"),
        ("del _native._bridge", "calls"),
        ("_native._bridge = None", "calls"),
        ("_native._bridge = new(_real, b'another name', None)", "calls"),
    ],
    ids=[
        "the same",
        "newer",
        "older",
        "still older",
        "too old",
        "far too old",
        "another",
        "before",
        "none",
        "no capsule",
        "not ours",
    ],
)
def test_a_rust_client_works_on_a_loop_of_any_version(fake: str, calls: str) -> None:
    """Natively, or by `call_soon_threadsafe` as on any other loop."""
    assert ext.WORKERS
    assert process.output("pyloop", FAKES + fake + RUST_CLIENT) == f"{calls}\n"


C_CLIENT = """
async def wait():
    return await c_client.Waiting(1)

async def main():
    c_client.register_waiting()
    assert await asyncio.gather(*(wait() for _ in range(5))) == [42] * 5
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    seen = []
    c_client.callback(asyncio.get_running_loop(), lambda: seen.append("called"), 3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print(seen)

print(c_client.is_there())
if c_client.is_there():
    asyncio.run(main(), loop_factory=new_event_loop)
"""


@pytest.mark.parametrize(
    ("fake", "there"),
    [
        ("provide()", True),
        ("provide(fields=+4, minor=9)", True),
        ("provide(fields=-2)", True),
        ("provide(fields=-3)", False),
        ("provide(major=2)", False),
        ("del _native._bridge", False),
    ],
    ids=["the same", "newer", "older", "too old", "another", "none"],
)
def test_a_c_client_works_on_a_newer_loop_and_sees_that_another_is_none(
    built: Path, fake: str, there: bool
) -> None:
    printed = process.output("pyloop", FAKES + fake + LOAD.replace("PATH", repr(str(built))) + C_CLIENT)
    assert printed == ("True\n['called']\n" if there else "False\n")


def test_a_client_of_an_older_header_works_on_this_loop(tmp_path: Path) -> None:
    """The header without its youngest fields, as a client had it that was compiled then."""
    older = header()
    start = older.index("    /* Wake `waker`, which is lent for the call, once")
    older = older[:start] + older[older.index("} PyLoop_Api;") :]
    older = older.replace("PyLoop_HAS(api, timer_drop)", "PyLoop_HAS(api, loop_spawn)")
    (tmp_path / "pyloop.h").write_text(older)
    assert "loop_timer" not in older
    file = build(tmp_path, tmp_path, "-DOLDER_HEADER")
    for fake in ("provide()", "provide(fields=-4)", "provide(fields=+4, minor=9)"):
        script = (
            FAKES
            + fake
            + LOAD.replace("PATH", repr(str(file)))
            + "\nassert c_client.SIZE < len(REAL)\n"
            + C_CLIENT
        )
        assert process.output("pyloop", script) == "True\n['called']\n"


def test_without_pyloop_there_is_no_api(built: Path) -> None:
    script = (
        LOAD.replace("PATH", repr(str(built)))
        + """
print(c_client.is_there())
import pyloop
print(c_client.is_there())
"""
    )
    assert process.output("asyncio", script) == "False\nTrue\n"


@pytest.mark.usefixtures("background")
def test_two_clients_in_c_and_rust_meet_in_one_task(pyloop_loop: Loop, client: Any) -> None:
    async def main() -> None:
        assert [await client.Waiting(1), await ext.from_thread(), await client.Waiting(0)] == [42] * 3
        assert await ext.awaits(client_in_a_coroutine()) == 42

    async def client_in_a_coroutine() -> Any:
        return await client.Waiting(1)

    pyloop_loop.run_until_complete(main())
