"""One build of the tests' extension module for every CPython (`abi3`), beside the one for this CPython alone.

`make build` has it made by the oldest CPython and installed for all of them, in a folder of its own. Other
files of this folder are run with it, too (scripts/house/suites.py): by hand with

    PYLOOP_TEST_EXTENSION=.venv-3.13/one_wheel .venv-3.13/bin/python -m pytest tests/bridge
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import making
from support.extension import ext
from support.loops import Loop
from support.rust import pyloop

pytestmark = pytest.mark.usefixtures("pyloop_factory", "background")

FOLDER = Path(sys.prefix, "one_wheel")
LIBRARY = FOLDER / "pyloop_extension" / "pyloop_extension.abi3.so"


@pytest.fixture(scope="module")
def wheel() -> Any:
    """The module out of the wheel: a second one, with a copy of the crate and of tokio of its own."""
    assert LIBRARY.exists(), f"{LIBRARY} is missing: `make build` builds it from tests/extension"
    # The last part of the name is that of the library's entry.
    spec = importlib.util.spec_from_file_location("one_wheel.pyloop_extension", LIBRARY)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def start() -> None:
        await module.sleep(0.001)
        await asyncio.gather(*(module.blocking(0.02) for _ in range(module.BLOCKING)))

    asyncio.run(start())
    return module


def test_its_tag_says_every_cpython_from_3_12_on() -> None:
    (tag,) = FOLDER.glob("pyloop_extension-*.dist-info/WHEEL")
    assert re.search(r"^Tag: cp312-abi3-", tag.read_text(), re.M)


@pytest.mark.before(3, 13)  # whose list has what 3.12 has not
def test_it_asks_cpython_for_nothing_but_its_stable_abi() -> None:
    stable = pytest.importorskip("test.test_stable_abi_ctypes", reason="no test package here").SYMBOL_NAMES
    listed = subprocess.run(["nm", "-D", "-u", LIBRARY], capture_output=True, text=True, check=True).stdout
    asked = set(re.findall(r"\bU (_?Py\w+)", listed))
    assert len(asked) > 50
    assert asked - set(stable) == set()


@making.on_every_host
@pytest.mark.parametrize("stock", [False, True])
def test_it_is_awaited_on_every_loop_by_every_task(loop: Loop, wheel: Any, stock: bool) -> None:
    def here(_: int) -> tuple[int, Any]:
        return threading.get_ident(), asyncio.current_task()

    async def native() -> int:
        await asyncio.sleep(0)
        return 7

    async def main() -> None:
        me = (threading.get_ident(), asyncio.current_task())
        assert await wheel.ready((1, 2)) == (1, 2)
        assert await wheel.calls(here, 3) == [me] * 3  # polled within the task's own steps
        assert await wheel.from_thread() == 42
        async for item in (stream := wheel.calling_stream(lambda number: number)):
            if item == 3:
                await stream.aclose()
        assert await wheel.calls_async(native) == 7
        counter = wheel.Counter()
        assert (await counter.add(), await counter.spawned(), await counter.blocking())[0] == 1
        assert counter.count == 3
        log: list[str] = []
        async with wheel.Rows(3, log) as rows:
            assert [row async for row in rows] == [2, 1]
        assert log == ["entered", "exited"]
        assert await wheel.asks(lambda number: number + 1, 2) == [1, 2]
        assert await wheel.asks_spawned(lambda _: native(), 2) == [7, 7]
        with pytest.raises(ValueError, match=r"^what$"):
            await wheel.fails("what")
        never = asyncio.create_task(wheel.never())
        await asyncio.sleep(0)
        alive = wheel.live()
        never.cancel()
        await asyncio.wait([never])
        assert wheel.live() == alive - 1

    loop.run_until_complete(asyncio.Task(main(), loop=loop) if stock else main())


def turns(loop: Loop, work: Callable[[], Any]) -> int:
    """How many turns the loop makes while a task does this."""
    count = 0

    async def main() -> None:
        nonlocal count
        task = asyncio.create_task(work())
        while not task.done():
            count += 1
            await asyncio.sleep(0)
        task.result()

    loop.run_until_complete(main())
    return count


def test_our_tasks_take_no_more_turns_for_it_than_for_the_other(pyloop_loop: Loop, wheel: Any) -> None:
    def work(module: Any) -> Callable[[], Any]:
        async def awaits() -> None:
            for _ in range(50):
                await module.ready(None)
                await module.yield_once()

        return awaits

    took = [turns(pyloop_loop, work(module)) for module in (ext, wheel)]
    assert took[0] == took[1] < 60


def test_our_tasks_are_woken_without_a_call_of_the_loop(wheel: Any) -> None:
    def wakes(base: Any) -> int:
        class Counting(base):  # type: ignore[misc]
            def call_soon_threadsafe(self, *args: Any, **keywords: Any) -> Any:
                calls.append(args)
                return super().call_soon_threadsafe(*args, **keywords)

        async def main() -> None:
            for _ in range(3):
                assert await wheel.from_thread() == 42
                await wheel.yield_once()

        calls = list[Any]()
        asyncio.run(main(), loop_factory=Counting)
        return len(calls)

    assert wakes(asyncio.SelectorEventLoop) >= 3
    assert wakes(pyloop.EventLoop) == 0


def test_a_long_chain_of_futures_is_dropped(wheel: Any) -> None:
    for module in (ext, wheel):
        chain = None
        for _ in range(100_000):
            chain = module.ready(chain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # none of them was awaited
            del chain


def test_its_frame_and_code_are_as_the_others(wheel: Any) -> None:
    looks = list[Any]()
    for module in (ext, wheel):
        never = module.never()
        frame, code = never.cr_frame, never.cr_code
        looks.append((frame.f_code.co_name, frame.f_lineno, frame.f_back, dict(frame.f_globals)))
        looks[-1] += (code.co_name, code.co_qualname, code.co_filename, repr(never), never.__class__)
        never.close()
    assert looks[0] == looks[1]
