"""The tests in Rust: cargo's, and loom's of what threads share."""

from __future__ import annotations

import os
import sys

from house.counts import count_cargo, judge_ignored
from house.pythons import Python, libpython
from house.settings import LOCKED, ROOT
from house.steps import Run


def rust_test(run: Run, py: Python, args: list[str]) -> None:
    env = rust_env(py)
    which = ["--features", "pyo3-async-runtimes"] if "RUSTFLAGS" not in env else ["--lib"]
    command = ["cargo", "test", "--workspace", *LOCKED, *which, *args]
    run.step("cargo test", command, env, count_cargo, judge_ignored)
    if not args and "RUSTFLAGS" not in env:
        theirs = [sys.executable, "scripts/their_examples.py"]
        run.step("pyo3-async-runtimes' examples", theirs, env, count_cargo, judge_ignored)
    if not args:
        # Every interleaving of the parts that threads share.
        loom = ["cargo", "test", "--release", *LOCKED, "--manifest-path", "tests/loom/Cargo.toml"]
        env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "target" / "loom")}
        run.step("loom", loom, env, count_cargo, judge_ignored)


def rust_env(py: Python) -> dict[str, str]:
    """For clippy and the unit tests. The tests link libpython."""
    if libdir := libpython(py):
        name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        return {"PYO3_PYTHON": py.path, name: os.pathsep.join(filter(None, [libdir, os.environ.get(name)]))}
    # The tests are of the parts that know no Python, so its symbols may stay open: only a call looks one up.
    print(f"{py.path} has no libpython to link: a Rust test that needs Python will fail", flush=True)
    if sys.platform == "darwin":
        flags = "-Clink-arg=-undefined -Clink-arg=dynamic_lookup"
    else:
        flags = "-Crelro-level=partial -Clink-arg=-Wl,--unresolved-symbols=ignore-all -Clink-arg=-Wl,-z,lazy"
    return {
        "PYO3_PYTHON": py.path,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "RUSTFLAGS": flags,
        "RUSTDOCFLAGS": flags,
        "CARGO_TARGET_DIR": str(ROOT / "target" / "no-libpython"),
    }
