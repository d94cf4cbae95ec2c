"""Each program of examples/integrations runs, where its framework is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from support.patience import patient
from support.process import environment

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "integrations"

# What each needs beside pyloop.
NEEDS: dict[str, tuple[str, ...]] = {
    "asyncio_run": (),
    "unittest_case": (),
    "aiohttp_app": ("aiohttp",),
    "anyio_run": ("anyio",),
    "dask_cluster": ("distributed",),
    "daphne_server": ("daphne",),
    "granian_server": ("granian",),
    "gunicorn_worker": ("gunicorn", "uvicorn_worker"),
    "hypercorn_server": ("hypercorn",),
    "jupyter_kernel": ("ipykernel", "jupyter_client"),
    "prompt_toolkit_prompt": ("prompt_toolkit",),
    "pytest_plugin": ("pytest", "pytest_asyncio", "pytest_aiohttp"),
    "textual_app": ("textual",),
    "uvicorn_server": ("uvicorn",),
}
# Theirs, on their own account.
THEIR_WARNINGS = "ignore"


def test_each_example_is_known() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*NEEDS, "asgi"}


@pytest.mark.parametrize("name", NEEDS)
def test_an_integration_runs(name: str, tmp_path: Path) -> None:
    lacks = [module for module in NEEDS[name] if importlib.util.find_spec(module) is None]
    if lacks:
        pytest.skip(f"without {', '.join(lacks)}")
    ran = subprocess.run(
        [sys.executable, "-W", THEIR_WARNINGS, FOLDER / f"{name}.py"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patient(9),
        cwd=tmp_path,
        env=environment(),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("\n") == 1
