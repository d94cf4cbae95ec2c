"""The rules of the house about the cycle collector, as tests: native classes show it what they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest

from support.source import check, code_of, folder_of, named, rust_files

# Classes without `__traverse__`, and why none is needed.
SHOW_NOTHING = {
    "Lagged": "an exception, whose own it is",
    "Ring": "a waker, which names its task by a number",
    "ErrandCall": "a closure of Rust's, of which nothing is known; it lives until the loop has called it",
    "AtExit": "no Python object",
    "DoneCall": "a weak reference of Rust's",
    "FireCall": "its waiters are shown by the awaitable that they wait for",
    "Look": "what has been woken, which the loop is about to call",
    "WakeReader": "as Look; its loop it holds weakly",
    "RustStream": "somebody else's stream, of which nothing is known (docs/extensions.md, Limits)",
    "RustBatches": "as RustStream",
    "Sender": "nobody can receive by it: the receiver shows what is in the queue",
    "OneshotSender": "as Sender",
    "BroadcastSender": "as Sender",
    "Semaphore": "no Python object",
    "Acquire": "a Permit, which holds no Python object",
    "Permit": "no Python object",
    "Notify": "no Python object",
    "Barrier": "no Python object",
    "File": "its name: str or bytes",
    "Opening": "its path, str or bytes, and a File",
    "ReadDir": "its path: str or bytes",
    "DirEntry": "no Python object",
}

# Classes with `__traverse__` and without `__clear__`, and what else breaks each cycle that they are in.
CLEARED_BY_OTHERS = {
    "TaskWakeup": "the task",
    "StepCall": "the task",
    "CloseCall": "the generator",
    "ThreadSafeHandle": "the Handle that it is",
    "TimerHandle": "the Handle that it is; its time is a number, or has what a number has",
    "BroadcastReceiver": "the Kept",
    "WatchSender": "the Kept",
    "WatchReceiver": "the Kept",
}


def classes(code: str) -> Iterator[tuple[int, str]]:
    """(line, name) of each `#[pyclass]`."""
    attributes, visibility = r"#\[pyclass\b[^\]]*\](?:\s*#\[[^\]]*\])*", r"(?:pub(?:\([^)]*\))?\s+)?"
    for found in re.finditer(rf"{attributes}\s*{visibility}struct (\w+)", code):
        yield code.count("\n", 0, found.start()) + 1, found[1]


def methods_of(code: str, name: str) -> str:
    """The bodies of the `#[pymethods]` of a class, one after the other."""
    bodies = []
    for found in re.finditer(rf"#\[pymethods\]\s*impl {name} \{{", code):
        depth, at = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            at += 1
        bodies.append(code[found.end() : at])
    return "\n".join(bodies)


@pytest.fixture(scope="module")
def known() -> dict[str, tuple[str, str]]:
    """By name of the class: where it is, and its methods."""
    sources = {path: code_of(path.read_text()) for path in rust_files() if folder_of(path) != "accel"}
    together = "\n".join(sources.values())
    return {
        name: (named(path, line), methods_of(together, name))
        for path, code in sources.items()
        for line, name in classes(code)
    }


def test_each_class_shows_the_collector_what_it_holds(known: dict[str, tuple[str, str]]) -> None:
    broken = [
        f"{place}: {name}"
        for name, (place, methods) in known.items()
        if name not in SHOW_NOTHING and "fn __traverse__" not in methods
    ]
    check(broken, "A #[pyclass] without __traverse__. Write one, or a reason into SHOW_NOTHING:")


def test_each_cycle_can_be_broken(known: dict[str, tuple[str, str]]) -> None:
    broken = [
        f"{place}: {name}"
        for name, (place, methods) in known.items()
        if "fn __traverse__" in methods and "fn __clear__" not in methods and name not in CLEARED_BY_OTHERS
    ]
    check(broken, "A #[pyclass] without __clear__. Write one, or what else breaks the cycle:")


def test_the_reasons_are_for_classes_that_are_there(known: dict[str, tuple[str, str]]) -> None:
    def have(names: Iterable[str], method: str) -> list[str]:
        return [name for name in names if name not in known or f"fn {method}" in known[name][1]]

    check(have(SHOW_NOTHING, "__traverse__"), "In SHOW_NOTHING, and has a __traverse__ (or is gone):")
    check(have(CLEARED_BY_OTHERS, "__clear__"), "In CLEARED_BY_OTHERS, and has a __clear__ (or is gone):")


def test_a_cast_is_checked_in_debug_builds() -> None:
    broken = [
        f"{named(path, number)}: {line.strip()}"
        for path in rust_files()
        if path.name != "call.rs" or folder_of(path) != "py"
        for number, line in enumerate(code_of(path.read_text()).splitlines(), 1)
        if re.search(r"\bcast\w*_unchecked\b", line)
    ]
    check(broken, "An unchecked cast that no build checks. Use py::call's `cast` and `cast_into`:")
