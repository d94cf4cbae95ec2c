"""PostgreSQL and Redis for tests, each in a folder and on a Unix socket of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def find(name: str) -> str:
    """The program, on PATH or where Debian has PostgreSQL's. Without it a test is skipped; in CI it fails."""
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    found = next((str(place) for place in places if place), None)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is missing: .ci/run installs it", pytrace=False)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def unprivileged() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}


def run(user: dict[str, Any], *words: object) -> None:
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd="/", **user)
    assert ran.returncode == 0, f"{words}\n{ran.stdout}{ran.stderr}"


@contextmanager
def folder() -> Iterator[Path]:
    # Not pytest's: a socket's path is short, and another user has to get there.
    with tempfile.TemporaryDirectory(prefix="pyloop-") as made:
        path = Path(made)
        if os.geteuid() == 0:
            shutil.chown(path, "nobody", "nogroup")
        yield path


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL, by its connection string."""
    initdb, pg_ctl = find("initdb"), find("pg_ctl")
    user = unprivileged()
    with folder() as path:
        data = path / "data"
        run(user, initdb, "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        options = f"-k {path} -c listen_addresses='' -F"
        run(user, pg_ctl, "start", "-w", "-D", data, "-l", path / "log", "-o", options)
        try:
            yield f"host={path} user=tester dbname=postgres"
        finally:
            run(user, pg_ctl, "stop", "-m", "immediate", "-D", data)


@contextmanager
def redis() -> Iterator[str]:
    """A Redis, by its URL."""
    server = find("redis-server")
    with folder() as path:
        words = [
            server,
            "--port",
            "0",
            "--unixsocket",
            str(path / "socket"),
            "--save",
            "",
            "--dir",
            str(path),
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                said = list[str]()
                for line in process.stdout:
                    said.append(line)
                    if "ready to accept connections" in line.lower():
                        break
                else:
                    raise AssertionError("".join(said))
                yield f"redis+unix://{path}/socket"
            finally:
                process.terminate()
                process.communicate()
