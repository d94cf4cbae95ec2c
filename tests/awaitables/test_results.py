"""The StopIteration by which a result goes up: as CPython makes it, its keeper's, and gone with its taker."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from support.loops import Loop, Run
from support.rust import none_left, rust, start_background

Make = Callable[[Any], Generator[Any, Any, Any]]


class Value:
    pass


@pytest.fixture(scope="module", autouse=True)
def background() -> None:
    start_background()


@pytest.fixture(params=["future", "rust"])
def make(request: pytest.FixtureRequest, loop: Loop) -> Iterator[Make]:
    """What makes an iterator that ends with a value at once."""

    def of_future(value: Any) -> Any:
        future = loop.create_future()
        future.set_result(value)
        return iter(future.__await__())

    def of_rust(value: Any) -> Any:
        return iter(rust.ready(value).__await__())

    with none_left():
        yield of_future if request.param == "future" else of_rust


def ended(iterator: Iterator[Any]) -> StopIteration:
    try:
        next(iterator)
    except StopIteration as stop:
        return stop
    raise AssertionError("it did not end")


def through_yield_from(make: Make, value: Any) -> Any:
    def generator() -> Any:
        return (yield from make(value))

    return ended(generator()).value


def test_it_has_the_value_and_the_arguments(make: Make) -> None:
    value = Value()
    for _ in range(3):
        stop = ended(make(value))
        assert stop.value is value
        assert stop.args == (value,)
        assert stop.__context__ is stop.__cause__ is None
        assert repr(StopIteration(7)) == repr(ended(make(7)))


def test_each_is_its_keepers(make: Make) -> None:
    kept = [ended(make(number)) for number in range(1, 6)]
    for number, stop in enumerate(kept, 1):
        stop.add_note(str(number))
        stop.mine = number  # type: ignore[attr-defined]
        stop.__cause__ = ValueError(number)
    for number in range(1, 4):
        assert through_yield_from(make, number) == number
    assert [stop.value for stop in kept] == [1, 2, 3, 4, 5]
    assert [stop.args for stop in kept] == [(1,), (2,), (3,), (4,), (5,)]
    assert [stop.__notes__ for stop in kept] == [["1"], ["2"], ["3"], ["4"], ["5"]]
    fresh = ended(make(6))
    assert not hasattr(fresh, "__notes__")
    assert not hasattr(fresh, "mine")
    assert fresh.__cause__ is None
    assert not fresh.__suppress_context__


def test_what_was_written_to_one_does_not_come_back(make: Make) -> None:
    # Nobody keeps them.
    for write in (
        lambda stop: stop.add_note("a note"),
        lambda stop: setattr(stop, "mine", 1),
        lambda stop: setattr(stop, "args", (8, 9)),
        lambda stop: setattr(stop, "value", 8),
        lambda stop: setattr(stop, "__cause__", None),
        lambda stop: setattr(stop, "__context__", ValueError()),
        lambda stop: delattr(stop, "value"),
    ):
        write(ended(make(1)))
        assert through_yield_from(make, 2) == 2
        stop = ended(make(3))
        assert (stop.value, stop.args) == (3, (3,))
        assert not hasattr(stop, "__notes__")
        assert not hasattr(stop, "mine")
        assert not stop.__suppress_context__
        assert stop.__cause__ is stop.__context__ is None


def test_the_exception_being_handled_is_its_context_before_3_14(make: Make) -> None:
    for _ in range(2):
        try:
            raise KeyError
        except KeyError as handled:
            error, stop = handled, ended(make(1))
            through_yield_from(make, 2)
        assert stop.__context__ is (error if sys.version_info < (3, 14) else None)
        assert ended(make(3)).__context__ is None


def test_a_result_lives_no_longer_than_its_taker(make: Make, run: Run) -> None:
    gone = []

    class Awaitable:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Generator[Any, Any, Any]:
            return make(self.value)

    async def main() -> None:
        for _ in range(3):
            value = await Awaitable(Value())
            reference = weakref.ref(value)
            del value
            gone.append(reference() is None)

    run(main())
    assert gone == [True, True, True]


def test_a_result_that_goes_may_await_another(make: Make) -> None:
    results = []

    class Nested:
        def __del__(self) -> None:
            results.append(through_yield_from(make, 5))

    for _ in range(3):
        assert isinstance(through_yield_from(make, Nested()), Nested)
    assert results == [5, 5, 5]


def test_one_that_ends_while_another_is_told_of(make: Make) -> None:
    # A trace function runs between the end of the one and its `await`.
    seen: list[Any] = []

    def trace(frame: Any, event: str, argument: Any) -> Any:
        if event == "exception" and not seen:
            seen.append(None)
            seen[0] = through_yield_from(make, "inner")
        return trace

    sys.settrace(trace)
    try:
        value = through_yield_from(make, "outer")
    finally:
        sys.settrace(None)
    assert value == "outer"
    assert seen in (["inner"], [])


def test_the_collector_finds_it_well(make: Make) -> None:
    for _ in range(3):
        through_yield_from(make, [1])
        for stop in [each for each in gc.get_objects() if isinstance(each, StopIteration)]:
            repr(stop)
            assert stop.value in (None, [1])


def test_one_that_the_collector_showed_is_its_finders(make: Make) -> None:
    through_yield_from(make, [1])
    found = [each for each in gc.get_objects() if isinstance(each, StopIteration)]
    values = [each.value for each in found]
    for number in range(3):
        assert through_yield_from(make, number) == number
        assert all(ended(make(number)) is not each for each in found)
    assert [each.value for each in found] == values
