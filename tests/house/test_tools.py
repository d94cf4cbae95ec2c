"""The commands: make's targets, the pinned tools, skips with a reason, the search for Pythons."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import check as bench_check
from pytest_skips import is_allowed, read_allowed
from support.source import ROOT, check


def test_the_two_commands_of_the_readme_are_on_its_first_screen_and_in_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    first_screen = "\n".join(readme.splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    targets = {
        name
        for line in re.findall(r"^([a-z][\w \-]*):(?!=)", makefile, re.MULTILINE)
        for name in line.split()
    }
    named_in_docs = set[tuple[str, str]]()
    for name in ("README.md", "CONTRIBUTING.md"):
        named_in_docs |= set(
            re.findall(r"^\s*make ([a-z-]+)|`make ([a-z-]+)", (ROOT / name).read_text(), re.M)
        )
    wanted = {a or b for a, b in named_in_docs}
    assert wanted >= {"demo", "test"}
    check(sorted(wanted - targets), "A document names a make target that the Makefile has not:")


def test_every_tool_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups, ours = project["dependency-groups"], set(project["tool"]["uv"]["sources"])
    pinned = {
        line.split("==")[0].lower()
        for file in (ROOT / "scripts" / "requirements").glob("*.txt")
        for line in file.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    asked = {re.split(r"[^\w-]", want)[0].lower() for group in groups.values() for want in group}
    check(sorted(asked - pinned - ours), "In pyproject.toml but not pinned in scripts/requirements/:")


def test_every_allowed_skip_has_a_reason() -> None:
    pairs = read_allowed()
    assert all(len(reason) > 10 for _, reason in pairs)
    names = [pattern for pattern, _ in pairs]
    assert len(set(names)) == len(names)


def test_what_sanitizers_do_not_run_is_there() -> None:
    source = (ROOT / "scripts" / "sanitize" / "__main__.py").read_text()
    named = re.findall(r'"--(?:ignore|deselect)=([^":]+)(?:::(\w+))?"', source)
    assert len(named) == len(re.findall("--(?:ignore|deselect)", source)) > 10
    gone = [
        f"{path} {test}"
        for path, test in named
        if not (ROOT / path).exists() or (test and f"def {test}(" not in (ROOT / path).read_text())
    ]
    check(gone, "`make sanitize` leaves out a test that there is not:")


def test_find_python_says_what_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("awk", "sed", "sort", "cut", "grep", "head", "tr", "dirname", "sh"):
        for folder in ("/usr/bin", "/bin"):
            if (Path(folder) / tool).exists() and not (tools / tool).exists():
                (tools / tool).symlink_to(Path(folder) / tool)
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tools / "python3").chmod(0o755)
    env = {"PATH": str(tools), "HOME": str(tmp_path), "PYTHON": str(tools / "python3")}
    ran = subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "find_python.sh"], env=env, capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert ran.stdout == ""
    for word in ("cargo", "rustup.rs", "C compiler", "usable Python"):
        assert word in ran.stderr


def test_find_python_finds_the_one_that_runs_this() -> None:
    env = os.environ | {"PYTHON": sys.executable}
    ran = subprocess.run(
        ["sh", ROOT / "scripts" / "find_python.sh"], env=env, capture_output=True, text=True, check=True
    )
    version, path = ran.stdout.rstrip("\n").split("\t")
    assert version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert os.path.realpath(path) == os.path.realpath(sys._base_executable)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("3.11", "3.11: is older than 3.12, the oldest that pyloop knows"),
        ("python3.9", "python3.9: is older than 3.12, the oldest that pyloop knows"),
        ("3.99", "3.99: is newer than 3.15, the newest that pyloop knows"),
        ("no-such-python", "no-such-python: does not run"),
    ],
)
def test_find_python_says_why_one_will_not_do(asked: str, why: str) -> None:
    env = os.environ | {"PYTHON": asked}
    ran = subprocess.run(
        ["sh", ROOT / "scripts" / "find_python.sh", "--first"], env=env, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"\n    {why}\n" in ran.stderr


def test_a_skip_is_allowed_by_a_pattern_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "allowed.txt"
    file.write_text("# comment\ntests/test_a.py::test_x[*]  only where there is IPv6\n")
    pairs = read_allowed(file)
    assert is_allowed("tests/test_a.py::test_x[asyncio]", pairs)
    assert not is_allowed("tests/test_a.py::test_y[asyncio]", pairs)
    file.write_text("tests/test_a.py::test_x\n")
    with pytest.raises(ValueError, match="reason"):
        read_allowed(file)


@pytest.mark.parametrize(
    "body", ["pytest.skip('no')", "pytest.xfail('no')", "pytest.importorskip('no_such')"]
)
def test_a_skip_without_a_reason_in_the_list_fails_the_run(tmp_path: Path, body: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(f"import pytest\n\ndef test_it():\n    {body}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_skips", "-p", "no:cacheprovider", "test_it.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 unlisted skips" in ran.stdout


def test_make_needs_nothing_but_a_python() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "scripts" / "house"), "no-such-target"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (2, "")
    assert "unknown target 'no-such-target'" in ran.stdout


def test_what_takes_more_instructions_than_its_baseline_is_slower() -> None:
    known = {
        name: {"own": 1000.0, "all": 2000.0} for name in ("as before", "slower", "slower by Python", "faster")
    }
    found = {
        "as before": {"own": 1030.0, "all": 2120.0},
        "slower": {"own": 1031.0, "all": 2000.0},
        "slower by Python": {"own": 1000.0, "all": 2121.0},
        "faster": {"own": 969.0, "all": 2000.0},
        "unknown": {"own": 1.0, "all": 2.0},
    }
    lines, slower = bench_check.verdict(found, known, ["own", "all"])
    assert slower == ["slower", "slower by Python"]
    assert [line.split()[-1] for line in lines[1:7]] == [
        "+3.0%",
        "+6.0%",
        "SLOWER",
        "+0.0%",
        "+0.0%",
        "SLOWER",
    ]
    assert "faster: make bench-check ARGS=--update" in lines[7]
    assert lines[9].split() == ["unknown,", "own", "1.0", "new"]
    assert bench_check.verdict(found, known, ["own"])[1] == ["slower"]
