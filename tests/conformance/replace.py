"""Puts an event loop in the place of the stock one, in the process of the tests and nowhere else.

asyncio has one place where "the" loop is decided, the event loop policy, and a few names by which programs
and tests make a loop directly. ``install`` replaces these names before a test module is imported:

* ``DefaultEventLoopPolicy``, which asyncio looks up whenever no policy is set (3.14:
  ``_DefaultEventLoopPolicy``, of ``unix_events`` alone). So ``set_event_loop_policy(None)``, which many tests
  call, means our loop as well;
* ``SelectorEventLoop`` and ``EventLoop``, by a stand-in that takes a selector as the stock class does, and
  ignores it. The classes that run the same tests over epoll, poll and select are kept: they run one loop
  three times;
* ``new_event_loop``, only on a Python without policies.

``asyncio.BaseEventLoop`` and the test suite's own ``TestLoop`` are left alone: a test that makes one of
these wants a loop with a false clock or a mocked selector, and what it tests is a Task, a lock or a Runner.
"""

from __future__ import annotations

import asyncio
import asyncio.unix_events
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

LOOPS = ("pyloop", "asyncio", "uvloop")

_POLICY_NAMES = ("DefaultEventLoopPolicy", "_DefaultEventLoopPolicy")
_LOOP_NAMES = ("SelectorEventLoop", "EventLoop")
_MODULES: tuple[Any, ...] = (asyncio, asyncio.unix_events)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loop that can be tested, with the classes of its tasks and futures."""

    name: str
    factory: Callable[[], asyncio.AbstractEventLoop]
    loop_class: type[Any]
    task: type[Any]
    future: type[Any]
    policy: type[Any] | None


def load(name: str) -> Candidate:
    """Imports the package of a loop."""
    if name == "asyncio":
        return Candidate(
            name, asyncio.SelectorEventLoop, asyncio.SelectorEventLoop, asyncio.Task, asyncio.Future, None
        )
    package: Any = importlib.import_module(name)
    if name == "uvloop":
        # The fixtures of CPython's tests look at this attribute of BaseEventLoop.
        loop_class = type("Loop", (package.Loop,), {"__module__": "uvloop", "_default_executor": None})
        return Candidate(name, loop_class, loop_class, asyncio.Task, asyncio.Future, None)
    policy = getattr(package, "EventLoopPolicy", None)
    return Candidate(name, package.new_event_loop, package.EventLoop, package.Task, package.Future, policy)


class _StandIn(type):
    """The metaclass of what stands in for ``SelectorEventLoop``: calling it makes one of the candidate's."""

    candidate: Candidate

    def __call__(cls, selector: Any = None) -> asyncio.AbstractEventLoop:
        if selector is not None:
            selector.close()
        return cls.candidate.factory()

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.candidate.loop_class)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.candidate.loop_class)


def install(candidate: Candidate) -> None:
    """Replaces the stock loop for the rest of this process."""
    if candidate.name == "asyncio":
        return
    replacements: dict[str, Any] = {}
    stand_in = _StandIn("SelectorEventLoop", (), {"candidate": candidate})
    for name in _LOOP_NAMES:
        if hasattr(asyncio, name):
            replacements[name] = stand_in
    stock_policy = _stock_policy()
    if stock_policy is None:
        replacements["new_event_loop"] = candidate.factory
        _set((*_MODULES, asyncio.events), replacements)
        return
    policy = _policy(candidate, stock_policy)
    replacements |= dict.fromkeys(_POLICY_NAMES, policy)
    _set(_MODULES, replacements)


def _set(modules: tuple[Any, ...], replacements: dict[str, Any]) -> None:
    for module in modules:
        for name, value in replacements.items():
            if name in vars(module):
                setattr(module, name, value)


def _stock_policy() -> type[Any] | None:
    for name in _POLICY_NAMES:
        found: type[Any] | None = vars(asyncio.unix_events).get(name)
        if found is not None:
            return found
    return None


def _policy(candidate: Candidate, stock: type[Any]) -> type[Any]:
    """The candidate's own policy if it is a stock one as well (child watchers), else one made of that."""
    if candidate.policy is not None and issubclass(candidate.policy, stock):
        return candidate.policy
    return type(stock.__name__, (stock,), {"_loop_factory": staticmethod(candidate.factory)})


_current: Candidate | None = None


@contextmanager
def testing(candidate: Candidate) -> Iterator[None]:
    """Says whose Task and Future the modules of ``ours`` build their classes from, while they are used."""
    global _current
    _current = candidate
    try:
        yield
    finally:
        _current = None


def current() -> Candidate:
    """The candidate whose Task, Future and loop the modules of ``ours`` test."""
    if _current is None:
        raise RuntimeError("a module of tests.conformance.ours is imported only by the worker")
    return _current
