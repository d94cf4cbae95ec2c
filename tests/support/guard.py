"""The kit's own guard (`pyloop._leaks`), taken by its file: the oracle's run must not need the package."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from support.source import ROOT

if TYPE_CHECKING:
    from pyloop._leaks import (
        Context,
        Guard,
        descriptors,
        kernel_threads,
        leftovers,
        settled_descriptors,
        settled_kernel_threads,
    )
else:
    _spec = importlib.util.spec_from_file_location("pyloop_leaks", ROOT / "python" / "pyloop" / "_leaks.py")
    _kit = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_kit)
    Context = _kit.Context
    Guard = _kit.Guard
    descriptors = _kit.descriptors
    kernel_threads = _kit.kernel_threads
    leftovers = _kit.leftovers
    settled_descriptors = _kit.settled_descriptors
    settled_kernel_threads = _kit.settled_kernel_threads

__all__ = [
    "Context",
    "Guard",
    "descriptors",
    "kernel_threads",
    "leftovers",
    "settled_descriptors",
    "settled_kernel_threads",
]
