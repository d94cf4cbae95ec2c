"""The candidate's Task and Future on asyncio's own loop: for a library that makes them and runs elsewhere."""

from __future__ import annotations

import importlib
from typing import Any

from .. import replace
from . import variant

_eager: Any = importlib.import_module("test.test_asyncio.test_eager_task_factory")
_futures2: Any = importlib.import_module("test.test_asyncio.test_futures2")
_tasks: Any = importlib.import_module("test.test_asyncio.test_tasks")
_Task: Any = replace.current().task
_Future: Any = replace.current().future


def _on_our_classes(stock: Any) -> Any:
    """A setUp that runs the stock one and has the loop that this made create the candidate's objects."""

    def set_up(self: Any) -> None:
        stock.setUp(self)
        loop = self.loop
        loop.create_future = lambda: _Future(loop=loop)
        loop.set_task_factory(lambda loop, coro, **options: _Task(coro, loop=loop, **options))

    return set_up


def _new_task(self: Any, coro: Any) -> Any:
    return _Task(coro, loop=self.loop)


Task_Future_Tests = variant("Task_Future_Tests", _tasks.CTask_CFuture_Tests, Task=_Task, Future=_Future)
CurrentLoopTests = variant("CurrentLoopTests", _tasks.CCurrentLoopTests, new_task=_new_task)
RunCoroutineThreadsafeTests = variant(
    "RunCoroutineThreadsafeTests",
    _tasks.RunCoroutineThreadsafeTests,
    setUp=_on_our_classes(_tasks.RunCoroutineThreadsafeTests),
)
SleepTests = variant("SleepTests", _tasks.SleepTests, setUp=_on_our_classes(_tasks.SleepTests))
TaskAsFutureTests = variant("TaskAsFutureTests", _futures2.CFutureTests, cls=_Task)
EagerTaskFactoryLoopTests = variant(
    "EagerTaskFactoryLoopTests", _eager.CEagerTaskFactoryLoopTests, Task=_Task
)
NonEagerTaskTests = variant("NonEagerTaskTests", _eager.NonEagerCTaskTests, Task=_Task)
EagerTaskTests = variant("EagerTaskTests", _eager.EagerCTaskTests, Task=_Task)
