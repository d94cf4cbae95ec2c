"""What Python sees of async functions and methods that an attribute made: without a loop, and in children."""

from __future__ import annotations

import inspect

import pytest

from support import process
from support.extension import ext

pytestmark = [pytest.mark.usefixtures("pyloop_factory")]


def test_signature_and_documentation_are_kept() -> None:
    assert str(inspect.signature(ext.greets)) == "(name, /, greeting=Ellipsis, *, times=1)"
    assert str(inspect.signature(ext.Counter.add)) == "(self, /, n=1, *, fails=False)"
    assert str(inspect.signature(ext.Counter.made)) == "(count)"
    assert ext.greets.__doc__ == "Greets, a bit later."
    assert ext.Counter.add.__doc__ == "Adds to the count, a bit later."
    assert ext.async_ready.__name__ == "async_ready"
    assert ext.Counter.add.__qualname__ == "Counter.add"
    assert ext.Counter.renamed.__name__ == "renamed"
    assert not [name for name in vars(ext.Counter) if "pyloop" in name]


SCRIPT = """
import os, warnings
import pyloop_extension as ext
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

async def main():
    counter = ext.Counter()
    assert await ext.async_sleep(0.001) == 0.001
    assert await counter.spawned() == (1, "pyloop-background")
    assert await ext.async_local() == 7

if KIND == "uvloop":
    from uvloop import new_event_loop

def run():
    asyncio.run(main(), loop_factory=new_event_loop)

def fork():
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

print(len(os.listdir("/proc/self/task")), fork())
run()
print(fork())
"""


@pytest.mark.parametrize("kind", ["asyncio", "pyloop", "uvloop"])
def test_an_import_starts_nothing_and_a_forked_child_has_a_runtime(kind: str) -> None:
    script = f"KIND = {kind!r}\n{SCRIPT}"
    assert process.output("pyloop" if kind == "pyloop" else "asyncio", script) == "1 0\n0\n"
