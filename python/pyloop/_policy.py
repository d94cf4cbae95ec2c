"""The event loop policy, for programs that make their loop through `asyncio.new_event_loop()`.

Policies are deprecated since Python 3.14 and gone in 3.16; `loop_factory` is the way that stays.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pyloop import _compat
from pyloop._loop import EventLoop, new_event_loop

if TYPE_CHECKING or sys.version_info < (3, 16):
    if TYPE_CHECKING:
        from asyncio import DefaultEventLoopPolicy as _Base
    else:
        _Base = _compat.default_policy

    class EventLoopPolicy(_Base):
        """A policy whose loops are pyloop's; child watchers and the rest are asyncio's default policy's."""

        def _loop_factory(self) -> EventLoop:
            return new_event_loop()

        def new_event_loop(self) -> EventLoop:
            """A new pyloop event loop."""
            return new_event_loop()


def install() -> None:
    """Make pyloop's policy asyncio's: from now on `asyncio.new_event_loop()` makes pyloop's loops.

    So does `asyncio.run` without a `loop_factory`. Raises RuntimeError where Python has no policies (3.16 and
    later).
    """
    if sys.version_info >= (3, 16):
        raise RuntimeError(
            "this Python has no event loop policies: use asyncio.run(..., loop_factory=pyloop.new_event_loop)"
        )
    _compat.set_policy(EventLoopPolicy())
