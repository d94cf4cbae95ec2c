"""test_eager_task_factory over the candidate's Task: through a factory made of it, and counted."""

from __future__ import annotations

import importlib
from typing import Any

from .. import replace
from . import variant

_stock: Any = importlib.import_module("test.test_asyncio.test_eager_task_factory")
_Task: Any = replace.current().task


class _SubTask(_Task):  # type: ignore[misc]
    pass


EagerTaskFactoryLoopTests = variant(
    "EagerTaskFactoryLoopTests", _stock.CEagerTaskFactoryLoopTests, Task=_Task
)
SubEagerTaskFactoryLoopTests = variant(
    "SubEagerTaskFactoryLoopTests", _stock.CEagerTaskFactoryLoopTests, Task=_SubTask
)
NonEagerTaskTests = variant("NonEagerTaskTests", _stock.NonEagerCTaskTests, Task=_Task)
EagerTaskTests = variant("EagerTaskTests", _stock.EagerCTaskTests, Task=_Task)
