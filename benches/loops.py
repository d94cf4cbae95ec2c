"""The event loops that are compared, by name. A loop is imported only in the process that runs it."""

import asyncio
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

LOOPS = ("asyncio", "uvloop", "rloop", "pyloop")
# Beside which the network is compared: loops and transports that are about nothing else.
NET_LOOPS = ("uvloop", "pyloop", "blazio", "aiofastnet", "rloop", "asyncio")


def new_event_loop(name: str) -> asyncio.AbstractEventLoop:
    """A fresh loop of the module `name`; ImportError if it is not installed."""
    if name not in {*LOOPS, *NET_LOOPS}:
        raise ValueError(f"no loop called {name!r}, known are: {', '.join({*LOOPS, *NET_LOOPS})}")
    module = importlib.import_module(name)
    if name == "aiofastnet":  # its transports on the loop that suits them best
        loop = module.loop_factory(importlib.import_module("uvloop").new_event_loop)()
    else:
        loop = module.new_event_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    return loop


def version(name: str) -> str:
    """What is measured, for the head of a report: "uvloop 0.23.0". ImportError if it is not installed."""
    if name == "asyncio":
        return f"asyncio of {sys.implementation.name} {sys.version.split()[0]}"
    importlib.import_module(name)
    try:
        return f"{name} {metadata.version('pyloop-rs' if name == 'pyloop' else name)}"
    except metadata.PackageNotFoundError:
        return name


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
