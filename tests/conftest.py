"""asyncio is the oracle: a test that takes `loop`, `run` or `loop_factory` runs on asyncio and on pyloop.

    pytest tests                     both
    pytest tests --loops asyncio     the oracle alone (also PYLOOP_TEST_LOOPS=asyncio)
    pytest tests --loops pyloop      pyloop alone, and its awaitables on both

A test that is about pyloop alone takes `pyloop_loop` or `pyloop_factory`. What a test may leave behind is
said in `pyloop/_leaks.py`; the fixtures `handled`, `logged` and `unraisable` collect what a test provokes on
purpose.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

import pytest

from support import loops
from support.guard import Context, Guard
from support.loops import Loop, LoopFactory, Run
from support.patience import PATIENCE

# What these folders are about is pyloop's on any loop.
AWAITABLES = "awaitables", "sync"
_stderr = 2


class Hung(SystemExit):
    """The test did not end. A SystemExit, because that is what leaves any loop and stops no other test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loops", default=None, help="loops to test, separated by commas: asyncio,pyloop")


def pytest_configure(config: pytest.Config) -> None:
    if extension := os.environ.get("PYLOOP_TEST_EXTENSION"):
        sys.path.insert(
            0, extension
        )  # before the one that is installed; so it is in every child (support/process.py)
    global _stderr
    _stderr = os.dup(2)  # pytest points 2 at a file while a test runs
    config.add_cleanup(lambda: os.close(_stderr))
    # A shell has these ignored in what it starts in the background, and nohup: tests wait for them.
    for number in signal.SIGINT, signal.SIGQUIT, signal.SIGHUP:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    config.addinivalue_line("markers", "since(major, minor): not selected on Pythons older than this")
    config.addinivalue_line("markers", "before(major, minor): not selected from this Python on")
    config.addinivalue_line("markers", "acceleration(name): about one that PYLOOP_ACCEL can switch off")


def pytest_collection(session: pytest.Session) -> None:
    if "pyloop" in loops.kinds(session.config):
        try:
            importlib.import_module("pyloop")
        except ImportError as missing:
            build = "maturin develop --release, or make build; --loops asyncio runs the oracle alone"
            raise pytest.UsageError(f"{missing}: {build}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "loop_kind" in metafunc.fixturenames:
        kinds = loops.kinds(metafunc.config)
        if metafunc.definition.path.parent.name in AWAITABLES and "pyloop" in kinds:
            kinds = list(loops.KINDS)
        metafunc.parametrize("loop_kind", kinds)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = loops.kinds(config)
    asked = os.environ.get("PYLOOP_ACCEL", "").split(",")

    def wanted(item: pytest.Item) -> bool:
        since, before = item.get_closest_marker("since"), item.get_closest_marker("before")
        accelerations = {name for mark in item.iter_markers("acceleration") for name in mark.args}
        return (
            not (accelerations and ("none" in asked or any(f"-{name}" in asked for name in accelerations)))
            and (since is None or sys.version_info >= since.args)
            and (before is None or sys.version_info < before.args)
            and ("pyloop" in chosen or "pyloop_factory" not in getattr(item, "fixturenames", ()))
        )

    dropped = [item for item in items if not wanted(item)]
    if dropped:
        items[:] = [item for item in items if wanted(item)]
        config.hook.pytest_deselected(items=dropped)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # each test ends with collections: let them look at what the test made


@pytest.fixture(autouse=True)
def guard() -> Iterator[Guard]:
    """Around everything else that the test uses: set up first, settled last."""
    with _patience(), Guard() as guard:
        yield guard
        complaints = guard.complaints()
    _fail(complaints)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Iterator[None]:
    if call.excinfo and signal.getitimer(signal.ITIMER_REAL)[0]:
        # A test that failed late is reported on, not interrupted.
        signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
    return (yield)


class _patience:
    def __enter__(self) -> None:
        self._handler = signal.signal(signal.SIGALRM, self._hung)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
        watch.renew()

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)

    def _hung(self, signum: int, frame: FrameType | None) -> None:
        raise Hung(f"the test was still running after {PATIENCE} s")


class _Watch:
    """Ends a process that is stuck, two to three times PATIENCE after a test began.

    It is a thread, and not made for each test: that took a twentieth of the time of all tests.
    """

    def __init__(self) -> None:
        self._began = -math.inf

    def begin(self) -> None:
        """Again after each failure, when pytest calls it off."""
        faulthandler.dump_traceback_later(3 * PATIENCE, exit=True, file=_stderr)
        self._began = time.monotonic()

    def renew(self) -> None:
        if time.monotonic() - self._began > PATIENCE:
            self.begin()

    def end(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._began = -math.inf


watch = _Watch()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    if fixturedef.scope != "function":
        watch.end()  # it may take long: it builds something, or starts a server
    return (yield)


def pytest_sessionfinish() -> None:
    watch.end()


@pytest.fixture
def handled(guard: Guard) -> list[Context]:
    """The contexts given to the exception handler of the test's loops; asking for them is expecting them."""
    guard.expect.add("contexts")
    return guard.contexts


@pytest.fixture
def logged(guard: Guard) -> list[logging.LogRecord]:
    """The error records of the logger `asyncio`; asking for them is expecting them."""
    guard.expect.add("records")
    return guard.records


@pytest.fixture
def unraisable(guard: Guard) -> list[str]:
    """What went to `sys.unraisablehook` and `threading.excepthook`; asking for it is expecting it."""
    guard.expect.add("unraisable")
    return guard.unraisable


@pytest.fixture
def loop_kind() -> str:
    """`asyncio` or `pyloop`: see pytest_generate_tests."""
    raise AssertionError("parametrised by pytest_generate_tests")


@pytest.fixture
def bare_factory(loop_kind: str) -> LoopFactory:
    """Makes loops as their users get them, without the test's exception handler."""
    loops.new_loop(loop_kind).close()  # a loop that cannot be made fails the test here
    return lambda: loops.new_loop(loop_kind)


@pytest.fixture
def loop_factory(bare_factory: LoopFactory, guard: Guard) -> LoopFactory:
    """Makes loops whose unexpected contexts fail the test. Who makes one closes it."""
    return _watched(bare_factory, guard)


@pytest.fixture
def loop(loop_factory: LoopFactory) -> Iterator[Loop]:
    """A loop that is not running; what is still pending when the test ends fails it."""
    yield from _lent(loop_factory)


@pytest.fixture
def run(loop: Loop) -> Run:
    """`run(coro)` is `loop.run_until_complete(coro)`."""
    return loop.run_until_complete


@pytest.fixture
def pyloop_factory(guard: Guard) -> LoopFactory:
    """As `loop_factory`, for tests of what only pyloop has."""
    return _watched(lambda: loops.new_loop("pyloop"), guard)


@pytest.fixture
def pyloop(pyloop_factory: LoopFactory) -> ModuleType:
    """The package. Test modules do not import it: the oracle's run must not need it."""
    return importlib.import_module("pyloop")


@pytest.fixture
def pyloop_loop(pyloop_factory: LoopFactory) -> Iterator[Loop]:
    """As `loop`, for tests of what only pyloop has."""
    yield from _lent(pyloop_factory)


def _watched(factory: LoopFactory, guard: Guard) -> LoopFactory:
    def make() -> Loop:
        loop = factory()
        loop.set_exception_handler(guard.on_context)
        return loop

    return make


def _lent(factory: Callable[[], Loop]) -> Iterator[Loop]:
    loop = factory()
    yield loop
    watch.begin()
    left: list[str] = []
    if not loop.is_closed():
        try:
            left = loops.settle(loop)
        except Hung as hung:  # pytest would leave all other fixtures as they are, for the tests to come
            left = [str(hung)]
    _fail(left)


def _fail(complaints: list[str]) -> None:
    if complaints:
        more = [f"... and {len(complaints) - 10} more"] if len(complaints) > 10 else []
        pytest.fail("\n".join(complaints[:10] + more), pytrace=False)
