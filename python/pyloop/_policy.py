"""The event loop policy, for programs that make their loop through `asyncio.new_event_loop()`.

Policies are deprecated since Python 3.14 and gone in 3.16; `loop_factory` is the way that stays.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from typing import TYPE_CHECKING

from pyloop._loop import EventLoop, new_event_loop

if TYPE_CHECKING or sys.version_info < (3, 16):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from asyncio import DefaultEventLoopPolicy as _Base

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
