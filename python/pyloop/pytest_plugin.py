"""Runs a test suite on pyloop. In pyproject.toml, or on the command line:

    [tool.pytest.ini_options]
    addopts = "-p pyloop.pytest_plugin"

Every loop that is made without naming another is pyloop's then: those of pytest-asyncio, pytest-aiohttp and
anyio's plugin, of `unittest.IsolatedAsyncioTestCase`, and of `asyncio.run` in a test.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections.abc import Callable

import pytest

from pyloop import (
    _compat,
    _whole,  # noqa: F401
)
from pyloop._command import use_pyloop
from pyloop._loop import new_event_loop
from pyloop._native import __version__


def pytest_configure(config: pytest.Config) -> None:
    """Make the loops pyloop's, until pytest ends."""
    if sys.version_info < (3, 16):
        config.add_cleanup(lambda: _compat.set_policy(None))
    else:
        made = asyncio.new_event_loop

        def put_back() -> None:
            asyncio.new_event_loop = events.new_event_loop = made

        config.add_cleanup(put_back)
    use_pyloop()


def pytest_report_header() -> str:
    """Say so in the first lines of the run."""
    return f"pyloop: {__version__}, every event loop that asyncio makes"


@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio's own question (since 1.4). A suite that answers it itself is not overruled."""
    return {"pyloop": new_event_loop}
