"""Accelerations: each is tried, can be switched off, and changes nothing but the speed."""

from __future__ import annotations

import ast
import platform
import re
import sys
from pathlib import Path

import pytest

import pyloop
from support.process import output, start

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(pyloop.accelerations())
# The ones that this CPython has no use for.
NOT_HERE = {"current_task"} if sys.version_info >= (3, 14) else set()
NO_USE = "off: CPython 3.14 and later keep the current task on the thread"
if sys.version_info < (3, 13):
    NOT_HERE = {"instance_values"}
    NO_USE = "off: CPython 3.12 keeps the attributes of an instance elsewhere"
# Nor has this machine, if its kernel goes by another clock.
CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
if platform.machine() != "x86_64" or not CLOCK.exists() or CLOCK.read_text().strip() != "tsc":
    NOT_HERE |= {"processor_clock"}

PRINT_ALL = "import pyloop; print(pyloop.accelerations())"


def accelerations(**env: str) -> dict[str, str]:
    found = ast.literal_eval(output("asyncio", PRINT_ALL, **{"PYLOOP_ACCEL": "", **env}))
    assert isinstance(found, dict)
    return found


def test_all_are_on() -> None:
    off = {name: state for name, state in accelerations().items() if state != "on" and name not in NOT_HERE}
    assert off == {}


def test_none_switches_all_of_them_off() -> None:
    states = accelerations(PYLOOP_ACCEL="none")
    assert list(states) == NAMES
    assert {state for name, state in states.items() if name not in NOT_HERE} == {
        "off: switched off by PYLOOP_ACCEL"
    }


def test_one_can_be_switched_off_and_the_others_stay() -> None:
    states = accelerations(PYLOOP_ACCEL="-collector, -slots")
    off = {name for name, state in states.items() if state != "on"} - NOT_HERE
    assert off == {"collector", "slots"}


def test_without_the_layout_there_is_no_pool() -> None:
    assert accelerations(PYLOOP_ACCEL="-layout")["pool"] == "off: the layout of instances is not known"


@pytest.mark.parametrize("asked", ["-pol", "pool", "all"])
def test_an_unknown_word_is_warned_of(asked: str) -> None:
    with start("asyncio", PRINT_ALL, ["-W", "always"], PYLOOP_ACCEL=asked) as process:
        printed, errors = process.communicate(timeout=15)
    states = ast.literal_eval(printed)
    assert {state for name, state in states.items() if name not in NOT_HERE} == {"on"}
    assert f"RuntimeWarning: PYLOOP_ACCEL: pyloop has no acceleration {asked!r}".replace("'", '"') in errors


def test_a_register_that_is_not_found_means_entries_of_its_own_for_each_task() -> None:
    printed = output(
        "asyncio",
        """
from asyncio import tasks
import sys
register = tasks._register_task
def refuses(task):
    if type(task).__name__ == "_Probe":
        return None
    register(task)
tasks._register_task = refuses
import pyloop
assert pyloop.accelerations()["task_register"].startswith("off: RuntimeError"), pyloop.accelerations()

async def main():
    pending = {asyncio.current_task(), *(asyncio.create_task(asyncio.sleep(5)) for _ in range(3))}
    assert asyncio.all_tasks() == pending
    await asyncio.sleep(0)
    for task in pending - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    print("shown")
asyncio.run(main(), loop_factory=pyloop.new_event_loop)
""",
        PYLOOP_ACCEL="",
    )
    assert printed == "shown\n"


def test_a_program_that_has_all_the_watchers_of_classes_has_its_functions_called_by_name() -> None:
    printed = output(
        "asyncio",
        """
import ctypes
watcher = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(lambda cls: 0)
added = 0
try:
    while ctypes.pythonapi.PyType_AddWatcher(watcher) >= 0:
        added += 1
except RuntimeError:
    assert added
import pyloop
assert pyloop.accelerations()["direct_calls"].startswith("off: RuntimeError"), pyloop.accelerations()

async def main():
    loop, seen = asyncio.get_running_loop(), []
    usual = loop.call_soon
    loop.call_soon = lambda *args, **kwargs: seen.append(args) or usual(*args, **kwargs)
    await asyncio.create_task(asyncio.sleep(0))
    print(len(seen))
asyncio.run(main(), loop_factory=pyloop.new_event_loop)
""",
        PYLOOP_ACCEL="",
    )
    assert printed == "3\n"


MIXED = """
import contextvars, gc, pyloop
variable = contextvars.ContextVar("variable", default=0)

async def child(n):
    variable.set(n)
    await asyncio.sleep(0)
    await pyloop.sleep(0)
    return n + variable.get()

class Keeps:
    pass

async def main():
    loop = asyncio.get_running_loop()
    seen = []
    print(sum(await asyncio.gather(*(child(n) for n in range(50)))))
    for n in range(20):
        variable.set(n)
        loop.call_soon(lambda n=n: seen.append((n, variable.get())))
        loop.call_later(n / 10000, seen.append, n)
        loop.call_later(9, seen.append, n).cancel()
    loop.call_soon_threadsafe(seen.append, "last", context=contextvars.copy_context())
    await asyncio.sleep(0.02)
    print(seen, variable.get())
    future = loop.create_future()
    future.add_done_callback(lambda done: seen.append(done.result()))
    loop.call_soon(future.set_result, ("a", "tuple"))
    print(await future, seen[-1])
    try:
        async with asyncio.timeout(0.001):
            await pyloop.sleep(5)
    except TimeoutError:
        print("late", asyncio.current_task().cancelling())
    kept = Keeps()
    kept.task = asyncio.create_task(asyncio.sleep(0, kept))
    await kept.task
    gc.collect()
    print(len(asyncio.all_tasks()), asyncio.current_task() in asyncio.all_tasks())
    loop.note = "an attribute"
    print(loop.note)

for _ in range(2):
    asyncio.run(main(), loop_factory=new_event_loop)
gc.collect()
"""


@pytest.mark.parametrize("off", ["", "none", *(f"-{name}" for name in NAMES)])
def test_a_program_does_the_same_without_it(off: str) -> None:
    assert output("pyloop", MIXED, PYLOOP_ACCEL=off) == output("asyncio", MIXED, PYLOOP_ACCEL="")


def test_each_has_a_row_in_the_documents_and_a_file() -> None:
    text = (ROOT / "docs" / "accelerations.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", text, re.M)
    assert rows == NAMES
    for path in (ROOT / "src" / "accel").glob("*.rs"):
        if path.stem not in ("mod", "switch", "limited"):
            assert path.stem in NAMES


def test_only_the_collector_and_the_pool_untrack() -> None:
    where = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*.rs")
        if "PyObject_GC_UnTrack" in path.read_text()
    }
    assert where == {"accel/collector.rs", "accel/pool.rs"}
