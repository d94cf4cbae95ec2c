"""The Python in README.md and docs/ is Python, and the Rust is that of a file that is built.

A block that imports something is a whole program and is run by itself, in an interpreter of its own (one that
imports `mylib` by tests/rust/guide.rs, which has it); one that imports nothing is a piece and must at least
compile.
A Rust block is a region of the file that the comment above it names, between `// docs: <name>` and
`// docs: end`. Every link to a file leads to one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from support.patience import patient
from support.process import environment

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY_RUST = re.compile(r"^```rust", re.MULTILINE)
_RUST = re.compile(
    r"^<!-- from (?P<file>\S+): (?P<name>\w+) -->\n```rust\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """(line, code) of each Python block."""
    for found in _BLOCK.finditer(text):
        yield text.count("\n", 0, found.start("code")) + 1, found["code"]


def is_program(code: str) -> bool:
    imported = [node for node in parsed(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    return bool(imported) and "mylib" not in names


def parsed(code: str) -> ast.Module:
    # A piece may await at its top level, as if it stood in a coroutine.
    tree = compile(code, "<block>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    return tree


def found(programs: bool) -> list[object]:
    return [
        pytest.param(page, line, code, id=f"{page.relative_to(ROOT)}:{line}")
        for page in PAGES
        for line, code in blocks(page.read_text())
        if not programs or is_program(code)
    ]


def region(file: Path, name: str) -> str:
    """What stands in a source file between `// docs: <name>` and `// docs: end`."""
    found = re.search(
        rf"^ *// docs: {name}\n(.*?)^ *// docs: end$", file.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found, f"{file.name} has no region {name!r}"
    return textwrap.dedent(found[1]).strip("\n") + "\n"


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("page", "line", "code"), found(programs=False))
def test_a_block_compiles(page: Path, line: int, code: str) -> None:
    parsed(code)


@pytest.mark.parametrize(("page", "line", "code"), found(programs=True))
def test_a_program_runs(page: Path, line: int, code: str, tmp_path: Path, pyloop: ModuleType) -> None:
    script = tmp_path / "block.py"
    script.write_text("\n" * (line - 1) + code)  # a traceback then has the page's line numbers
    ran = subprocess.run(
        [sys.executable, "-W", "error", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patient(9),
        cwd=tmp_path,
        env=environment(PYLOOP_ACCEL=""),  # what a page says holds with all of them on
    )
    assert ran.returncode == 0 and not ran.stderr, f"{page.name}, line {line}:\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_rust_block_is_a_region_of_a_file_that_is_built(page: Path) -> None:
    text = page.read_text()
    assert len(_RUST.findall(text)) == len(_ANY_RUST.findall(text)), (
        "a Rust block without `<!-- from <file>: <region> -->`"
    )
    for found in _RUST.finditer(text):
        assert found["file"].startswith(("examples/rust_main/", "tests/extension/src/", "tests/rust/")), (
            "not built by a test"
        )
        line = text.count("\n", 0, found.start()) + 1
        source = region(ROOT / found["file"], found["name"])
        assert found["code"] == source, f"{page.name}, line {line}: {found['file']} says\n\n{source}"


def test_the_manifest_of_the_guide_is_that_of_an_extension() -> None:
    text = (ROOT / "docs" / "extensions.md").read_text()
    manifest = re.search(r"^<!-- manifest -->\n```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert manifest
    written = tomllib.loads(manifest[1])
    built = tomllib.loads((ROOT / "tests" / "extension" / "Cargo.toml").read_text())
    assert built["lib"]["crate-type"] == written["lib"]["crate-type"]
    for name, wanted in written["dependencies"].items():
        given = built["dependencies"][name]
        version = wanted if isinstance(wanted, str) else wanted["version"]
        if name == "pyloop":
            assert (given["default-features"], given["features"]) == (
                wanted["default-features"],
                wanted["features"],
            )
            given = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
        given = given if isinstance(given, str) else given["version"]
        assert given.startswith(version), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.finditer(page.read_text()):
        target, _, anchor = link["target"].partition("#")
        if "://" in target:
            continue
        file = page.parent / target if target else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            lost.append(link["target"])
    assert not lost


def test_the_files_that_architecture_names_exist() -> None:
    """Its tables are read by people who look for a place in the source."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    names = {name for row in rows for name in re.findall(r"`((?:\w+/)*\w+\.(?:rs|py)|\w+/)`", row)}
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.rs")}
    sources |= {path.name for path in (ROOT / "python" / "pyloop").glob("*.py")}
    known = sources | {name.rpartition("/")[2] for name in sources}
    folders = {f"{name.split('/')[0]}/" for name in sources if "/" in name}
    assert names
    assert names <= known | folders
