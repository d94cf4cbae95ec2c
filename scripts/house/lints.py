"""The lints: of Rust (rustfmt, clippy, rustdoc) and of Python (ruff, mypy, stubtest)."""

from __future__ import annotations

from house.pythons import Python
from house.rust import rust_env
from house.settings import CI, EXTENSION, EXTENSION_TARGET, LOCKED, ROOT
from house.steps import Run


def rust_lint(run: Run, py: Python) -> None:
    run.step("cargo fmt", ["cargo", "fmt", "--all", "--check"])
    example = ["--manifest-path", "examples/rust_main/Cargo.toml"]
    run.step("cargo fmt example", ["cargo", "fmt", *example, "--check"])
    env, deny = rust_env(py), ["--", "-D", "warnings"]
    every = ["--workspace", *LOCKED, "--features", "pyo3-async-runtimes"]
    run.step("cargo clippy", ["cargo", "clippy", *every, "--all-targets", *deny], env)
    example += ["--target-dir", env.get("CARGO_TARGET_DIR", "target"), *LOCKED]
    run.step("cargo clippy example", ["cargo", "clippy", *example, *deny], env)
    env["RUSTDOCFLAGS"] = f"{env.get('RUSTDOCFLAGS', '')} -D warnings".strip()
    run.step("cargo doc", ["cargo", "doc", *every, "--no-deps"], env)
    # A crate of its own, built as `build_extension` does: what clippy need not check is built once.
    extension = ["--manifest-path", str(EXTENSION / "Cargo.toml")]
    run.step("cargo fmt extension", ["cargo", "fmt", *extension, "--check"])
    clippy = ["cargo", "clippy", "--release", *LOCKED, *extension, "--target-dir", str(EXTENSION_TARGET)]
    run.step("cargo clippy extension", [*clippy, "--", "-D", "warnings"], {"PYO3_PYTHON": py.path})
    load = ["--manifest-path", "benches/net/load/Cargo.toml"]
    run.step("cargo fmt load", ["cargo", "fmt", *load, "--check"])
    clippy = ["cargo", "clippy", *LOCKED, *load, "--target-dir", str(ROOT / "target" / "net-load")]
    # The TLS library takes four times as long as all the rest; who builds the program sees what is left out.
    run.step("cargo clippy load", [*clippy, *(["--no-default-features"] if CI else []), *deny])


def python_lint(run: Run, py: Python) -> None:
    """ruff and mypy on the source, stubtest on what is installed."""
    run.step("ruff check", [py.exe, "-m", "ruff", "check"])
    run.step("ruff format", [py.exe, "-m", "ruff", "format", "--check", "--diff"])
    run.step("mypy", [py.exe, "-m", "mypy"], py.env())
    allowlist = ROOT / "scripts" / "stubtest_allowlist.txt"
    stubtest = [py.exe, "-m", "mypy.stubtest", "pyloop", "--allowlist", allowlist]
    stubtest += ["--mypy-config-file", ROOT / "pyproject.toml"]
    run.step("stubtest", stubtest, py.env())
