"""CPython's test mixins over the classes of the loop that is tested, like its C and Python variants.

Each module builds its test classes from those of CPython's module with other attributes. They are built by
calls and not written as class statements because what they derive from depends on the Python that runs them.
"""

from __future__ import annotations

import sys
import unittest
from typing import Any


def variant(name: str, *bases: Any, **attributes: Any) -> type[unittest.TestCase]:
    """A test class of the calling module: ``bases`` with ``attributes`` in the place of theirs."""
    namespace = {"__module__": sys._getframe(1).f_globals["__name__"], "__qualname__": name, **attributes}
    made: type[unittest.TestCase] = type(name, bases, namespace)
    return made


def taken(base: Any, *names: str) -> dict[str, Any]:
    """Those of ``names`` that ``base`` has, as its namespace holds them (``staticmethod`` and all)."""
    return {name: vars(base)[name] for name in names if name in vars(base)}
