"""Which test modules are run, and which classes and tests they have on this Python.

Owns the list of modules and the short names. Finding the classes imports the modules, which is done by a
worker: the process of the command line never imports a test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .outcomes import ClassId

_ASYNCIO = (
    "test_events test_sock_lowlevel test_tasks test_futures test_eager_task_factory test_locks test_queues"
    " test_timeouts test_taskgroups test_waitfor test_runners test_pep492 test_threads test_context"
    " test_graph test_streams test_server test_buffered_proto test_subprocess test_sendfile test_ssl"
)

STOCK_MODULES: dict[str, str] = {
    **{name: f"test.test_asyncio.{name}" for name in _ASYNCIO.split()},
    "test_asyncgen": "test.test_asyncgen",
    "test_contextlib_async": "test.test_contextlib_async",
    "test_coroutines": "test.test_coroutines",
    "test_async_case": "test.test_unittest.test_async_case",
}
"""CPython's modules, by the name that the report and the expectations use."""

_OURS = ("tasks", "futures", "eager", "runners", "elsewhere")

OUR_MODULES: dict[str, str] = {f"pyloop_{name}": f"{__package__}.ours.{name}" for name in _OURS}
"""CPython's mixins over the candidate's own Task and Future, or its loop where CPython uses a mocked one."""

ON_STOCK_LOOP = frozenset({"pyloop_elsewhere"})
"""Modules in which the stock loop stays: the candidate's Task and Future on asyncio's loop."""

MODULES = STOCK_MODULES | OUR_MODULES


@dataclass(frozen=True, slots=True)
class Selection:
    """One ``--only``: a module, a class of it, or a test of that. Short and full module names both do."""

    module: str
    name: str = ""
    test: str = ""

    @classmethod
    def parse(cls, text: str) -> Selection:
        for short, full in sorted(MODULES.items(), key=lambda item: -len(item[1])):
            for prefix in (full, short):
                if text == prefix or text.startswith(prefix + "."):
                    name, _, test = text[len(prefix) + 1 :].partition(".")
                    return cls(short, name, test)
        raise ValueError(f"no test module is called {text!r}; there are {', '.join(MODULES)}")


@dataclass(slots=True)
class Plan:
    """The classes to run, each with its tests, and the modules that this Python does not have."""

    classes: dict[ClassId, list[str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def selected(self, selections: list[Selection]) -> Plan:
        """The part of the plan that ``--only`` asks for; all of it without one."""
        if not selections:
            return self
        modules = {wanted.module for wanted in selections}
        part = Plan(missing={module: why for module, why in self.missing.items() if module in modules})
        for class_id, tests in self.classes.items():
            for wanted in selections:
                if wanted.module == class_id.module and wanted.name in ("", class_id.name):
                    chosen = [test for test in tests if wanted.test in ("", test)]
                    part.classes.setdefault(class_id, []).extend(chosen)
        part.classes = {class_id: tests for class_id, tests in part.classes.items() if tests}
        return part

    def without(self, is_left_out: Callable[[str], bool]) -> dict[ClassId, list[str]]:
        """The classes without some of their tests (``module.Class.test``)."""
        kept = {
            class_id: [test for test in tests if not is_left_out(f"{class_id}.{test}")]
            for class_id, tests in self.classes.items()
        }
        return {class_id: tests for class_id, tests in kept.items() if tests}


def module_names(selections: list[Selection], *, our_classes: bool) -> list[str]:
    """The short names of the modules to look into."""
    if selections:
        return list(dict.fromkeys(selection.module for selection in selections))
    return list(MODULES if our_classes else STOCK_MODULES)
