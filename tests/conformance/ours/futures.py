"""test_futures and test_futures2 over the candidate's Future and Task, as they are and subclassed."""

from __future__ import annotations

import importlib
from typing import Any

from .. import replace
from . import variant

_stock: Any = importlib.import_module("test.test_asyncio.test_futures")
_stock2: Any = importlib.import_module("test.test_asyncio.test_futures2")
_Task: Any = replace.current().task
_Future: Any = replace.current().future


class _SubFuture(_Future):  # type: ignore[misc]
    pass


def _making(future: Any) -> Any:
    return lambda self: future(loop=self.loop)


FutureTests = variant("FutureTests", _stock.CFutureTests, cls=_Future)
SubFutureTests = variant("SubFutureTests", _stock.CSubFutureTests, cls=_SubFuture)
FutureDoneCallbackTests = variant(
    "FutureDoneCallbackTests", _stock.CFutureDoneCallbackTests, _new_future=_making(_Future)
)
SubFutureDoneCallbackTests = variant(
    "SubFutureDoneCallbackTests", _stock.CSubFutureDoneCallbackTests, _new_future=_making(_SubFuture)
)
FutureInheritanceTests = variant(
    "FutureInheritanceTests", _stock.CFutureInheritanceTests, _get_future_cls=lambda self: _Future
)
TaskAsFutureTests = variant("TaskAsFutureTests", _stock2.CFutureTests, cls=_Task)
