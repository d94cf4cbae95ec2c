"""pyloop and its Rust futures for tests, imported when first used: the oracle alone runs without them.

`pyloop` is the package, `sync` and `fs` are its modules, `rust` the test module, whose functions make
awaitables:

    ready(value)                        is ready at the first poll
    yield_once(value), yield_n(n, v)    wakes itself and is ready at the second, at the n+1st poll
    give_way(n, value)                  as `yield_n`, by tokio's `yield_now`
    never()                             is never ready and never wakes
    error(exc)                          raises `exc` at the first poll
    panic(message)                      panics at the first poll
    woken_from_thread(delay, value)     is woken by a thread of its own
    local(value)                        is `!Send`, and ready at the second poll
    live()                              how many of them have not been dropped yet
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _Package:
    def __getattr__(self, name: str) -> Any:
        import pyloop

        return getattr(pyloop, name)


class _Sync:
    def __getattr__(self, name: str) -> Any:
        import pyloop.sync

        return getattr(pyloop.sync, name)


class _Fs:
    def __getattr__(self, name: str) -> Any:
        import pyloop.fs

        return getattr(pyloop.fs, name)


class _Testing:
    def __getattr__(self, name: str) -> Any:
        from pyloop import _native

        return getattr(_native._testing, name)


pyloop: Any = _Package()
rust: Any = _Testing()
sync: Any = _Sync()
fs: Any = _Fs()

MakeAwaitable = Callable[[], Any]

# Those that come to an end by themselves, and how often the awaiting task is suspended on the way.
ENDING: dict[str, tuple[Callable[[Any], Any], int]] = {
    "ready": (lambda value: rust.ready(value), 0),
    "yield_once": (lambda value: rust.yield_once(value), 1),
    "yield_n": (lambda value: rust.yield_n(5, value), 5),
    "woken_from_thread": (lambda value: rust.woken_from_thread(0.001, value), 1),
    "local": (lambda value: rust.local(value), 1),
    "sleep": (lambda value: pyloop.sleep(0.001, value), 1),
}

# Those that wait for what does not come.
WAITING: dict[str, MakeAwaitable] = {
    "never": lambda: rust.never(),
    "sleep": lambda: pyloop.sleep(3600),
}

# Those that wake themselves while they are polled: the task is in the queue again when its step ends.
WOKEN: dict[str, MakeAwaitable] = {
    "yield_once": lambda: rust.yield_once(),
    "yield_n": lambda: rust.yield_n(1_000_000),
    "local": lambda: rust.local(),
}


def start_background() -> None:
    """Makes what a process makes once and keeps.

    That is the thread that serves Rust futures on foreign loops, and the pipe of libuv for signals.
    """
    import uvloop

    async def main() -> None:
        await pyloop.sleep(0.001)

    for make in (asyncio.SelectorEventLoop, uvloop.new_event_loop):
        asyncio.run(main(), loop_factory=make)


@contextmanager
def none_left() -> Iterator[None]:
    """Whatever the block makes of Rust futures is dropped when it ends."""
    rust.ready().close()  # those that are not Send and were dropped elsewhere are home when one is made
    before = rust.live()
    yield
    gc.collect()
    rust.ready().close()
    assert rust.live() == before, f"{rust.live() - before} Rust futures are alive"
