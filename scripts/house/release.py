"""Everything of a release but the upload: what is asked of the source, the packages, each of them tried."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from house.pythons import Python
from house.rust import rust_env
from house.settings import ROOT
from house.steps import Result, Run

DIST = ROOT / "dist"
# The crates that are for others, in the order of their upload.
CRATES = ("pyloop-macros", "pyloop")
# What `import pyloop` may cost after `import asyncio`, in seconds of processor time (the least of so many
# processes). Where a machine is slow, or others compute: a sixth of what asyncio takes.
IMPORT_COST, IMPORTS, IMPORT_SHARE = 0.010, 20, 1 / 6
IMPORT = """
from time import process_time as clock
times = [clock()]
import asyncio
times.append(clock())
import pyloop
times.append(clock())
print(times[1] - times[0], times[2] - times[1])
"""


def release(run: Run, found: list[Python]) -> int:
    """Fills dist/ and says what is there. What RELEASING.md asks of the source is a step, too."""
    version = version_of(ROOT)
    run.results += [Result(name, ok=not why, note=why) for name, why in asked_of(ROOT, version)]
    shutil.rmtree(DIST, ignore_errors=True)
    first = found[0]
    ready = [py.prepare(run, ["build"]) for py in found]
    if not all(ready):
        return run.summary()
    packages = [word for crate in CRATES for word in ("-p", crate)]
    run.step("crates", ["cargo", "publish", "--dry-run", "--locked", *packages], {"PYO3_PYTHON": first.path})
    doc = rust_env(first)
    doc["RUSTDOCFLAGS"] = f"{doc.get('RUSTDOCFLAGS', '')} -D warnings".strip()
    run.step("cargo doc", ["cargo", "doc", "--locked", "--no-deps", *packages], doc)
    if run.step("wheels", wheels_command(first, found), first.env(), minutes=60):
        for py in found:
            _try_wheel(run, py, version)
        _try_source(run, first, version)
    code = run.summary()
    if not code:
        print(f"\n{said(version)}", flush=True)
    return code


def version_of(root: Path) -> str:
    version: str = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    return version


def asked_of(root: Path, version: str) -> Iterator[tuple[str, str]]:
    """What a release asks of the source: (what, why it is not so or nothing)."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    crate = tomllib.loads((root / "Cargo.toml").read_text())["package"]
    changelog = (root / "CHANGELOG.md").read_text()
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changelog, re.M)
    command = ["git", "-C", str(root), "status", "--porcelain"]
    changed = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    yield "git", f"{len(changed)} files are not committed" if changed else ""
    yield "changelog", "" if dated else f"CHANGELOG.md has no line `## [{version}] - <date>`"
    yield "urls", "" if "urls" in project else "pyproject.toml has no [project.urls]: where is the project?"
    yield "repository", "" if "repository" in crate else "Cargo.toml has no `repository` in [package]"


def wheels_command(first: Python, found: list[Python]) -> list[str]:
    """A source distribution, and from its content a wheel for each Python."""
    words = [str(first.venv / "bin" / "maturin"), "build", "--release", "--locked", "--sdist"]
    words += ["--out", str(DIST), "--target-dir", str(ROOT / "target" / "release-wheels")]
    return [*words, "-i", *(str(py.exe) for py in found)]


def _try_wheel(run: Run, py: Python, version: str) -> None:
    tag = f"cp3{py.version.split('.')[1]}"
    made = [path for path in DIST.glob("*.whl") if f"-{tag}-" in path.name]
    if len(made) != 1:
        run.missed([f"{py.version} wheel"], f"{len(made)} wheels for it in {DIST.name}/")
        return
    _try(run, py, f"{py.version} wheel", ["--no-index", str(made[0])], version)


def _try_source(run: Run, py: Python, version: str) -> None:
    """With pip and cargo alone, as where there is no wheel."""
    _try(run, py, "source", [str(path) for path in DIST.glob("*.tar.gz")], version)


def _try(run: Run, py: Python, name: str, what: list[str], version: str) -> None:
    """Installs a package where nothing else is, and runs a program on it."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        if not run.step(f"{name}: empty", [py.path, "-m", "venv", folder], log=False):
            return
        if not run.step(f"{name}: install", [python, "-m", "pip", "install", "-q", *what]):
            return
        run.step(f"{name}: run", [python, "-W", "error", ROOT / "examples" / "quickstart.py"])
        _try_import(run, name, python, folder)
        told = subprocess.run([python, "-m", "pyloop", "-V"], capture_output=True, text=True, cwd=folder)
        if told.stdout.split(",")[0] != f"pyloop {version}":
            run.missed([f"{name}: version"], f"is {told.stdout.strip() or told.stderr[-200:]!r}")


def _try_import(run: Run, name: str, python: Path, folder: str) -> None:
    """A program that uses asyncio must not wait for pyloop before it begins."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    own, ours = [], []
    for _ in range(IMPORTS):
        ran = subprocess.run(
            [python, "-c", IMPORT], capture_output=True, text=True, cwd=folder, env=environment
        )
        took = [float(word) for word in ran.stdout.split()] if not ran.returncode else [math.inf] * 2
        own.append(took[0])
        ours.append(took[1])
    note = f"{min(ours) * 1e3:.1f} ms after asyncio's {min(own) * 1e3:.1f}"
    most = max(IMPORT_COST, min(own) * IMPORT_SHARE)
    run.results.append(Result(f"{name}: import", ok=min(ours) <= most < math.inf, note=note))


def said(version: str) -> str:
    """What there is now, and what is left to a person."""
    lines = [f"Of {version} there are in {DIST.name}/:"]
    for path in sorted(DIST.iterdir()):
        data = path.read_bytes()
        lines.append(f"  {len(data) / 2**20:6.1f} MiB  {hashlib.sha256(data).hexdigest()}  {path.name}")
    lines += ["Nothing has been uploaded. RELEASING.md has the rest:"]
    lines += [f"  git tag -s v{version} && git push origin v{version}"]
    lines += [f"  cargo publish --locked -p {crate}" for crate in CRATES]
    return "\n".join(lines)
