"""The private names of asyncio that pyloop leans on, pinned: a CPython that changes one fails here first."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from asyncio import base_subprocess
from pathlib import Path

import pytest

import pyloop
from pyloop import _accel, _compat

PACKAGE = Path(pyloop.__file__).parent


def private_names(path: Path) -> set[str]:
    """What a module takes from asyncio's modules under a private name."""
    tree, roots, found = ast.parse(path.read_text()), set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {
                (name.asname or name.name).split(".")[0] for name in node.names if "asyncio" in name.name
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asyncio":
            roots |= {name.asname or name.name for name in node.names}
            found |= {name.name for name in node.names if name.name.startswith("_")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in roots:
                found.add(node.attr)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(path: Path) -> set[str]:
    """The private names that a module uses on any object, or gives to a method."""
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
    return set(filter(is_private, found))


PLACES = ("_compat.py", "_awaits.py")
ELSEWHERE = [path for path in PACKAGE.glob("*.py") if path.name not in PLACES]


def test_private_names_of_asyncio_are_taken_in_two_places_alone() -> None:
    assert {path.name: names for path in ELSEWHERE if (names := private_names(path))} == {}


def test_private_names_of_asyncios_classes_that_ours_have_too_stand_in_compat() -> None:
    stock = asyncio.SelectorEventLoop()
    stock.close()
    classes = [asyncio.BaseEventLoop, base_subprocess.BaseSubprocessTransport]
    theirs = set(filter(is_private, [*vars(stock), *(name for each in classes for name in dir(each))]))
    known = set(re.findall(r"\w+", "".join((PACKAGE / name).read_text() for name in PLACES)))
    strangers = {path.name: names for path in ELSEWHERE if (names := own_names(path) & theirs - known)}
    assert strangers == {}


@pytest.mark.parametrize("owner", _compat.PARTS)
def test_the_parts_that_our_classes_play_are_there(owner: str) -> None:
    stock = asyncio.SelectorEventLoop()
    stock.close()
    modules = base_subprocess, asyncio.unix_events, asyncio.selector_events, asyncio
    classes = {name: known for module in modules for name, known in vars(module).items()}
    if owner in classes:  # 3.16 has no policies
        there = {*dir(classes[owner]), *vars(stock)}
        assert [name for name in _compat.PARTS[owner] if name not in there] == []


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
    assert marker in _accel.find_third_party_tasks()
    _compat.unregister_task(marker)
    assert marker not in _accel.find_third_party_tasks()
    if sys.version_info < (3, 14):
        assert _accel.find_third_party_tasks() is vars(asyncio.tasks)["_scheduled_tasks"]


def test_looking_for_the_register_adds_nothing_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    added = list[object]()
    register, known = _compat.register_task, _accel.find_third_party_tasks()

    def watched(task: object) -> None:
        try:
            register(task)
        finally:
            added.extend(member for member in set(known) if member is task)

    monkeypatch.setattr(_compat, "register_task", watched)
    assert _accel.find_third_party_tasks() is known
    assert not added


def test_what_is_taken_over_of_asyncios_loop_is_a_function() -> None:
    for name, value in vars(_compat.AsyncioTransports).items():
        if not name.startswith("__"):
            assert callable(value), name


@pytest.mark.parametrize("name", ["_stop_serving", "create_unix_server", "_start_serving"])
def test_what_serves_runs_asyncios_own_code(name: str) -> None:
    stock = getattr(asyncio.SelectorEventLoop, name)
    assert getattr(pyloop.EventLoop, name).__code__ is stock.__code__


def test_the_streams_are_asyncios_own_and_have_their_state_where_pyloop_looks() -> None:
    for cls, (methods, attributes) in _compat._STREAMS.items():
        assert not _compat.streams_are_replaced(cls)
        makers = [vars(each).get("__init__") for each in cls.__mro__[:-1]]
        made = [each.__code__.co_names for each in makers if each is not None]
        assert set(attributes) <= set().union(*made)
        assert all(callable(getattr(cls, name)) for name in methods)
