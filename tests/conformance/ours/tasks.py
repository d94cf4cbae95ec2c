"""test_tasks over the candidate's Task and Future: alone, subclassed, and mixed with asyncio's own.

The tests of a Task run on ``TestLoop``, a loop written in Python with a clock of its own, so a Task has to
keep to what every loop offers (``call_soon``, ``call_later``, ``call_exception_handler``).
"""

from __future__ import annotations

import importlib
from asyncio import futures, tasks
from typing import Any

from .. import replace
from . import taken, variant

_stock: Any = importlib.import_module("test.test_asyncio.test_tasks")
_utils: Any = importlib.import_module("test.test_asyncio.utils")
_Task: Any = replace.current().task
_Future: Any = replace.current().future
_CTask, _CFuture = vars(tasks)["_CTask"], vars(futures)["_CFuture"]
_PyTask, _PyFuture = vars(tasks)["_PyTask"], vars(futures)["_PyFuture"]

# 3.14's tests say by which of the two halves of asyncio.tasks a Task is to be found.
_c_found = taken(_stock.CTask_CFuture_Tests, "all_tasks", "current_task")
_py_found = taken(_stock.PyTask_PyFuture_Tests, "all_tasks", "current_task")


def _mixed(name: str, task: Any, future: Any, *, subclassed: bool = False) -> Any:
    found = _py_found if task is _PyTask else _c_found
    made = variant(
        name, _stock.BaseTaskTests, _utils.TestCase, __module__=__name__, Task=task, Future=future, **found
    )
    return _stock.add_subclass_tests(made) if subclassed else made


Task_Future_Tests = variant("Task_Future_Tests", _stock.CTask_CFuture_Tests, Task=_Task, Future=_Future)
Task_Future_SubclassTests = _mixed("Task_Future_SubclassTests", _Task, _Future, subclassed=True)
TaskSubclass_PyFuture_Tests = _mixed("TaskSubclass_PyFuture_Tests", _Task, _PyFuture, subclassed=True)
TaskSubclass_CFuture_Tests = _mixed("TaskSubclass_CFuture_Tests", _Task, _CFuture, subclassed=True)
PyTask_FutureSubclass_Tests = _mixed("PyTask_FutureSubclass_Tests", _PyTask, _Future, subclassed=True)
CTask_FutureSubclass_Tests = _mixed("CTask_FutureSubclass_Tests", _CTask, _Future, subclassed=True)
Task_PyFuture_Tests = _mixed("Task_PyFuture_Tests", _Task, _PyFuture)
Task_CFuture_Tests = _mixed("Task_CFuture_Tests", _Task, _CFuture)
PyTask_Future_Tests = _mixed("PyTask_Future_Tests", _PyTask, _Future)
CTask_Future_Tests = _mixed("CTask_Future_Tests", _CTask, _Future)


def _new_task(self: Any, coro: Any) -> Any:
    return _Task(coro, loop=self.loop)


CurrentLoopTests = variant("CurrentLoopTests", _stock.CCurrentLoopTests, new_task=_new_task)


def _new_test_loop(self: Any, gen: Any = None) -> Any:
    """A TestLoop whose tasks and futures are the candidate's, for tests which only ask the loop for them."""
    loop = _utils.TestCase.new_test_loop(self, gen)
    loop.create_future = lambda: _Future(loop=loop)
    loop.set_task_factory(lambda loop, coro, **options: _Task(coro, loop=loop, **options))
    return loop


FutureGatherTests = variant("FutureGatherTests", _stock.FutureGatherTests, new_test_loop=_new_test_loop)
CoroutineGatherTests = variant(
    "CoroutineGatherTests", _stock.CoroutineGatherTests, new_test_loop=_new_test_loop
)
