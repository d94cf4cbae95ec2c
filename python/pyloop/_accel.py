"""The accelerations of the Python half: what leans on asyncio's insides for speed.

`docs/accelerations.md` has a row for each, `src/accel` has those of the native half. Each is tried once, when
this module is imported (`tls`: at the first encrypted connection); one that fails or is switched off
(`PYLOOP_ACCEL`) leaves the plain path.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyloop import _compat, _native

if TYPE_CHECKING:
    from pyloop._loop import EventLoop


def _settle(name: str, probe: Callable[[], str | None]) -> bool:
    """Try an acceleration: whether it is on. The probe says why not, or raises."""
    why = None
    if _native._acceleration_is_wanted(name):
        try:
            why = probe()
        except Exception as exc:
            why = f"{type(exc).__name__}: {exc}"
    return _native._settle_acceleration(name, why)


def accelerations() -> dict[str, str]:
    """What came of each acceleration: `{name: "on"}` or `{name: "off: <why>"}`, as documented.

    `PYLOOP_ACCEL` in the environment switches them off before pyloop is imported: `none`, or `-name,-name`.
    """
    from pyloop import _tls

    _tls.is_native()
    return _native._accelerations()


# --- task_register: asyncio's register of third-party tasks shows our loops' lists ---


class _Probe:
    """What asyncio's register refuses as it asks for its hash: by then the weak reference to it is made."""

    found: weakref.WeakSet[Any] | None = None

    def __hash__(self) -> int:
        (reference,) = weakref.getweakrefs(self)
        removal: Any = reference.__callback__
        self.found = removal.__defaults__[0]()
        raise LookupError("found")


def find_third_party_tasks() -> weakref.WeakSet[Any]:
    """The set that `register_task` adds to, which its weak references are to tell when their task is gone.

    It is the register that `all_tasks()` reads. CPython 3.14 and later have it in the state of their C module
    only; `tasks._scheduled_tasks` is the one that the pure Python half of asyncio would use. Nothing is
    added: another thread that asks for its tasks meanwhile must not find a stranger among them.
    """
    probe = _Probe()
    with contextlib.suppress(LookupError):
        _compat.register_task(probe)
    if probe.found is None:
        raise RuntimeError("asyncio's register of tasks is not found")
    return probe.found


class _ThirdPartyTasks(weakref.WeakSet[Any]):
    """asyncio's register of third-party tasks, in which those of pyloop's loops are seen too.

    The loops have them in lists: an entry for each would take some 100 bytes more.
    """

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        for reference in _loops.valuerefs():
            loop = reference()
            if loop is not None:
                yield from loop._pending_tasks()


_loops: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


class _ScratchLoop:
    """A loop with one task, which is itself."""

    def _pending_tasks(self) -> list[Any]:
        return [self]

    def get_loop(self) -> Any:
        return self

    def done(self) -> bool:
        return False


def _task_register() -> str | None:
    register: Any = find_third_party_tasks()
    before = register.__class__
    register.__class__ = _ThirdPartyTasks
    scratch = _ScratchLoop()
    _loops[id(scratch)] = scratch
    if _compat.all_tasks(scratch) == {scratch}:
        del _loops[id(scratch)]
        if _compat.all_tasks(scratch) == set():
            return None
    register.__class__ = before
    return "asyncio.all_tasks() does not show what its register does"


_TASK_REGISTER = _settle("task_register", _task_register)


def show_tasks_of(loop: EventLoop) -> None:
    """Have `asyncio.all_tasks` show this loop's tasks."""
    if _TASK_REGISTER:
        _loops[id(loop)] = loop


# --- current_task: written where asyncio reads it ---


def _current_task() -> str | None:
    register = _compat.current_tasks
    if register is None:
        return "CPython 3.14 and later keep the current task on the thread"
    scratch = _ScratchLoop()
    register[scratch] = scratch
    found = _compat.current_task(scratch)
    del register[scratch]
    if found is not scratch or _compat.current_task(scratch) is not None:
        return "asyncio.current_task() does not read this dictionary"
    return None


#: The dictionary from loop to current task, where it may be written to. None: `_swap_current_task` is called.
current_tasks: dict[Any, Any] | None = (
    _compat.current_tasks if _settle("current_task", _current_task) else None
)


# --- instance_values: where asyncio's streams keep their attributes ---


class _ScratchInstance:
    def __init__(self) -> None:
        self.first = None


class _StreamsLoop:
    """What asyncio's streams ask of a loop, a future and a transport as they are made and go."""

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> Any:
        return self

    def done(self) -> bool:
        return False

    def set_result(self, result: None) -> None:
        pass

    def is_closing(self) -> bool:
        return True


def _instance_values() -> str | None:
    """Find out where the attributes of asyncio's streams are; why it cannot be relied on."""
    if sys.version_info < (3, 13):
        return "CPython 3.12 keeps the attributes of an instance elsewhere"

    def make() -> tuple[asyncio.StreamReader, asyncio.StreamReaderProtocol, asyncio.StreamWriter]:
        loop: Any = _StreamsLoop()
        reader = asyncio.StreamReader(loop=loop)
        # One of a server's, which has an attribute more.
        protocol = asyncio.StreamReaderProtocol(reader, lambda reader, writer: None, loop)
        return reader, protocol, asyncio.StreamWriter(loop, protocol, reader, loop)

    names = [list(vars(each)) for each in make()]
    reader, protocol, writer = make()
    _native._know_instance_values(
        _ScratchInstance, (reader, names[0]), (protocol, names[1]), (writer, names[2])
    )
    return None


_settle("instance_values", _instance_values)


# --- loop_slots: what `BaseEventLoop.__init__` sets ---


def _loop_slots() -> str | None:
    slots = type("Slots", (), {"__slots__": _compat.loop_attributes})
    loop: Any = type("Scratch", (slots, asyncio.BaseEventLoop), {})()
    loop.close()
    left = sorted(name for name in vars(loop) if not hasattr(_native.Loop, name))
    return f"{', '.join(left)} are not in slots" if left else None


#: Slots for what `BaseEventLoop` keeps in a loop. None: it is kept in a dictionary.
loop_slots: tuple[str, ...] | None = _compat.loop_attributes if _settle("loop_slots", _loop_slots) else None
