"""An extension that stands on pyloop beside one that stands on pyo3-async-runtimes: each has its runtime."""

from __future__ import annotations

import pytest

from support import process
from support.extension import start_extension

PRELUDE = """
import asyncio, contextvars, sys, threading
import pyloop_extension as ext

if KIND == "uvloop":
    from uvloop import new_event_loop

variable = contextvars.ContextVar("variable", default=None)
main_thread = threading.get_ident()

async def coroutine():
    await asyncio.sleep(0)
    assert threading.get_ident() == main_thread
    return variable.get()

def run(main):
    asyncio.run(main(), loop_factory=new_event_loop)
"""

kinds = pytest.mark.parametrize("kind", ["asyncio", "pyloop", "uvloop"])


@pytest.fixture(scope="module", autouse=True)
def background() -> None:
    start_extension()


def output(kind: str, script: str) -> str:
    loop = "pyloop" if kind == "pyloop" else "asyncio"
    return process.output(loop, f"KIND = {kind!r}\n{PRELUDE}{script}")


@kinds
def test_both_work_in_one_coroutine(kind: str) -> None:
    script = """
async def main():
    variable.set(kind := object())
    assert await asyncio.gather(ext.sleep(0.001), ext.their_sleep(0.001)) == [None, 0.001]
    assert await ext.their_call(coroutine) is kind
    assert await ext.awaits(coroutine()) is kind
    assert await ext.awaits(ext.their_sleep(0)) == 0.0  # ours awaits theirs
    assert await ext.their_call_by_ours(coroutine, True) is None  # in the context of the loop's thread
    future = asyncio.get_running_loop().create_future()
    try:
        await ext.their_call_by_ours(lambda: future, False)
    except RuntimeError as raised:
        print(raised)
    workers, same = ext.their_runtime()
    assert workers >= 1 and not same

run(main)
"""
    assert output(kind, script) == "no running event loop\n"


@kinds
def test_the_process_ends_in_silence_when_theirs_has_run_and_ours_is_pending(kind: str) -> None:
    script = """
async def main():
    await ext.their_sleep(0)
    waiting = [asyncio.ensure_future(each) for each in (ext.sleep(60), ext.awaits(asyncio.sleep(60)))]
    done, pending = await asyncio.wait(waiting, timeout=0.01)
    assert len(pending) == 2

run(main)
"""
    assert output(kind, script) == ""
