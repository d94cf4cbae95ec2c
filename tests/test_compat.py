"""The private names of asyncio that pyloop leans on, pinned: a CPython that changes one fails here first."""

from __future__ import annotations

import ast
import asyncio
import sys
from pathlib import Path

import pytest

import pyloop
from pyloop import _compat

PACKAGE = Path(pyloop.__file__).parent


def private_names(path: Path) -> set[str]:
    """What a module takes from asyncio's modules under a private name."""
    modules = {name for name in dir(asyncio) if type(getattr(asyncio, name)).__name__ == "module"}
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Attribute) and node.attr.startswith("_")):
            continue
        owner = node.value
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        if isinstance(owner, ast.Name) and owner.id in modules and not node.attr.startswith("__"):
            found.add(f"{owner.id}: {node.attr}")
    return found


def test_private_names_of_asyncio_stand_in_compat_alone() -> None:
    elsewhere = {
        path.name: names
        for path in PACKAGE.glob("*.py")
        if path.name != "_compat.py" and (names := private_names(path))
    }
    # The two that asyncio documents for loops written elsewhere.
    documented = {"events: _get_running_loop", "events: _set_running_loop"}
    assert {name: names - documented for name, names in elsewhere.items() if names - documented} == {}


def test_the_protocol_of_third_party_tasks_is_there() -> None:
    for name in ("register_task", "unregister_task", "enter_task", "leave_task", "swap_current_task"):
        assert callable(getattr(_compat, name))


def test_the_register_of_current_tasks_is_the_one_that_asyncio_reads() -> None:
    if _compat.current_tasks is None:
        assert sys.version_info >= (3, 14)
        return
    loop = pyloop.new_event_loop()
    try:
        marker = object()
        _compat.current_tasks[loop] = marker
        assert asyncio.current_task(loop) is marker
        del _compat.current_tasks[loop]
        assert asyncio.current_task(loop) is None
    finally:
        loop.close()


def test_the_register_that_shows_our_tasks_is_the_one_of_third_party_tasks() -> None:
    marker = type("Marker", (), {})()
    _compat.register_task(marker)
    assert marker in _compat.find_third_party_tasks()
    _compat.unregister_task(marker)
    assert marker not in _compat.find_third_party_tasks()
    if sys.version_info < (3, 14):
        assert _compat.find_third_party_tasks() is vars(asyncio.tasks)["_scheduled_tasks"]


def test_looking_for_the_register_adds_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    added = list[object]()
    register, known = _compat.register_task, _compat.find_third_party_tasks()

    def watched(task: object) -> None:
        try:
            register(task)
        finally:
            added.extend(member for member in set(known) if member is task)

    monkeypatch.setattr(_compat, "register_task", watched)
    assert _compat.find_third_party_tasks() is known
    assert not added


def test_what_is_taken_over_of_asyncios_loop_is_a_function() -> None:
    for name, value in vars(_compat.AsyncioTransports).items():
        if not name.startswith("__"):
            assert callable(value), name


@pytest.mark.parametrize(
    "name", ["_stop_serving", "create_unix_server", "_accept_connection", "_start_serving"]
)
def test_what_serves_runs_asyncios_own_code(name: str) -> None:
    stock = getattr(asyncio.SelectorEventLoop, name)
    assert getattr(pyloop.EventLoop, name).__code__ is stock.__code__
