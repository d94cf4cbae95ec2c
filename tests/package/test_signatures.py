"""What takes asyncio's arguments takes them here: names, kinds and defaults, as this Python has them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any, cast

import pytest

from support.rust import pyloop

UNKNOWN = "<unrepresentable>"
BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

# Class and what it stands for. asyncio's own Unix loop has all that a loop of this system has to have.
PAIRS: dict[str, Callable[[], tuple[type, type]]] = {
    "EventLoop": lambda: (pyloop.EventLoop, asyncio.SelectorEventLoop),
    "Future": lambda: (pyloop.Future, asyncio.Future),
    "Task": lambda: (pyloop.Task, asyncio.Task),
    "Handle": lambda: (pyloop._native.Handle, asyncio.Handle),
    "ThreadSafeHandle": lambda: (pyloop._native.ThreadSafeHandle, asyncio.Handle),
    "TimerHandle": lambda: (pyloop._native.TimerHandle, asyncio.TimerHandle),
}


def public_methods(theirs: type) -> dict[str, inspect.Signature]:
    found: dict[str, inspect.Signature] = {}
    for name in dir(theirs):
        method = getattr(theirs, name)
        if not name.startswith("_") and callable(method):
            found[name] = signature(method)
    return found


def signature(method: Callable[..., Any]) -> inspect.Signature:
    """Of a method of a class, without `self`."""
    whole = inspect.signature(in_python(method))
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def in_python(method: Callable[..., Any]) -> Callable[..., Any]:
    """A C method with a default that it cannot write down is no signature to `inspect`: written out by us."""
    text = getattr(method, "__text_signature__", None) or ""
    if UNKNOWN not in text:
        return method
    made: dict[str, Any] = {}
    exec(f"def method{text.replace('$', '').replace(UNKNOWN, repr(UNKNOWN))}: ...", made)
    return cast("Callable[..., Any]", made["method"])


def refusals(ours: inspect.Signature, theirs: inspect.Signature) -> list[str]:
    """What of `theirs` a call cannot be given here, in words."""
    mine = list(ours.parameters.values())
    found: list[str] = []
    any_keyword = any(p.kind is Parameter.VAR_KEYWORD for p in mine)
    for place, wanted in enumerate(theirs.parameters.values()):
        if wanted.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            if not any(p.kind is wanted.kind for p in mine):
                found.append(f"{wanted} is missing")
            continue
        if wanted.kind in BY_PLACE and not (place < len(mine) and mine[place].kind in BY_PLACE):
            found.append(f"{wanted.name!r} cannot be given by place")
        if wanted.kind in BY_NAME:
            named = ours.parameters.get(wanted.name)
            if named is None and not any_keyword:
                found.append(f"{wanted.name!r} cannot be given by name")
            elif named is not None and named.kind not in BY_NAME:
                found.append(f"{wanted.name!r} is by place only")
        here = ours.parameters.get(wanted.name) or (mine[place] if place < len(mine) else None)
        if wanted.default is not Parameter.empty and here is not None and not same_default(here, wanted):
            found.append(f"{wanted.name!r} is {here.default!r} by default, not {wanted.default!r}")
    names = theirs.parameters.keys()
    for extra in mine[len(names) :]:
        needed = extra.default is Parameter.empty and extra.kind in (*BY_PLACE, Parameter.KEYWORD_ONLY)
        if needed and extra.name not in names:
            found.append(f"{extra.name!r} must be given")
    return found


def same_default(here: Parameter, wanted: Parameter) -> bool:
    if wanted.default == UNKNOWN:
        return here.default is not Parameter.empty
    return bool(here.default == wanted.default)


@pytest.mark.parametrize("name", list(PAIRS))
def test_every_public_method_takes_the_arguments_that_asyncios_takes(name: str) -> None:
    ours, theirs = PAIRS[name]()
    methods = public_methods(theirs)
    assert len(methods) >= 3
    wrong: dict[str, list[str]] = {}
    for method, wanted in methods.items():
        refused = refusals(signature(getattr(ours, method)), wanted)
        if refused:
            wrong[method] = refused
    assert wrong == {}


def test_what_refuses_an_argument_is_found() -> None:
    def theirs(a: int, b: int = 1, *args: int, key: int = 2, **kwargs: int) -> None: ...

    def same(a: int, b: int = 1, *args: int, key: int = 2, more: int = 3, **kwargs: int) -> None: ...

    def worse(a: int, /, c: int = 2, *, needed: int) -> None: ...

    def seen(of: Any) -> list[str]:
        return refusals(inspect.signature(of), inspect.signature(theirs))

    assert seen(same) == []
    assert seen(worse) == [
        "'a' is by place only",
        "'b' cannot be given by name",
        "'b' is 2 by default, not 1",
        "*args: 'int' is missing",
        "'key' cannot be given by name",
        "**kwargs: 'int' is missing",
    ]
