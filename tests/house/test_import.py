"""What importing pyloop does to the process: nearly nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_IMPORT = """
import asyncio, gc, importlib, pkgutil, signal, sys, threading, warnings, weakref
left_out = {"__main__", "tools", "proactor_events", "windows_events", "windows_utils"}
for found in pkgutil.iter_modules(asyncio.__path__):
    if found.name not in left_out:
        importlib.import_module("asyncio." + found.name)
import _asyncio, selectors, socket, ssl, contextvars, concurrent.futures

def look():
    seen = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("asyncio", "_asyncio", "selectors", "socket", "ssl", "signal", "threading"):
            for key, value in vars(module).items():
                seen[name, key] = value
                if isinstance(value, type):
                    seen |= {(name, key, inner): v for inner, v in vars(value).items() if inner != "__doc__"}
    seen["policy"] = getattr(asyncio.events, "_event_loop_policy", None)
    seen["threads"] = tuple(threading.enumerate())
    seen["handlers"] = tuple(signal.getsignal(n) for n in sorted(signal.valid_signals()))
    seen["hooks"] = (sys.excepthook, sys.unraisablehook, sys.get_asyncgen_hooks(), sys.gettrace())
    return seen

look()
before = look()
sets = [each for each in gc.get_objects() if isinstance(each, weakref.WeakSet)]
classes = [type(each) for each in sets]
silenced, enter = [], warnings.catch_warnings.__enter__
warnings.catch_warnings.__enter__ = lambda self: silenced.append(self) or enter(self)
import pyloop
# A warning inside would leave CPython with the block's filters at the interpreter's end.
assert not silenced
after = look()
modules = {"__warningregistry__", "_abc_impl"}
changed = [k for k in before.keys() | after.keys()
           if k[-1] not in modules and before.get(k, "absent") is not after.get(k, "absent")
           and before.get(k, "absent") != after.get(k, "absent")]
assert not changed, changed
print(*[type(each).__qualname__ for each, was in zip(sets, classes) if type(each) is not was])
"""


@pytest.mark.parametrize(("switch", "classes"), [("", "_ThirdPartyTasks\n"), ("none", "\n")])
def test_importing_pyloop_changes_nothing_but_the_class_of_asyncios_register(
    switch: str, classes: str
) -> None:
    """No patch of asyncio, no policy, no thread, no handler: who wants them calls `pyloop.install()`.

    One thing is: the set in which asyncio has the tasks of others gets a class that shows pyloop's, too (the
    acceleration `task_register`).
    """
    env = os.environ | {"PYLOOP_ACCEL": switch}
    command = [sys.executable, "-W", "error", "-c", _IMPORT]
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == classes
