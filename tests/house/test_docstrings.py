"""`help(pyloop)` teaches: each public name says what it is, and so does each of its methods."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

import pytest

from support.source import ROOT

MODULES = ("pyloop", "pyloop.sync", "pyloop.fs", "pyloop.window", "pyloop.testing")
# Constants: their classes or their comments say what they are.
PLAIN = {"__version__"}


def undocumented(thing: object, name: str) -> Iterator[str]:
    if not (inspect.getdoc(thing) or "").strip():
        yield name
    # What else a Rust future has is there because coroutines and asyncio's futures have it.
    if inspect.isclass(thing) and name != "RustFuture":
        # The default of a field has no docstring of its own: the field's stands below it.
        fields = getattr(thing, "__dataclass_fields__", {})
        for member, value in vars(thing).items():
            if (
                member not in fields
                and not member.startswith("_")
                and not (inspect.getdoc(value) or "").strip()
            ):
                yield f"{name}.{member}"


@pytest.mark.parametrize("name", MODULES)
def test_each_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert len(inspect.getdoc(module) or "") > 200
    broken = [
        each
        for public in module.__all__
        if public not in PLAIN
        for each in undocumented(getattr(module, public), public)
    ]
    assert not broken


def test_each_method_of_a_loop_has_a_docstring() -> None:
    # The first is an attribute of asyncio's, the second a function of CPython's own.
    known = {"slow_callback_duration", "create_unix_connection"}
    loop = importlib.import_module("pyloop").EventLoop
    ours = [each for each in loop.__mro__ if each.__module__.startswith("pyloop")]
    broken = [each for cls in ours for each in undocumented(cls, cls.__name__)]
    assert [name for name in broken if "." in name and name.split(".")[1] not in known] == []


def test_the_page_of_the_python_api_has_each_name_of_the_package() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text()
    missing = [name for name in importlib.import_module("pyloop").__all__ if f"`{name}" not in page]
    assert missing == ["__version__"]
