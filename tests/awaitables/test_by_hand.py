"""The coroutine that a Rust future is to Python: send, throw, close, what is refused, and how it goes."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.guard import Context
from support.loops import Loop, LoopFactory, turn
from support.rust import ENDING, none_left, pyloop, rust, start_background

pytestmark = pytest.mark.usefixtures("pyloop_factory", "nothing_left")

MAKERS: dict[str, Callable[[], Any]] = {
    "ready": lambda: rust.ready(),
    "yield_once": lambda: rust.yield_once(),
    "yield_n": lambda: rust.yield_n(3),
    "never": lambda: rust.never(),
    "error": lambda: rust.error(ValueError()),
    "panic": lambda: rust.panic("panic"),
    "woken_from_thread": lambda: rust.woken_from_thread(0.02),
    "local": lambda: rust.local(),
    "sleep": lambda: pyloop.sleep(3600),
}

each_maker = pytest.mark.parametrize("make", list(MAKERS.values()), ids=list(MAKERS))

REUSED = r"^cannot reuse already awaited "
NOT_TWICE = r"^cannot reuse already awaited |is being awaited already$"


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    with none_left():
        yield


# What it is.


@each_maker
def test_it_is_a_coroutine_to_asyncio(make: Callable[[], Any]) -> None:
    awaitable = make()
    assert asyncio.iscoroutine(awaitable)
    assert isinstance(awaitable, collections.abc.Coroutine)
    assert isinstance(awaitable, collections.abc.Awaitable)
    assert inspect.isawaitable(awaitable)
    assert not asyncio.isfuture(awaitable)
    assert all(callable(getattr(awaitable, name)) for name in ("send", "throw", "close", "__await__"))
    awaitable.close()


@each_maker
def test_it_is_a_coroutine_to_inspect(make: Callable[[], Any]) -> None:
    awaitable = make()
    assert inspect.iscoroutine(awaitable)
    assert inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
    assert awaitable.cr_await is None
    assert awaitable.cr_origin is None
    assert awaitable.cr_frame is not None
    assert awaitable.cr_frame.f_code.co_name == awaitable.cr_code.co_name == awaitable.__qualname__
    assert inspect.getcoroutinelocals(awaitable) == {}
    awaitable.close()
    assert inspect.getcoroutinestate(awaitable) == inspect.CORO_CLOSED
    assert awaitable.cr_frame is None


@each_maker
def test_it_has_what_a_coroutine_of_this_python_has(make: Callable[[], Any]) -> None:
    awaitable = make()
    public = {name for name in dir(types.CoroutineType) if not name.startswith("__")}
    assert public <= set(dir(awaitable))
    awaitable.close()


@each_maker
def test_it_has_a_name_and_a_repr(make: Callable[[], Any]) -> None:
    awaitable = make()
    assert awaitable.__name__
    assert awaitable.__qualname__
    assert awaitable.__name__ in repr(awaitable)
    awaitable.close()


def test_it_is_lazy() -> None:
    awaitables = [rust.panic("never polled"), rust.error(ValueError("never polled"))]
    for awaitable in awaitables:
        awaitable.close()


def test_each_call_makes_a_rust_future_and_close_drops_it() -> None:
    before = rust.live()
    awaitables = [rust.ready(), rust.never(), rust.local()]
    assert rust.live() == before + 3
    for left, awaitable in zip((2, 1, 0), awaitables, strict=True):
        awaitable.close()
        assert rust.live() == before + left


# Driven by hand.


def result_of(send: Callable[[], Any]) -> Any:
    with pytest.raises(StopIteration) as stopped:
        send()
    return stopped.value.value


@pytest.mark.parametrize("value", [None, "value", (1, 2), StopIteration(1)], ids=repr)
def test_what_is_ready_needs_no_loop(value: Any) -> None:
    assert result_of(lambda: rust.ready(value).send(None)) is value


def test_what_is_ready_is_iterated_without_a_loop() -> None:
    iterator = rust.ready(5).__await__()
    assert result_of(lambda: next(iterator)) == 5


def test_a_python_coroutine_around_what_is_ready_needs_no_loop() -> None:
    async def main() -> Any:
        return await rust.ready(1) + await rust.ready(2)

    assert result_of(lambda: main().send(None)) == 3


def test_an_error_needs_no_loop() -> None:
    error = ValueError("by hand")
    with pytest.raises(ValueError, match=r"^by hand$") as caught:
        rust.error(error).send(None)
    assert caught.value is error


def test_a_panic_needs_no_loop() -> None:
    with pytest.raises(BaseException, match=r"^by hand$") as caught:
        rust.panic("by hand").send(None)
    assert type(caught.value).__name__ == "PanicException"


@pytest.mark.parametrize("name", ["yield_once", "yield_n", "never", "local", "woken_from_thread", "sleep"])
def test_what_is_not_ready_needs_a_running_loop(name: str) -> None:
    awaitable = MAKERS[name]()
    with pytest.raises(RuntimeError, match=r"^no running event loop$"):
        awaitable.send(None)
    awaitable.close()


def test_only_none_is_sent_to_what_has_not_started() -> None:
    awaitable = rust.ready()
    with pytest.raises(TypeError, match=r"^can't send non-None value to a just-started coroutine$"):
        awaitable.send(1)
    assert result_of(lambda: awaitable.send(None)) is None


@each_maker
def test_an_exception_thrown_before_the_start_comes_out_at_once(make: Callable[[], Any]) -> None:
    before = rust.live()
    awaitable = make()
    error = ZeroDivisionError("thrown")
    with pytest.raises(ZeroDivisionError, match=r"^thrown$") as caught:
        awaitable.throw(error)
    assert caught.value is error
    assert rust.live() == before
    with pytest.raises(RuntimeError, match=REUSED):
        awaitable.send(None)


def test_an_exception_class_is_thrown() -> None:
    with pytest.raises(ZeroDivisionError):
        rust.never().throw(ZeroDivisionError)


def test_what_is_no_exception_is_not_thrown() -> None:
    awaitable = rust.never()
    with pytest.raises(TypeError):
        awaitable.throw(42)
    awaitable.close()


@each_maker
def test_cancelled_before_it_is_awaited_it_is_dropped_and_the_await_is_told(
    loop: Loop, make: Callable[[], Any]
) -> None:
    async def main() -> None:
        before = rust.live()
        awaitable = make()
        assert awaitable.cancel("why")
        assert rust.live() == before
        assert not awaitable.cancel()
        with pytest.raises(asyncio.CancelledError, match=r"^why$"):
            await awaitable
        with pytest.raises(RuntimeError, match=REUSED):
            await awaitable
        task = asyncio.ensure_future(cancelled(make()))
        await asyncio.wait([task])
        assert task.cancelled()
        cancelled(make())  # and never awaited: no warning

    def cancelled(awaitable: Any) -> Any:
        assert awaitable.cancel()
        return awaitable

    loop.run_until_complete(main())


def test_one_that_is_awaited_is_cancelled_by_its_task_alone(loop: Loop) -> None:
    async def main() -> None:
        awaitable = rust.yield_n(3, 5)
        task = asyncio.ensure_future(awaits(awaitable))
        await asyncio.sleep(0)
        if isinstance(task, pyloop.Task):
            assert not awaitable.cancel()
            assert await task == 5
        else:
            assert awaitable.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    async def awaits(awaitable: Any) -> Any:
        return await awaitable

    loop.run_until_complete(main())


def test_it_is_no_future_before_it_is_awaited(loop: Loop) -> None:
    async def main() -> None:
        awaitable = rust.ready(7)
        with pytest.raises(asyncio.InvalidStateError, match=r"^Result is not set\.$"):
            awaitable.result()
        with pytest.raises(RuntimeError, match="ensure_future"):
            awaitable.add_done_callback(print)
        assert await awaitable == 7

    loop.run_until_complete(main())


@each_maker
def test_close_twice_is_fine_and_ends_it(make: Callable[[], Any]) -> None:
    awaitable = make()
    assert awaitable.close() is None
    assert awaitable.close() is None
    with pytest.raises(RuntimeError, match=REUSED):
        awaitable.send(None)


@pytest.mark.parametrize("end", ["ready", "error", "panic"])
def test_after_its_end_it_cannot_be_used_again(end: str) -> None:
    awaitable = MAKERS[end]()
    with pytest.raises(BaseException):  # noqa: B017
        awaitable.send(None)
    with pytest.raises(RuntimeError, match=REUSED):
        awaitable.send(None)
    with pytest.raises(RuntimeError, match=REUSED):
        awaitable.throw(ZeroDivisionError)
    awaitable.close()


# Awaited twice.


@pytest.mark.parametrize("kind", list(ENDING))
def test_awaited_a_second_time_is_an_error(loop: Loop, kind: str) -> None:
    async def main() -> None:
        awaitable = ENDING[kind][0]("once")
        assert await awaitable == "once"
        for _ in range(2):
            with pytest.raises(RuntimeError, match=REUSED):
                await awaitable

    loop.run_until_complete(main())


def test_a_task_of_what_was_awaited_already_is_an_error(loop: Loop) -> None:
    async def main() -> None:
        awaitable = rust.ready(1)
        assert await awaitable == 1
        with pytest.raises(RuntimeError, match=REUSED):
            await asyncio.create_task(awaitable)

    loop.run_until_complete(main())


@pytest.mark.parametrize("name", ["yield_n", "never", "local", "sleep"])
def test_awaited_from_two_tasks_at_once_is_an_error_for_the_second(loop: Loop, name: str) -> None:
    async def wait(awaitable: Any) -> Any:
        return await awaitable

    async def main() -> None:
        awaitable = MAKERS[name]()
        first, second = asyncio.create_task(wait(awaitable)), asyncio.create_task(wait(awaitable))
        with pytest.raises(RuntimeError, match=NOT_TWICE):
            await second
        assert not first.done() or first.exception() is None
        first.cancel()
        await asyncio.wait([first])

    loop.run_until_complete(main())


@pytest.mark.parametrize("kind", ["yield_n", "woken_from_thread", "sleep"])
def test_two_tasks_of_one_are_an_error_for_the_second(loop: Loop, kind: str) -> None:
    async def main() -> None:
        awaitable = ENDING[kind][0]("for the first")
        first, second = asyncio.create_task(awaitable), asyncio.create_task(awaitable)
        with pytest.raises(RuntimeError, match=NOT_TWICE):
            await second
        assert await first == "for the first"

    loop.run_until_complete(main())


def test_awaiting_it_while_its_own_task_waits_is_an_error(loop: Loop) -> None:
    async def main() -> None:
        awaitable = rust.never()
        running = asyncio.create_task(awaitable)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=NOT_TWICE):
            await awaitable
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()

    loop.run_until_complete(main())


# Iterated, where `await` was forgotten.


@pytest.mark.parametrize("stock", [False, True])
@pytest.mark.parametrize("consume", [list, set, tuple])
@pytest.mark.parametrize("kind", ["asyncio future", "never", "woken_from_thread", "sleep"])
def test_iterated_instead_of_awaited_it_ends_with_asyncios_error(
    loop: Loop, kind: str, consume: Callable[[Any], Any], stock: bool
) -> None:
    async def main() -> None:
        pending = loop.create_future() if kind == "asyncio future" else MAKERS[kind]()
        with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
            consume(pending)
        pending.cancel()
        await asyncio.sleep(0)

    loop.run_until_complete(asyncio.Task(main(), loop=loop) if stock else main())


@pytest.mark.parametrize("kind", ["asyncio future", "never"])
def test_a_loop_over_it_that_awaits_something_else_ends_with_asyncios_error(loop: Loop, kind: str) -> None:
    async def main() -> list[Any]:
        pending = loop.create_future() if kind == "asyncio future" else MAKERS[kind]()
        seen = list[Any]()
        with pytest.raises(RuntimeError, match=r"^await wasn't used with future$"):
            for item in pending:
                seen.append(item)
                await asyncio.sleep(0)
        assert seen == [pending]
        pending.cancel()
        return seen

    loop.run_until_complete(main())


def test_one_that_gives_way_may_be_polled_again_at_once(loop: Loop) -> None:
    async def main() -> None:
        awaitable = rust.yield_n(3, 5)
        for _ in range(3):
            assert awaitable.send(None) is awaitable
        assert result_of(lambda: awaitable.send(None)) == 5

    if isinstance(loop, pyloop.EventLoop):  # elsewhere each poll waits for a callback of the loop
        loop.run_until_complete(main())


# Dropped.


@each_maker
def test_what_is_dropped_unawaited_warns_as_a_coroutine_does(make: Callable[[], Any]) -> None:
    with pytest.warns(RuntimeWarning, match=r"^coroutine '.+' was never awaited$") as caught:
        make()
    assert len(caught) == 1


def test_the_warning_calls_it_by_its_name() -> None:
    awaitable = pyloop.sleep(1)
    name = awaitable.__qualname__
    with pytest.warns(RuntimeWarning, match=rf"^coroutine '{name}' was never awaited$"):
        del awaitable


@pytest.mark.parametrize("end", ["close", "throw", "send"])
def test_what_was_closed_thrown_at_or_sent_to_does_not_warn(end: str) -> None:
    def use(awaitable: Any) -> None:
        if end == "close":
            awaitable.close()
        elif end == "throw":
            with pytest.raises(ZeroDivisionError):
                awaitable.throw(ZeroDivisionError)
        else:
            result_of(lambda: awaitable.send(None))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(rust.ready())
        gc.collect()


@pytest.mark.parametrize("stock", [False, True])
def test_a_task_that_is_destroyed_while_it_waits_does_not_warn(
    loop_factory: LoopFactory, handled: list[Context], stock: bool
) -> None:
    loop = loop_factory()
    awaitable = rust.never()
    (asyncio.Task(awaitable, loop=loop) if stock else loop.create_task(awaitable))
    turn(loop)
    loop.close()
    del loop, awaitable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
        handled.clear()  # the task was destroyed while it was pending
        gc.collect()


def test_a_cancelled_task_that_never_started_does_not_warn(loop: Loop) -> None:
    async def main() -> None:
        task = asyncio.create_task(rust.never())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    loop.run_until_complete(main())


def drop_elsewhere(held: list[Any]) -> None:
    """Lets go of what `held` holds on another thread."""

    def drop() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of those never awaited
            held.clear()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()


movable = pytest.mark.parametrize("name", [name for name in MAKERS if name != "local"])


@movable
def test_it_may_be_dropped_on_another_thread(name: str) -> None:
    before = rust.live()
    drop_elsewhere([MAKERS[name]()])
    assert rust.live() == before


@pytest.mark.parametrize("name", ["yield_n", "never", "woken_from_thread", "sleep"])
def test_it_may_be_dropped_on_another_thread_while_it_waits(loop: Loop, name: str) -> None:
    before = rust.live()
    held = list[Any]()

    def start() -> None:
        held.append(MAKERS[name]())
        held[0].send(None)  # by hand, so that no task holds it

    loop.call_soon(start)
    turn(loop)
    drop_elsewhere(held)
    turn(loop)
    assert rust.live() == before


@pytest.mark.parametrize("started", [False, True])
def test_one_that_is_not_send_goes_home_to_be_dropped(pyloop_loop: Loop, started: bool) -> None:
    before = rust.live()
    held = list[Any]()

    def start() -> None:
        held.append(rust.local())
        if started:
            held[0].send(None)

    pyloop_loop.call_soon(start)
    turn(pyloop_loop)
    drop_elsewhere(held)
    turn(pyloop_loop, 2)
    assert rust.live() == before


def test_one_that_is_not_send_is_at_home_when_the_next_is_made(loop: Loop) -> None:
    async def main() -> None:
        before = rust.live()
        drop_elsewhere([rust.local()])
        await rust.local()
        assert rust.live() == before

    loop.run_until_complete(main())


def test_what_may_not_leave_its_thread_is_refused_on_another(loop: Loop) -> None:
    errors = list[BaseException]()
    held = list[Any]()

    def start() -> None:
        held.append(rust.local())
        held[0].send(None)

    def poll() -> None:
        try:
            held[0].send(None)
        except BaseException as error:
            errors.append(error)

    loop.call_soon(start)
    turn(loop)
    thread = threading.Thread(target=poll)
    thread.start()
    thread.join()
    held.pop().close()
    turn(loop)
    assert [type(error) for error in errors] == [RuntimeError]


def test_a_closed_one_has_let_its_value_go() -> None:
    class Value:
        awaitable: Any

    value = Value()
    value.awaitable = rust.yield_once(value)
    value.awaitable.close()
    reference = weakref.ref(value)
    del value
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("name", ["yield_n", "never", "local", "sleep"])
def test_a_loop_that_goes_drops_what_its_tasks_await(
    pyloop_factory: LoopFactory, name: str, handled: list[Context]
) -> None:
    before = rust.live()
    loop = pyloop_factory()
    loop.create_task(MAKERS[name]())
    turn(loop)
    loop.close()
    del loop
    gc.collect()
    handled.clear()  # the task was destroyed while it was pending
    gc.collect()
    assert rust.live() == before
