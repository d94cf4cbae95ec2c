"""Leak checks, virtual time and shuffled tasks for pytest. In pyproject.toml, or on the command line:

    [tool.pytest.ini_options]
    addopts = "-p pyloop.pytest_plugin -p pyloop.testing_plugin"
    pyloop_leaks = ["tasks", "handles", "descriptors", "threads"]
    pyloop_shuffle = true

| | |
|---|---|
| ini `pyloop_leaks`, `--pyloop-leaks=KIND,...` | what no test may leave behind; default: no check |
| `@pytest.mark.pyloop_leaks(*kinds)` | the same for one test |
| ini `pyloop_shuffle`, `--pyloop-shuffle` | tasks that are ready together, in another order |
| `--pyloop-seed=N` | in the order that follows from N, which a failed test has in its report |
| `@pytest.mark.pyloop_virtual_time` | the test's loops have virtual time (`autojump_threshold=...`) |

`tasks` and `handles` are those of pyloop's loops, looked at when a loop is closed; `descriptors` and
`threads` are the process's, looked at when the test's fixtures are gone. What a fixture of a wider scope has
made is not the test's.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Generator
from typing import Any

import pytest

from pyloop import (
    _loop,
    _native,
    _whole,  # noqa: F401
)
from pyloop._leaks import Resources, leftovers

KINDS = ("tasks", "handles", "descriptors", "threads")
_SHOWN = 10
# Coroutines of test frameworks' own tasks, which they leave to the runner: anyio's.
_FRAMEWORKS = {"TestRunner._run_tests_and_fixtures"}
# For how many seconds threads that were told to end may do so.
_PATIENCE = 0.2


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and ini values of the module's table."""
    group = parser.getgroup("pyloop")
    group.addoption(
        "--pyloop-leaks", metavar="KINDS", help=f"check each test for leaks: {','.join(KINDS)}, all"
    )
    group.addoption("--pyloop-shuffle", action="store_true", help="another order of tasks, by a new seed")
    group.addoption("--pyloop-seed", type=int, metavar="N", help="the order of tasks that follows from N")
    parser.addini("pyloop_leaks", "what each test must not leave behind", type="args", default=[])
    parser.addini("pyloop_shuffle", "run tasks in another order, by a new seed", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Be told of each loop of pyloop's, until pytest ends."""
    config.addinivalue_line("markers", "pyloop_leaks(*kinds): what this test must not leave behind")
    config.addinivalue_line(
        "markers", "pyloop_virtual_time(*, autojump_threshold=None): its loops' clocks jump"
    )
    given = config.getoption("--pyloop-leaks")
    kinds = given.split(",") if given is not None else config.getini("pyloop_leaks")
    seed = config.getoption("--pyloop-seed")
    if seed is None and (config.getoption("--pyloop-shuffle") or config.getini("pyloop_shuffle")):
        seed = random.SystemRandom().randrange(1_000_000)
    plugin = _Plugin(_checked(kinds), seed)
    config.pluginmanager.register(plugin, "pyloop-testing")
    before = _loop.observer, asyncio.Runner.close
    _loop.observer = plugin

    def close(self: asyncio.Runner) -> None:
        with plugin.cancelling():
            before[1](self)

    def put_back() -> None:
        _loop.observer = before[0]
        asyncio.Runner.close = before[1]  # type: ignore[method-assign]

    asyncio.Runner.close = close  # type: ignore[method-assign]
    config.add_cleanup(put_back)


def _checked(kinds: Any) -> frozenset[str]:
    found = {kind.strip() for kind in kinds if kind.strip()}
    if "all" in found:
        found = set(KINDS)
    if unknown := found - set(KINDS):
        raise pytest.UsageError(
            f"pyloop_leaks knows {', '.join(KINDS)} and all, not {', '.join(sorted(unknown))}"
        )
    return frozenset(found)


class _Test:
    """One test: how its loops are made, and what they left."""

    def __init__(self, item: pytest.Item, kinds: frozenset[str]) -> None:
        mark = item.get_closest_marker("pyloop_leaks")
        self.kinds = kinds if mark is None else _checked(mark.args)
        mark = item.get_closest_marker("pyloop_virtual_time")
        self.virtual_time = mark is not None
        self.threshold = None if mark is None else mark.kwargs.get("autojump_threshold")
        self.left: list[str] = []
        self.resources: Resources | None = None
        if self.kinds & {"descriptors", "threads"}:
            gc.collect()
            self.resources = Resources(_PATIENCE)

    def complaints(self) -> list[str]:
        found, self.left = self.left, []
        if self.resources is not None:
            gc.collect()
            if "descriptors" in self.kinds:
                found += self.resources.new_descriptors()
            if "threads" in self.kinds:
                found += self.resources.new_threads()
        return found


def _is_theirs(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", None) in _FRAMEWORKS


class _Plugin:
    def __init__(self, kinds: frozenset[str], seed: int | None) -> None:
        self._kinds = kinds
        self._seed = seed
        self._test: _Test | None = None
        # A runner is closing, and has not run its loop for the cancelled tasks yet.
        self._cancelling = False

    # --- of the loops (`_loop.Observer`) ---

    def made(self, loop: _loop.EventLoop) -> None:
        if self._seed is not None:
            _native._shuffle_steps(loop, self._seed)
        if self._test is not None and self._test.virtual_time:
            _native._begin_virtual_time(loop, self._test.threshold, 0.0)

    def runs(self, loop: _loop.EventLoop) -> None:
        if self._cancelling:
            self._cancelling = False
            cancelled = [
                task for task in asyncio.all_tasks(loop) if task.cancelling() and not _is_theirs(task)
            ]
            self._note("tasks", [f"pending task: {task!r}" for task in cancelled])

    def closes(self, loop: _loop.EventLoop) -> None:
        if self._test is not None and self._test.kinds & {"tasks", "handles"}:
            found = leftovers(loop)
            tasks = [line for line in found if line.startswith("pending task")]
            self._note("tasks", tasks)
            self._note("handles", [line for line in found if line not in tasks])

    def cancelling(self) -> _Plugin:
        return self

    def __enter__(self) -> None:
        self._cancelling = True

    def __exit__(self, *_exc: object) -> None:
        self._cancelling = False

    def _note(self, kind: str, lines: list[str]) -> None:
        if self._test is not None and kind in self._test.kinds:
            self._test.left += lines

    # --- of pytest ---

    def pytest_report_header(self) -> list[str]:
        lines = []
        if self._kinds:
            lines.append(f"pyloop leaks: {', '.join(kind for kind in KINDS if kind in self._kinds)}")
        if self._seed is not None:
            lines.append(f"pyloop seed: {self._seed}")
        return lines

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._test = _Test(item, self._kinds)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        resources = None if self._test is None else self._test.resources
        if resources is None or fixturedef.scope == "function":
            return (yield)
        before = Resources()
        try:
            return (yield)
        finally:
            resources.admit(Resources(), before)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Generator[None, object, None]:
        yield
        test, self._test = self._test, None
        found = test.complaints() if test is not None else []
        if found:
            more = [f"... and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            pytest.fail("the test left behind:\n" + "\n".join(found[:_SHOWN] + more), pytrace=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed and self._seed is not None:
            report.sections.append(("pyloop", f"--pyloop-seed={self._seed} replays this order of tasks"))
        return report
