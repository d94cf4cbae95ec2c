"""The CPythons of this machine: their virtualenvs, and pyloop built and installed in each."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from house.settings import EXTENSION, EXTENSION_TARGET, LOCKED, REQUIREMENTS, ROOT
from house.steps import Run


@dataclass(frozen=True)
class Python:
    version: str
    path: str

    @property
    def venv(self) -> Path:
        return ROOT / f".venv-{self.version}"

    @property
    def exe(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def target(self) -> Path:
        # A folder for each version: pyo3's build script bakes the version in, and one folder for all would
        # compile pyo3 and pyloop again at every change of Python. Two cost some 20 s, once.
        return ROOT / "target" / f"cpython-{self.version}"

    def env(self, **extra: str) -> dict[str, str]:
        """As in an activated virtualenv; PYO3_PYTHON for what builds Rust (a test does).

        PYLOOP_BASE_PYTHON is what `cargo test` is told: who builds for the same need not build all anew.
        """
        path = f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        pythons = {"PYO3_PYTHON": str(self.exe), "PYLOOP_BASE_PYTHON": self.path}
        return {"VIRTUAL_ENV": str(self.venv), "PATH": path} | pythons | extra

    def prepare(self, run: Run, groups: Iterable[str]) -> bool:
        """The virtualenv with the pinned packages of these groups; quick when nothing has changed."""
        home = subprocess.run(
            [self.path, "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        )
        for group in groups:
            files = [f for f in REQUIREMENTS.glob("*.txt") if f.stem in (group, "build")]
            want = hashlib.sha256(
                b"".join(f.read_bytes() for f in sorted(files)) + self.path.encode() + home.stdout.encode()
            ).hexdigest()
            stamp = self.venv / f".pyloop-{group}"
            if stamp.exists() and stamp.read_text() == want:
                continue
            if not self.exe.exists() or _version_of(self.exe) != home.stdout:
                shutil.rmtree(self.venv, ignore_errors=True)
                if not run.step(
                    f"{self.version} virtualenv", [self.path, "-m", "venv", self.venv], log=False
                ):
                    return False
            pip = [
                self.exe,
                "-m",
                "pip",
                "install",
                "-q",
                # Most of what comes is never imported.
                "--no-compile",
                "--retries",
                "8",
                "-r",
                REQUIREMENTS / f"{group}.txt",
            ]
            if not run.step(f"{self.version} pip {group}", pip, log=False):
                return False
            stamp.write_text(want)
        return True

    def build(self, run: Run) -> bool:
        """A release wheel, installed in the virtualenv: what is tested is what a user gets."""
        return self._wheel(run, "", [], self.target)

    def build_extension(self, run: Run) -> bool:
        """The extension module of a stranger, for the tests."""
        # One folder for all versions: what takes long to compile there knows no Python.
        return self._wheel(run, " extension", ["-m", EXTENSION / "Cargo.toml"], EXTENSION_TARGET)

    def build_one_wheel(self, run: Run) -> list[Path]:
        """The same for every Python: made by the oldest, for all of them."""
        crate = ["-m", EXTENSION / "Cargo.toml", "--features", "abi3"]
        return self._made(run, " one wheel", crate, EXTENSION_TARGET)

    def install_one_wheel(self, run: Run, made: list[Path]) -> bool:
        """Beside the one for this Python, whose name it has; PYLOOP_TEST_EXTENSION has the tests take it."""
        shutil.rmtree(self.one_wheel, ignore_errors=True)
        return self._install(run, " one wheel", ["--target", self.one_wheel, *made])

    @property
    def one_wheel(self) -> Path:
        return self.venv / "one_wheel"

    def _wheel(self, run: Run, what: str, crate: list[object], target: Path) -> bool:
        made = self._made(run, what, crate, target)
        return bool(made) and self._install(run, what, ["--force-reinstall", *made])

    def _made(self, run: Run, what: str, crate: list[object], target: Path) -> list[Path]:
        wheels = self.target / f"wheels{what.replace(' ', '-')}"
        shutil.rmtree(wheels, ignore_errors=True)
        maturin = [self.venv / "bin" / "maturin", "build", *crate, "--release", *LOCKED]
        maturin += ["--auditwheel", "skip", "-i", self.exe, "--target-dir", target, "--out", wheels]
        if not run.step(f"{self.version} build{what}", maturin, self.env(), minutes=20):
            return []
        return list(wheels.glob("*.whl"))

    def _install(self, run: Run, what: str, arguments: list[object]) -> bool:
        pip = [self.exe, "-m", "pip", "install", "-q", "--no-deps", "--no-index", *arguments]
        return bool(run.step(f"{self.version} install{what}", pip, log=False))

    def ready(self, run: Run, *groups: str) -> bool:
        return (
            self.prepare(run, groups)
            and self.build(run)
            and ("test" not in groups or self.build_extension(run))
        )


def _version_of(exe: Path) -> str:
    try:
        return subprocess.run(
            [exe, "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        ).stdout
    except OSError:
        return ""


def pythons() -> list[Python]:
    finder = subprocess.run(
        ["sh", ROOT / "scripts" / "find_python.sh"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    if finder.returncode:
        sys.exit(finder.returncode)
    return [Python(*line.split("\t")) for line in finder.stdout.splitlines()]


_LIBPYTHON = """
import os, sys, sysconfig
folder = sysconfig.get_config_var("LIBDIR") or ""
name = "libpython%d.%d" % sys.version_info[:2]
ends = (".so", ".dylib", ".a")
print(folder if any(os.path.exists(os.path.join(folder, name + end)) for end in ends) else "")
"""


def libpython(py: Python) -> str:
    """The folder with its libpython, which many a Python does not come with: then it is empty."""
    return subprocess.run([py.path, "-c", _LIBPYTHON], capture_output=True, text=True).stdout.strip()
