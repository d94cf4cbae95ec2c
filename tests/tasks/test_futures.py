"""Futures: states, results, and what is refused in which words. Of either class, on either loop."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import types
import weakref
from collections.abc import Generator
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.making import FutureClass, MakeFuture

pytest_generate_tests = making.parametrize


def test_a_new_future_is_pending_and_knows_its_loop(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    assert not future.done()
    assert not future.cancelled()
    assert future.get_loop() is loop
    future.cancel()


def test_a_future_is_what_asyncio_takes_for_one(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    assert isinstance(future, asyncio.Future)
    assert not isinstance(future, asyncio.Task)
    assert asyncio.isfuture(future)
    assert not asyncio.iscoroutine(future)
    assert asyncio.ensure_future(future, loop=loop) is future
    assert type(future).__name__ == "Future"


def test_a_future_made_without_a_loop_belongs_to_the_running_one(
    loop: Loop, future_class: FutureClass
) -> None:
    async def main() -> None:
        assert future_class().get_loop() is loop
        assert future_class(loop=None).get_loop() is loop

    loop.run_until_complete(main())


def test_the_constructor_takes_the_loop_by_keyword_alone(loop: Loop, future_class: FutureClass) -> None:
    untyped: Any = future_class
    with pytest.raises(TypeError):
        untyped(loop)
    with pytest.raises(TypeError):
        untyped(loop=loop, colour="red")
    with pytest.raises(AttributeError):
        untyped(loop=object())


def test_the_result_is_given_as_often_as_it_is_asked_for(loop: Loop, make_future: MakeFuture) -> None:
    future, value = make_future(loop), object()
    future.set_result(value)
    assert future.done()
    assert not future.cancelled()
    assert future.result() is value
    assert future.result() is value
    assert future.exception() is None


def test_a_pending_future_has_neither_result_nor_exception(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    with pytest.raises(asyncio.InvalidStateError, match=r"^Result is not set\.$"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match=r"^Exception is not set\.$"):
        future.exception()


@pytest.mark.parametrize("end", ["result", "exception", "cancel"])
def test_a_future_that_is_done_takes_no_other_end(loop: Loop, make_future: MakeFuture, end: str) -> None:
    future = make_future(loop)
    if end == "result":
        future.set_result(1)
    elif end == "exception":
        future.set_exception(ValueError())
    else:
        future.cancel()
    with pytest.raises(asyncio.InvalidStateError, match=r"^invalid state$"):
        future.set_result(2)
    with pytest.raises(asyncio.InvalidStateError, match=r"^invalid state$"):
        future.set_exception(ZeroDivisionError())
    assert not future.cancel()
    assert future.cancelled() == (end == "cancel")
    if end == "exception":
        assert isinstance(future.exception(), ValueError)


def test_an_exception_is_raised_by_result_and_given_by_exception(loop: Loop, make_future: MakeFuture) -> None:
    future, error = make_future(loop), ValueError("no")
    future.set_exception(error)
    assert future.exception() is error
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^no$") as caught:
            future.result()
        assert caught.value is error


def test_an_exception_class_is_made_an_instance(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    future.set_exception(ZeroDivisionError)
    assert type(future.exception()) is ZeroDivisionError


def test_raising_the_result_again_does_not_lengthen_its_traceback(
    loop: Loop, make_future: MakeFuture
) -> None:
    def depth(error: BaseException) -> int:
        trace, count = error.__traceback__, 0
        while trace is not None:
            trace, count = trace.tb_next, count + 1
        return count

    future, depths = make_future(loop), list[int]()
    try:
        raise ValueError  # so that there is a traceback to keep
    except ValueError as error:
        future.set_exception(error)
    for _ in range(3):
        try:
            future.result()
        except ValueError as error:
            depths.append(depth(error))
    assert max(depths) == depths[0]


@pytest.mark.parametrize("wrong", [object(), int, 42, "ValueError"])
def test_set_exception_refuses_what_is_no_exception(loop: Loop, make_future: MakeFuture, wrong: Any) -> None:
    future = make_future(loop)
    with pytest.raises(TypeError, match=r"^invalid exception object$"):
        future.set_exception(wrong)
    assert not future.done()


@pytest.mark.parametrize("stop", [StopIteration, StopIteration(12)])
def test_stop_iteration_never_gets_in(
    loop: Loop, make_future: MakeFuture, stop: StopIteration | type[StopIteration]
) -> None:
    def give(future: asyncio.Future[Any]) -> BaseException | None:
        try:
            future.set_exception(stop)
        except TypeError as refused:
            return refused
        return future.exception()

    error, of_asyncio = give(make_future(loop)), give(asyncio.Future(loop=loop))
    # What it is depends on the Python: 3.12.1 refuses it with a TypeError, 3.13 makes it a RuntimeError.
    assert error is not None
    assert type(error) is type(of_asyncio)
    assert str(error) == "StopIteration interacts badly with generators and cannot be raised into a Future"
    if isinstance(error, RuntimeError):
        assert isinstance(error.__cause__, StopIteration)
        assert error.__context__ is error.__cause__


def test_cancel_is_true_once(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    assert future.cancel() is True
    assert future.cancelled()
    assert future.done()
    assert future.cancel() is False


@pytest.mark.parametrize("message", ["enough", None, 42, ("a", "pair")])
def test_the_cancel_message_is_in_the_error(loop: Loop, make_future: MakeFuture, message: Any) -> None:
    future = make_future(loop)
    future.cancel(msg=message)
    expected = () if message is None else (message,)
    for ask in (future.result, future.exception, future.result):
        with pytest.raises(asyncio.CancelledError) as caught:
            ask()
        assert caught.value.args == expected


def test_cancel_takes_its_message_by_position_too(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    future.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match=r"^enough$"):
        future.result()


def test_repr_tells_the_state(loop: Loop, make_future: MakeFuture) -> None:
    loop.set_debug(False)
    pending, finished, failed, cancelled = (make_future(loop) for _ in range(4))
    finished.set_result({"a": 1})
    failed.set_exception(ZeroDivisionError("by 0"))
    failed.exception()
    cancelled.cancel()
    assert repr(pending) == "<Future pending>"
    assert repr(finished) == "<Future finished result={'a': 1}>"
    assert repr(failed) == "<Future finished exception=ZeroDivisionError('by 0')>"
    assert repr(cancelled) == "<Future cancelled>"


def test_repr_shortens_long_results(loop: Loop, make_future: MakeFuture) -> None:
    loop.set_debug(False)
    future = make_future(loop)
    future.set_result("x" * 10_000)
    assert len(repr(future)) < 100


def test_repr_names_the_callbacks_and_counts_those_between(loop: Loop, make_future: MakeFuture) -> None:
    def first(future: asyncio.Future[Any]) -> None: ...
    def other(future: asyncio.Future[Any]) -> None: ...
    def last(future: asyncio.Future[Any]) -> None: ...

    loop.set_debug(False)
    future = make_future(loop)
    future.add_done_callback(first)
    assert "<Future pending cb=[" in repr(future)
    assert "first() at " in repr(future)
    future.add_done_callback(last)
    assert "first() at " in repr(future)
    assert "last() at " in repr(future)
    future.remove_done_callback(last)
    future.add_done_callback(other)
    future.add_done_callback(other)
    future.add_done_callback(last)
    assert "<2 more>" in repr(future)
    assert "other() at " not in repr(future)


def test_repr_of_a_future_that_holds_itself_ends(loop: Loop, make_future: MakeFuture) -> None:
    loop.set_debug(False)
    future = make_future(loop)
    future.set_result(future)
    assert "..." in repr(future)
    future = make_future(loop)
    future.set_result([future])
    assert "..." in repr(future)


def test_repr_in_debug_mode_tells_where_the_future_was_made(loop: Loop, make_future: MakeFuture) -> None:
    loop.set_debug(True)
    future = make_future(loop)
    assert " created at " in repr(future)
    loop.set_debug(False)


def test_debug_mode_keeps_the_stack_that_made_the_future(loop: Loop, future_class: FutureClass) -> None:
    loop.set_debug(True)
    future: Any = future_class(loop=loop)
    line = sys._getframe().f_lineno - 1
    loop.set_debug(False)
    last = future._source_traceback[-1]
    assert (last.filename, last.lineno, last.name) == (__file__, line, sys._getframe().f_code.co_name)
    untraced: Any = future_class(loop=loop)
    assert untraced._source_traceback is None


def test_what_asyncio_reads_by_private_names_is_there(loop: Loop, make_future: MakeFuture) -> None:
    loop.set_debug(False)
    future: Any = make_future(loop)
    assert future._state == "PENDING"
    assert future._loop is loop
    assert future._result is None
    assert future._exception is None
    assert not future._callbacks
    assert future._source_traceback is None
    assert future._cancel_message is None
    assert future._log_traceback is False
    assert future._asyncio_future_blocking is False
    future.cancel()

    finished: Any = make_future(loop)
    finished.set_result(3)
    assert (finished._state, finished._result) == ("FINISHED", 3)

    failed: Any = make_future(loop)
    failed.set_exception(error := ValueError())
    assert (failed._state, failed._exception, failed._log_traceback) == ("FINISHED", error, True)
    failed._log_traceback = False
    assert failed._log_traceback is False
    with pytest.raises(ValueError, match=r"^_log_traceback can only be set to False$"):
        failed._log_traceback = True

    cancelled: Any = make_future(loop)
    cancelled.cancel("why")
    assert (cancelled._state, cancelled._cancel_message) == ("CANCELLED", "why")


def test_callbacks_are_seen_with_their_contexts(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    future.add_done_callback(print)
    future.add_done_callback(len)
    assert [callback for callback, _ in future._callbacks] == [print, len]
    assert all(type(context).__name__ == "Context" for _, context in future._callbacks)


def test_the_class_takes_type_arguments(future_class: FutureClass) -> None:
    generic: Any = future_class
    alias = generic[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is future_class
    assert alias.__args__ == (int,)


def test_futures_can_be_referred_to_weakly(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    reference = weakref.ref(future)
    assert reference() is future
    future.cancel()
    del future
    assert reference() is None


def test_futures_are_equal_to_themselves_alone(loop: Loop, make_future: MakeFuture) -> None:
    one, other = make_future(loop), make_future(loop)
    assert one != other
    assert len({one, other, one}) == 2


def test_wrap_future_gives_a_future_of_asyncio_back(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    assert asyncio.wrap_future(future, loop=loop) is future


# The awaiting protocol, by hand.


def step(awaiting: Any) -> Any:
    return awaiting.send(None)


def test_await_yields_the_future_itself_marked_as_blocking(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    awaiting = future.__await__()
    assert step(awaiting) is future
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False
    future.set_result("result")
    with pytest.raises(StopIteration) as stopped:
        step(awaiting)
    assert stopped.value.value == "result"


def test_await_of_a_future_that_is_done_yields_nothing(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    future.set_result((1, 2))  # a tuple: StopIteration must not take it apart
    with pytest.raises(StopIteration) as stopped:
        step(future.__await__())
    assert stopped.value.value == (1, 2)


def test_await_that_goes_on_too_early_is_an_error(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    awaiting = future.__await__()
    step(awaiting)
    with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
        step(awaiting)


def test_a_future_can_be_iterated_for_yield_from(loop: Loop, make_future: MakeFuture) -> None:
    @types.coroutine
    def old_style(future: asyncio.Future[Any]) -> Generator[Any, Any, Any]:
        return (yield from future)

    future = make_future(loop)
    loop.call_soon(future.set_result, "old")

    async def main() -> Any:
        return await old_style(future)

    assert loop.run_until_complete(main()) == "old"


def test_an_exception_thrown_into_the_await_comes_out(loop: Loop, make_future: MakeFuture) -> None:
    awaiting: Any = make_future(loop).__await__()
    step(awaiting)
    with pytest.raises(ZeroDivisionError, match=r"^thrown$"):
        awaiting.throw(ZeroDivisionError("thrown"))


def test_an_exception_class_can_be_thrown_into_the_await(loop: Loop, make_future: MakeFuture) -> None:
    awaiting: Any = make_future(loop).__await__()
    step(awaiting)
    with pytest.raises(ZeroDivisionError):
        awaiting.throw(ZeroDivisionError)


@pytest.mark.parametrize("started", [False, True])
def test_an_await_can_be_closed_and_lets_go_of_the_future(
    loop: Loop, make_future: MakeFuture, started: bool
) -> None:
    future = make_future(loop)
    reference = weakref.ref(future)
    awaiting: Any = future.__await__()
    if started:
        step(awaiting)
    del future
    assert reference() is not None
    awaiting.close()
    awaiting.close()
    assert reference() is None


def test_throwing_what_is_no_exception_is_refused(loop: Loop, make_future: MakeFuture) -> None:
    awaiting: Any = make_future(loop).__await__()
    step(awaiting)
    with pytest.raises(TypeError):
        awaiting.throw(42)


def test_two_awaits_of_one_future_are_independent(loop: Loop, make_future: MakeFuture) -> None:
    future: Any = make_future(loop)
    one, other = future.__await__(), future.__await__()
    step(one)
    future._asyncio_future_blocking = False  # as a task does that sees it
    step(other)
    future.set_result(5)
    for awaiting in (other, one):
        with pytest.raises(StopIteration) as stopped:
            step(awaiting)
        assert stopped.value.value == 5


# With a loop.


def test_awaiting_gives_the_result(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    loop.call_soon(future.set_result, 7)

    async def main() -> Any:
        return await future, await future

    assert loop.run_until_complete(main()) == (7, 7)


def test_awaiting_raises_the_very_exception(loop: Loop, make_future: MakeFuture) -> None:
    future, error = make_future(loop), ValueError("kept")
    error.add_note("a note")
    loop.call_soon(future.set_exception, error)

    async def main() -> None:
        with pytest.raises(ValueError, match=r"^kept") as caught:
            await future
        assert caught.value is error
        assert caught.value.__notes__ == ["a note"]

    loop.run_until_complete(main())


def test_awaiting_a_cancelled_future_cancels_the_awaiter(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    loop.call_soon(future.cancel, "because")

    async def main() -> None:
        await future

    task = loop.create_task(main())
    with pytest.raises(asyncio.CancelledError, match=r"^because$"):
        loop.run_until_complete(task)
    assert task.cancelled()


def test_waiting_tasks_go_on_in_the_order_of_their_awaits(loop: Loop, make_future: MakeFuture) -> None:
    future, order = make_future(loop), list[int]()

    async def wait(number: int) -> None:
        await future
        order.append(number)

    async def main() -> None:
        waiting = [asyncio.create_task(wait(number)) for number in range(10)]
        await asyncio.sleep(0)
        future.set_result(None)
        assert not order
        await asyncio.gather(*waiting)

    loop.run_until_complete(main())
    assert order == list(range(10))


def test_waiting_tasks_and_callbacks_share_one_order(loop: Loop, make_future: MakeFuture) -> None:
    future, order = make_future(loop), list[str]()

    async def wait(name: str) -> None:
        await future
        order.append(name)

    async def main() -> None:
        future.add_done_callback(lambda _: order.append("callback 1"))
        first = asyncio.create_task(wait("task 1"))
        await asyncio.sleep(0)
        future.add_done_callback(lambda _: order.append("callback 2"))
        second = asyncio.create_task(wait("task 2"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(order.append, "before")
        future.set_result(None)
        asyncio.get_running_loop().call_soon(order.append, "after")
        await asyncio.gather(first, second)

    loop.run_until_complete(main())
    assert order == ["before", "callback 1", "task 1", "callback 2", "task 2", "after"]


def test_run_until_complete_takes_a_future(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    loop.call_soon(future.set_result, "direct")
    assert loop.run_until_complete(future) == "direct"
    assert loop.run_until_complete(future) == "direct"


def test_another_thread_resolves_a_future_through_the_loop(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(future.set_result, "from afar"))
    thread.start()
    assert loop.run_until_complete(future) == "from afar"
    thread.join()


def test_a_future_of_a_closed_loop_keeps_its_result(loop: Loop, make_future: MakeFuture) -> None:
    future, waiting = make_future(loop), make_future(loop)
    future.set_result(1)
    waiting.add_done_callback(print)
    loop.close()
    assert future.result() == 1
    with pytest.raises(RuntimeError, match=r"^Event loop is closed$"):
        waiting.set_result(2)
    with contextlib.suppress(RuntimeError):
        waiting.cancel()


def test_a_future_can_be_made_on_a_closed_loop(loop: Loop, make_future: MakeFuture) -> None:
    loop.close()
    future = make_future(loop)
    future.set_result(1)
    assert future.result() == 1


def test_a_turn_without_a_result_leaves_the_awaiter_waiting(loop: Loop, make_future: MakeFuture) -> None:
    future = make_future(loop)

    async def main() -> Any:
        return await future

    task = loop.create_task(main())
    turn(loop, 5)
    assert not task.done()
    future.set_result(1)
    assert not task.done()
    turn(loop)
    assert task.result() == 1


def raised_while_another_is_handled(future: asyncio.Future[Any], how: str) -> BaseException:
    async def main() -> None:
        try:
            raise KeyError("handled")
        except KeyError:
            if how == "await":
                await future
            else:
                getattr(future, how)()

    with pytest.raises(BaseException, match=r".*") as caught:
        main().send(None)
    return caught.value


@pytest.mark.parametrize("how", ["await", "result", "exception"])
@pytest.mark.parametrize("fate", ["failed", "cancelled", "pending"])
def test_what_a_future_raises_knows_what_was_being_handled(
    loop: Loop, make_future: MakeFuture, how: str, fate: str
) -> None:
    future = make_future(loop)
    if fate == "failed":
        future.set_exception(ValueError("of the future"))
    elif fate == "cancelled":
        future.cancel()
    if (how, fate) not in (("exception", "failed"), ("await", "pending")):
        raised = raised_while_another_is_handled(future, how)
        assert repr(raised.__context__) == "KeyError('handled')"
    future.cancel()
    turn(loop)
