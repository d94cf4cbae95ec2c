"""Functions that note what asyncio calls, put in the place of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from support.loops import Loop, LoopFactory

Seen = list[Any]


def label(callback: Any) -> str:
    """What is called, in words that are the same for asyncio's objects and ours."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    name = getattr(callback, "__qualname__", type(callback).__name__)
    return str(name).rpartition(".")[2]


@contextlib.contextmanager
def put(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Has `make(original)` in the place of an attribute."""
    with mock.patch.object(owner, name, make(getattr(owner, name))):
        yield


def noting(name: str, seen: Seen, bound: bool) -> Callable[[Any], Any]:
    """Wraps a scheduling method so that each call is noted."""

    def make(original: Any) -> Any:
        if bound:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                note(*args, **kwargs)
                return original(*args, **kwargs)
        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                note(*args[1:], **kwargs)
                return original(*args, **kwargs)

        return wrapper

    def note(*args: Any, **kwargs: Any) -> None:
        if name == "create_task":
            seen.append((name, args[0].__qualname__, sorted(kwargs)))
        elif name == "create_future":
            seen.append(name)
        else:
            first = 1 if name in ("call_later", "call_at") else 0
            seen.append((name, label(args[first]), len(args), kwargs.get("context") is not None))

    return make


def noting_run(seen: Seen) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def wrapper(handle: Any) -> None:
            about = label(handle._callback)
            if about != "_read_from_self":
                seen.append(("_run", about, len(handle._args), isinstance(handle, asyncio.TimerHandle)))
            original(handle)

        return wrapper

    return make


NAMES = ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "create_task", "create_future"]
WHERE = ["instance", "class", "base"]


@contextlib.contextmanager
def traced(loop: Loop, where: str, names: list[str], seen: Seen) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == "_run":
                stack.enter_context(put(asyncio.Handle, name, noting_run(seen)))
                continue
            owner: Any = {"instance": loop, "class": type(loop), "base": asyncio.BaseEventLoop}[where]
            stack.enter_context(put(owner, name, noting(name, seen, bound=where == "instance")))
        yield


def class_of_loops(factory: LoopFactory) -> Any:
    loop = factory()
    loop.close()
    return type(loop)


async def nothing(seen: Seen) -> None:
    await asyncio.sleep(0)
