"""The event loops that are compared, by name. A loop is imported only in the process that runs it."""

import asyncio
import importlib
import sys
from collections.abc import Sequence

LOOPS = ("asyncio", "uvloop", "rloop", "pyloop")


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A fresh loop of the module `name`; ImportError if it is not installed."""
    if name not in LOOPS:
        raise ValueError(f"no loop called {name!r}, known are: {', '.join(LOOPS)}")
    loop = importlib.import_module(name).new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    return loop


def version(name: str) -> str:
    """What is measured, for the head of a report: "uvloop 0.23.0". ImportError if it is not installed."""
    if name == "asyncio":
        return f"asyncio of {sys.implementation.name} {sys.version.split()[0]}"
    module = importlib.import_module(name)
    found = getattr(module, "__version__", "") or getattr(
        getattr(module, "_version", None), "__version__", ""
    )
    return f"{name} {found}".strip()


def installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The loops that can be imported, and a word about each that cannot (or what version it is)."""
    found, words = [], []
    for name in names:
        try:
            words.append(version(name))
            found.append(name)
        except ImportError as error:
            words.append(f"{name} is left out: {error}")
    return found, words
