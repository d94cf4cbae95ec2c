"""What each file of the project must be and must not have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from support.source import ROOT, SRC, check, named, rust_files, tracked

MOST_LINES = 600


def test_a_file_says_first_what_it_is() -> None:
    broken = [named(path) for path in rust_files() if not path.read_text().startswith("//!")]
    check(broken, "A .rs file opens with //!: what it owns, on which thread, what it must never do:")


def test_no_file_is_longer_than_600_lines() -> None:
    broken = []
    for path in tracked():
        if path.suffix in (".rs", ".py", ".sh", ".h"):
            lines = len(path.read_text().splitlines())
            if lines > MOST_LINES:
                broken.append(f"{named(path)}: {lines} lines")
    check(broken, f"A file is one role, {MOST_LINES} lines at most:")


def test_each_test_is_in_the_folder_of_its_noun() -> None:
    broken = [named(path) for path in tracked() if path.parent == ROOT / "tests" and path.suffix == ".py"]
    broken.remove("tests/conftest.py")
    check(broken, "Tests are in folders by what they are about (CONTRIBUTING.md):")


def test_a_rust_program_brings_every_module_of_the_package_along() -> None:
    package = ROOT / "python" / "pyloop"
    files = {path.relative_to(package.parent) for path in package.rglob("*.py")}
    embedded = (SRC / "embed.rs").read_text()
    listed = dict(re.findall(r'\("([\w.]+)", include_str!\("\.\./python/([\w/]+\.py)"\)\)', embedded))
    broken = [f"{path} is not in MODULES" for path in map(str, sorted(files)) if path not in listed.values()]
    for name, path in listed.items():
        parts = Path(path).with_suffix("").parts
        if name != ".".join(parts[:-1] if parts[-1] == "__init__" else parts):
            broken.append(f"{path} is called {name} there")
    check(broken, "src/embed.rs lists the Python modules that a program with a Rust main has:")


def test_no_path_of_a_machine_is_in_the_files() -> None:
    places = re.compile(rb"(?<![\w.~*}-])/(?:work|root|tmp|home/\w+)/")
    broken = []
    for path in tracked():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            for found in places.findall(line):
                if found == b"/tmp/" and path.is_relative_to(ROOT / "tests"):
                    continue
                if path != Path(__file__):
                    broken.append(f"{named(path, number)}: {found.decode()}")
    check(broken, "A path that only one machine has:")


@pytest.mark.parametrize("name", ["LICENSE-MIT", "LICENSE-APACHE"])
def test_both_licences_are_there(name: str) -> None:
    assert len((ROOT / name).read_text()) > 1000
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    assert project["license"] == cargo["license"] == "MIT OR Apache-2.0"
    assert name in project["license-files"]
