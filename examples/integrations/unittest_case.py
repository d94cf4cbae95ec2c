"""unittest: `IsolatedAsyncioTestCase` has a loop factory since CPython 3.13.

python examples/integrations/unittest_case.py

On 3.12, or for every test case at once: python -m pyloop -m unittest
"""

import asyncio
import sys
import unittest

import pyloop


class Case(unittest.IsolatedAsyncioTestCase):
    loop_factory = staticmethod(pyloop.new_event_loop)

    async def test_it_runs_on_pyloop(self) -> None:
        assert isinstance(asyncio.get_running_loop(), pyloop.EventLoop)


if __name__ == "__main__":
    if sys.version_info < (3, 13):
        pyloop.install()
    ran = unittest.main(exit=False, verbosity=0).result
    assert ran.testsRun == 1 and ran.wasSuccessful()
    print("unittest.IsolatedAsyncioTestCase: on pyloop")
