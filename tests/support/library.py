"""Building an extension module as a reader of the documents does: by cargo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.process import environment

ROOT = Path(__file__).resolve().parents[2]


def built(crate: Path, name: str) -> Path:
    """Build the crate in that folder; the folder, from which the module can then be imported."""
    shutil.copy(ROOT / "Cargo.lock", crate)
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
    shutil.copy(target / "debug" / f"lib{name}.{ending}", crate / f"{name}.so")
    return crate
