"""`pyloop_extension`, imported when first used: an extension module on the bridge as a stranger writes one.

It has a copy of the crate and of tokio of its own. Its source, tests/extension, says what its functions do.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.rust import start_background


class _Extension:
    def __getattr__(self, name: str) -> Any:
        try:
            import pyloop_extension
        except ImportError as missing:
            # Of no use is a run that says so once for each of its files.
            build = "maturin develop --release -m tests/extension/Cargo.toml"
            pytest.exit(f"{missing}, which these tests need: {build}", pytest.ExitCode.USAGE_ERROR)
        return getattr(pyloop_extension, name)


ext: Any = _Extension()

# What ends by itself, by the function of the API that it is made with, and what it gives.
ENDING: dict[str, tuple[Callable[[], Any], Any]] = {
    "ready": (lambda: ext.ready("value"), "value"),
    "none": (lambda: ext.ready_none(), None),
    "local": (lambda: ext.local(), 2),
    "pending": (lambda: ext.yield_once(), None),
    "send": (lambda: ext.send_yield_once(), None),
    "sleep": (lambda: ext.sleep(0.001), None),
    "from_thread": (lambda: ext.from_thread(), 42),
    "spawned": (lambda: ext.spawned(), 'Some("pyloop-background")'),
    "blocking": (lambda: ext.blocking(0.001), 0.001),
    "shielded": (lambda: ext.shielded(0.001, []), "done"),
    "spawns_local": (lambda: ext.spawns_local(), 4),
    "times": (lambda: ext.times(), 5),
    "moved": (lambda: ext.moved_local(), 7),
    "method": (lambda: ext.Counter().add(3), 3),
}

# Those that any thread may make for the loop of another.
SENT = ("send", "sleep", "from_thread", "spawned", "blocking", "shielded", "method")


def start_extension() -> None:
    """Makes what a process makes once and keeps: the threads of the runtimes, libuv's pipe for signals."""
    import uvloop

    start_background()

    async def main() -> None:
        await ext.sleep(0.001)
        # Each takes a thread of its own.
        await asyncio.gather(*(ext.blocking(0.02) for _ in range(ext.BLOCKING)))

    for make in (asyncio.SelectorEventLoop, uvloop.new_event_loop):
        asyncio.run(main(), loop_factory=make)


@contextmanager
def all_dropped() -> Iterator[None]:
    """What the block makes of Rust futures and streams is dropped when it ends."""
    ext.ready(None).close()  # what was dropped elsewhere is home when one is made
    before = ext.live(), ext.live_streams()
    yield
    gc.collect()
    ext.ready(None).close()
    left = ext.live() - before[0], ext.live_streams() - before[1]
    assert left == (0, 0), f"{left[0]} Rust futures and {left[1]} Rust streams are alive"


async def until(true: Callable[[], bool]) -> None:
    """Gives the loop turns until another thread has done its part."""
    while not true():
        await asyncio.sleep(0)
