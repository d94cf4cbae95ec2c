"""Objects whose `__init__` never ran: errors of Python, not of the process."""

from __future__ import annotations

import pytest

from support import process

# Methods and attributes of objects that only `__new__` has made. Private Python functions check nothing.
SCRIPT = """
import asyncio, contextlib, gc, inspect, io, socket, sys, types, warnings
import pyloop
from pyloop import _native, _pipes, _tls, _transports

warnings.simplefilter("ignore")
sys.unraisablehook = lambda unraisable: unexpected(unraisable.exc_value)
ARGUMENTS = [(), (None,), (7,), (b"data",), (print,), (None, None), (0, print), (None, None, None)]
RUNS = {"_drive", "_run_once", "run_forever", "run_until_complete"}
LEFT_OUT = RUNS | {"__class__", "__init_subclass__", "__new__", "__subclasshook__"}


def unexpected(error):
    if error is not None and (type(error).__name__ == "PanicException" or isinstance(error, SystemError)):
        print("failed:", cls.__name__, name, repr(error))


def is_left_out(name):
    private = name.startswith("_") and not name.startswith("__")
    return name in LEFT_OUT or private and isinstance(inspect.getattr_static(cls, name), types.FunctionType)


def awaited(answer):
    if inspect.iscoroutine(answer):
        answer.close()


classes = [
    asyncio.Future, pyloop.Future, pyloop.Task, pyloop.EventLoop, _transports.StreamTransport,
    _pipes.ReadPipeTransport, _pipes.WritePipeTransport, _tls.SSLTransport, _tls.SSLProtocol,
    *(each for each in vars(_native).values() if isinstance(each, type)),
]
made = 0
for cls in classes:
    name = "__new__"
    try:
        names = [name for name in dir(cls.__new__(cls)) if not is_left_out(name)]
    except TypeError:
        continue
    made += 1
    for name in names:
        for arguments in ARGUMENTS:
            each = cls.__new__(cls)
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    answer = getattr(each, name)
                    answer = answer(*arguments) if callable(answer) else answer
                awaited(answer)
            except BaseException as error:
                unexpected(error)
            finally:
                each = answer = None
gc.collect()
print(made > 5)
"""


@pytest.mark.parametrize("accelerations", ["", "none"])
def test_what_was_only_made_and_never_initialised_breaks_nothing(
    pyloop_factory: object, accelerations: str
) -> None:
    assert process.output("pyloop", SCRIPT, PYLOOP_ACCEL=accelerations) == "True\n"
