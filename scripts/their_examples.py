"""Compiles and runs pyo3-async-runtimes' own examples against `pyloop::tokio`, word for word.

`python scripts/their_examples.py`, with cargo, and PYO3_PYTHON if `python3` is not the one. The source is
what cargo has fetched for the tests. What it makes is in target/their_examples: a crate of that name whose
modules are pyloop's, whose doc comments are those of the original, and whose examples are its programs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "target" / "their_examples"

MANIFEST = f"""
[package]
name = "pyo3-async-runtimes"
version = "0.30.0"
edition = "2024"

[features]
default = ["unstable-streams", "attributes"]
unstable-streams = []
attributes = []

[dependencies]
pyloop = {{ path = {str(ROOT)!r} }}
pyo3 = "0.30"
tokio = {{ version = "1", features = ["macros", "rt-multi-thread", "sync", "time"] }}
futures = "0.3"
futures-util = "0.3"

[workspace]
"""

NAMES = """
pub use pyloop::{TaskLocals, get_running_loop, into_future_with_locals};
pub mod tokio {
    pub use pyloop::tokio::*;
}
"""


#: Its programs that run on tokio.
PROGRAMS = ("tokio", "tokio_current_thread", "tokio_multi_thread")


def source() -> Path:
    """Where cargo keeps the crate."""
    asked = subprocess.run(
        ["cargo", "metadata", "--format-version=1"], cwd=ROOT, capture_output=True, check=True
    )
    packages = json.loads(asked.stdout)["packages"]
    [found] = [package for package in packages if package["name"] == "pyo3-async-runtimes"]
    return Path(found["manifest_path"]).parent


def examples(text: str) -> Iterator[str]:
    """The code blocks of a file's doc comments, those for other runtimes left out."""
    block: list[str] | None = None
    for line in text.splitlines():
        found = re.match(r"\s*//[/!] ?(.*)", line)
        if not found:
            block = None
        elif not found[1].startswith("```"):
            if block is not None:
                block.append(found[1])
        elif block is None:
            block = [found[1]]
        else:
            body = "\n".join(block)
            if block[0] in ("```", "```rust", "```no_run") and not re.search("async.std|testing", body):
                yield f"{body}\n```"
            block = None


def main() -> int:
    their = source()
    blocks = [
        block for name in ("tokio.rs", "lib.rs") for block in examples((their / "src" / name).read_text())
    ]
    for folder in ("src", "examples"):
        (PLACE / folder).mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        shutil.copy(their / "examples" / f"{name}.rs", PLACE / "examples")
    (PLACE / "Cargo.toml").write_text(MANIFEST)
    shutil.copy(ROOT / "Cargo.lock", PLACE)
    functions = [
        "\n".join(f"/// {line}".rstrip() for line in block.splitlines())
        + f"\npub fn example_{number}() {{}}\n"
        for number, block in enumerate(blocks)
    ]
    (PLACE / "src" / "lib.rs").write_text(NAMES + "\n".join(functions))
    print(f"{len(blocks)} examples in documents, {len(PROGRAMS)} programs", flush=True)
    target = ["--target-dir", os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))]
    commands = [["cargo", "test", "--doc", *target]]
    commands += [["cargo", "run", "-q", *target, "--example", name] for name in PROGRAMS]
    # A signal's code is negative.
    codes = [subprocess.run(command, cwd=PLACE, check=False).returncode for command in commands]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
