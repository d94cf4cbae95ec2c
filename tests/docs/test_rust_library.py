"""The library of docs/extensions.md, built from the page alone as a reader would, and its program on top.

Also the folder to copy, examples/extension, and its own tests.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.library import ROOT, built
from support.process import environment

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
    (crate / "src").mkdir()
    (crate / "src" / "lib.rs").write_text(block("<!-- from tests/rust/guide.rs: library -->", "rust"))
    return built(crate, "mylib")


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


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of examples/extension, built."""
    crate = tmp_path_factory.mktemp("example") / "myredis"
    but = shutil.ignore_patterns("target", "Cargo.lock")
    shutil.copytree(ROOT / "examples" / "extension", crate, ignore=but)
    manifest = crate / "Cargo.toml"
    text = manifest.read_text()
    assert text.count('path = "../.."') == 1
    manifest.write_text(text.replace('path = "../.."', f'path = "{ROOT}"'))
    return built(crate, "myredis")


def test_the_folder_to_copy_passes_its_own_tests(example: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=example,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=9,
        env=environment(PYTHONPATH=str(example)),
    )
    assert ran.returncode == 0 and "15 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_folder_to_copy_is_short(example: Path) -> None:
    assert len((example / "src" / "lib.rs").read_text().splitlines()) < 150
