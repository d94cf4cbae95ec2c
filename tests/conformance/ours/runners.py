"""test_runners and test_pep492 on the loop itself, where CPython's have a BaseEventLoop with mocked parts."""

from __future__ import annotations

import importlib
from typing import Any

from .. import replace
from . import variant

_runners: Any = importlib.import_module("test.test_asyncio.test_runners")
_pep492: Any = importlib.import_module("test.test_asyncio.test_pep492")


def _new_loop(self: Any) -> Any:
    """What BaseTest's tearDown asks of a loop: to say that its asynchronous generators were shut down."""
    loop: Any = replace.current().factory()
    loop.shutdown_ag_run = False
    shutdown_asyncgens = loop.shutdown_asyncgens

    async def shutdown() -> None:
        loop.shutdown_ag_run = True
        await shutdown_asyncgens()

    loop.shutdown_asyncgens = shutdown
    return loop


def _set_up(self: Any) -> None:
    super(_pep492.BaseTest, self).setUp()
    self.loop = replace.current().factory()
    self.set_event_loop(self.loop)


RunTests = variant("RunTests", _runners.RunTests, new_loop=_new_loop)
RunnerTests = variant("RunnerTests", _runners.RunnerTests, new_loop=_new_loop)
LockTests = variant("LockTests", _pep492.LockTests, setUp=_set_up)
StreamReaderTests = variant("StreamReaderTests", _pep492.StreamReaderTests, setUp=_set_up)
CoroutineTests = variant("CoroutineTests", _pep492.CoroutineTests, setUp=_set_up)
