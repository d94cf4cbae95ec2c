"""How long a test, and a program that a test starts, may take.

PYLOOP_TEST_PATIENCE=10 makes it ten times as long where everything is slow: `make sanitize` does.
"""

from __future__ import annotations

import os
from typing import overload

_FACTOR = float(os.environ.get("PYLOOP_TEST_PATIENCE", "1"))


@overload
def patient(seconds: float) -> float: ...
@overload
def patient(seconds: float | None) -> float | None: ...
def patient(seconds: float | None) -> float | None:
    """A time limit that is there for what hangs; None is none."""
    return None if seconds is None else seconds * _FACTOR


# A test that waits for ever is stopped from outside, first politely, then with every thread's traceback.
PATIENCE = patient(10.0)
