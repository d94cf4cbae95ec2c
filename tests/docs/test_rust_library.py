"""The library of docs/extensions.md, built from the page alone as a reader would, and its program on top."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.process import environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "extensions.md"


def block(start: str, language: str) -> str:
    """The first block of that language after `start`."""
    found = re.search(
        rf"{re.escape(start)}.*?^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"no {language} after {start!r}"
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `mylib` can be imported from."""
    crate = tmp_path_factory.mktemp("mylib")
    manifest, path = block("<!-- manifest -->", "toml"), f'pyloop = {{ path = "{ROOT}", '
    assert manifest.count('pyloop = { version = "0.1", ') == 1
    manifest = manifest.replace('pyloop = { version = "0.1", ', path)
    (crate / "Cargo.toml").write_text(f"{manifest}\n[workspace]\n")
    shutil.copy(ROOT / "Cargo.lock", crate)
    (crate / "src").mkdir()
    (crate / "src" / "lib.rs").write_text(block("<!-- from tests/rust/guide.rs: library -->", "rust"))
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "mylib"
    python = os.environ.get("PYLOOP_BASE_PYTHON") or sys._base_executable  # type: ignore[attr-defined]
    env = environment(PYO3_PYTHON=python, PYO3_BUILD_EXTENSION_MODULE="1")
    if sys.platform == "darwin":
        env["RUSTFLAGS"] = "-Clink-arg=-undefined -Clink-arg=dynamic_lookup"  # as maturin has it
    command = ["cargo", "build", "--quiet", "--target-dir", str(target)]
    ran = subprocess.run(
        command, cwd=crate, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr, ran.stderr
    ending = "dylib" if sys.platform == "darwin" else "so"
    shutil.copy(target / "debug" / f"libmylib.{ending}", crate / "mylib.so")
    return crate


@pytest.mark.parametrize("loop", ["", "import pyloop\npyloop.install()\n"], ids=["asyncio", "pyloop"])
def test_the_guides_program_runs_with_the_guides_library(folder: Path, loop: str) -> None:
    program = block("<!-- from tests/rust/guide.rs: library -->", "python")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", loop + program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=9,
        env=environment(PYTHONPATH=str(folder)),
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "nobody there\n", "")


def test_without_the_loop_there_is_no_module_of_pyloops_inside(folder: Path) -> None:
    built = (folder / "mylib.so").read_bytes()
    assert b"PyInit_mylib" in built
    assert b"PyInit__native" not in built
