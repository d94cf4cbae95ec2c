"""Every example runs to its end and says nothing on its standard error. Each checks its own results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.process import environment

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs(example: Path, tmp_path: Path, pyloop: ModuleType) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", example],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=9,
        cwd=tmp_path,
        env=environment(),
    )
    assert ran.returncode == 0 and not ran.stderr, f"{ran.stdout}{ran.stderr}"
