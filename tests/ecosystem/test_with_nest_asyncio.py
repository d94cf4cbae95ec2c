"""nest_asyncio is refused when it is asked for, as by uvloop, and the error says what to do."""

from __future__ import annotations

import inspect
from unittest import mock

from support.loops import Loop
from support.process import output

APPLY = """
import nest_asyncio

def refused(loop=None):
    try:
        nest_asyncio.apply(loop)
    except ValueError as error:
        assert str(error).startswith("Can't patch loop of type <class 'pyloop._loop."), error
        assert "pyloop.run_in_thread" in str(error)
        return True
    return False

async def main():
    assert refused()
    await asyncio.sleep(0)  # the loop is as it was
    return "fine"

loop = new_event_loop()
assert refused(loop)
assert loop.run_until_complete(main()) == "fine"
loop.close()
print("done")
"""


def test_nest_asyncio_is_refused() -> None:
    # nest_asyncio takes asyncio.get_event_loop_policy(), which is deprecated.
    assert output("pyloop", APPLY, ["-W", "ignore::DeprecationWarning"]) == "done\n"


def test_who_looks_at_all_of_a_loop_is_not(pyloop_loop: Loop) -> None:
    assert "run_forever" in dict(inspect.getmembers(pyloop_loop))
    assert "_nest_patched" not in dir(pyloop_loop)
    mock.create_autospec(pyloop_loop).close()
