"""The program in load/: the load generator, and the echo servers without Python."""

import os
import subprocess
import sys
from pathlib import Path

from net.rows import Load

ROOT = Path(__file__).resolve().parent.parent.parent
_TARGET = ROOT / "target" / "net-load"
PROGRAM = _TARGET / "release" / "net-load"
PEM = ROOT / "tests" / "support" / "localhost.pem"  # a key and a certificate for localhost


def ready(build: bool) -> None:
    """Has cargo build it, which is quick when nothing has changed; else it must have been built."""
    if not build:
        if not PROGRAM.exists():
            sys.exit(f"the load generator is not built: there is no {PROGRAM}")
        return
    manifest = ROOT / "benches" / "net" / "load" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--quiet", "--locked", "--manifest-path", str(manifest)]
    try:
        code = subprocess.run([*command, "--target-dir", str(_TARGET)]).returncode
    except FileNotFoundError:
        sys.exit("the load generator cannot be built: there is no cargo (https://rustup.rs)")
    if code:
        sys.exit(f"the load generator cannot be built: cargo ended with {code}")


def drive(load: Load, address: str, seconds: float, pid: int) -> list[str]:
    """The command that puts this load on a server and reports; `pid` is the server's process."""
    numbers = [str(load.connections), str(load.size), str(seconds), str(pid)]
    return [os.fspath(PROGRAM), "drive", load.kind, address, *numbers]


def serve(server: str, folder: Path) -> list[str]:
    """The command of a server without Python."""
    return [os.fspath(PROGRAM), "serve", server, os.fspath(folder), os.fspath(PEM)]
