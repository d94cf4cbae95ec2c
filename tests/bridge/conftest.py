"""What the tests of the bridge share: the tests' extension module, and what it must leave behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.extension import all_dropped, start_extension


@pytest.fixture(scope="module")
def background() -> None:
    """The extension module's background runtime runs: its threads are nobody's who comes later."""
    start_extension()


@pytest.fixture
def nothing_left(background: None) -> Iterator[None]:
    """Each of the extension's futures is dropped by the end."""
    with all_dropped():
        yield
