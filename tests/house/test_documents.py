"""Documents say what the source is: the table of layers, the code words, the accelerations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import site_hooks
from support.source import LAYERS, ROOT, SRC, TOP, check, folder_of, named, rust_files

DOCS = ROOT / "docs"

# Where a code word of a document may be: what it is about, and what that is tested with.
SOURCES = ("src", "python", "crates", "tests", "benches", "scripts", "examples")
SUFFIXES = {".rs", ".py", ".pyi", ".toml", ".h", ".c", ".sh", ".txt"}

# The documents, and their words of others' that the source has no reason to name.
OTHERS = {
    "architecture.md": {"perf", "annotate"},
    "threads.md": {"ctrl_c"},
    "accelerations.md": set[str](),
    "glossary.md": set[str](),
}


# ---- the table of layers ---------------------------------------------------------------------------------


def rows() -> Iterator[tuple[int, list[Path]]]:
    """(layer, files and folders) for each row. The files of a row are in the folder of its first one."""
    layer = -1
    for line in (DOCS / "architecture.md").read_text().splitlines():
        row = re.match(r"\| (\d+)? *\| (`[^|]+`) \|", line)
        if row is None:
            if line.strip() == "|---|---|---|":
                layer = 0
            elif layer >= 0 and not line.startswith("|"):
                return
            continue
        layer = int(row[1]) if row[1] else layer
        folder, found = Path(), list[Path]()
        for name in re.findall(r"`([^`]+)`", row[2]):
            if "/" in name:
                folder = Path(name).parent if name.endswith(".rs") else Path(name)
            found.append(SRC / (name if "/" in name else folder / name if name not in _top_files() else name))
        yield layer, found


def _top_files() -> set[str]:
    return {path.name for path in SRC.glob("*.rs")}


def layer_of(path: Path) -> int:
    return LAYERS.get(path.relative_to(SRC).parts[0], TOP)


def test_each_file_of_src_is_in_the_table_of_layers() -> None:
    listed = [path for _, paths in rows() for path in paths]
    assert len(listed) > 40, "the table of docs/architecture.md is not found"
    broken = [f"{named(path)} is listed and is not there" for path in listed if not path.exists()]
    folders = [path for path in listed if path.is_dir()]
    broken += [
        f"{named(path)} is not listed"
        for path in rust_files()
        if path.name != "mod.rs" and path not in listed and not any(f in path.parents for f in folders)
    ]
    check(broken, "The table in docs/architecture.md has each file of src/, or its folder:")


def test_the_table_has_each_file_in_its_layer() -> None:
    broken = [
        f"{named(path)} is in layer {layer_of(path)}, in the table in {layer}"
        for layer, paths in rows()
        for path in paths
        if layer_of(path) != layer
    ]
    check(broken, "The layers of docs/architecture.md and LAYERS of tests/support/source.py:")


def test_a_folder_says_its_layer_first() -> None:
    broken = []
    for folder, layer in LAYERS.items():
        head = (SRC / folder / "mod.rs").read_text().splitlines()[0]
        if not head.startswith(f"//! Layer {layer},"):
            broken.append(f"{folder}/mod.rs: {head}")
    broken += [
        f"{named(path)} says layer {said}"
        for path in rust_files()
        for said in re.findall(r"//!.*\b[Ll]ayer (\d+)", path.read_text())
        if folder_of(path) and int(said) != layer_of(path)
    ]
    check(broken, "A folder's mod.rs opens with its layer, and nothing says another:")


# ---- code words ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words() -> set[str]:
    """Each word of the source, and each name of a file or folder."""
    found = set[str]()
    for top in SOURCES:
        for path in (ROOT / top).rglob("*"):
            if (
                path.suffix in SUFFIXES
                and not {"target", ".cache"} & set(path.parts)
                and path != Path(__file__)
            ):
                found |= set(re.findall(r"\w+", path.read_text(errors="replace")))
                found |= set(re.findall(r"\w+", path.relative_to(ROOT).as_posix()))
    found |= set(re.findall(r"\w+", (ROOT / "Makefile").read_text() + (ROOT / "Cargo.toml").read_text()))
    return found


def code_words(text: str) -> Iterator[tuple[int, str]]:
    """(line, word) for each word of three letters or more that a document has in backticks."""
    text = re.sub(r"^```.*?^```", lambda fence: "\n" * fence[0].count("\n"), text, flags=re.M | re.S)
    for number, line in enumerate(text.splitlines(), 1):
        for span in re.findall(r"`([^`]+)`", line):
            for word in re.findall(r"[A-Za-z_]\w{2,}", span):
                yield number, word


@pytest.mark.parametrize("name", list(OTHERS))
def test_a_code_word_of_a_document_is_in_the_source(name: str, words: set[str]) -> None:
    path = DOCS / name
    broken = [
        f"{named(path, line)}: {word}"
        for line, word in code_words(path.read_text())
        if word not in words and word not in OTHERS[name]
    ]
    check(broken, "Described, and not there:")


def test_code_words_are_found() -> None:
    text = "`a.bcd(efg)` and bcd\n```\n`hij`\n```\n`EPOLLONESHOT` `x`\n"
    assert list(code_words(text)) == [(1, "bcd"), (1, "efg"), (5, "EPOLLONESHOT")]


# ---- accelerations ---------------------------------------------------------------------------------------


def test_each_file_of_accel_has_a_row_in_accelerations_md() -> None:
    document = (DOCS / "accelerations.md").read_text()
    names = re.findall(r"^\| `(\w+)` \|", document, re.M)
    broken = [
        f"{named(path)} has no row"
        for path in rust_files("accel")
        if path.name not in ("mod.rs", "switch.rs", "limited.rs") and path.stem not in names
    ]
    known = "".join(path.read_text() for path in rust_files("accel"))
    known += (ROOT / "python" / "pyloop" / "_accel.py").read_text()
    broken += [f"`{name}` is no acceleration" for name in names if f'"{name}"' not in known]
    check(broken, "Each acceleration says in docs/accelerations.md what it leans on:")


# ---- the site --------------------------------------------------------------------------------------------


def test_the_site_has_each_page() -> None:
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    pages = {path.name for path in DOCS.glob("*.md")} | {name.lower() for name in site_hooks.PAGES}
    assert sorted(listed) == sorted(pages | {"reference.md"})


@pytest.mark.parametrize(
    ("source", "page", "link", "turned"),
    [
        ("docs/index.md", "index.md", "threads.md#fork", "threads.md#fork"),
        ("docs/index.md", "index.md", "../README.md#numbers", "readme.md#numbers"),
        ("README.md", "readme.md", "docs/threads.md", "threads.md"),
        ("README.md", "readme.md", "LICENSE-MIT", "source/LICENSE-MIT.txt"),
        (
            "docs/rust-main.md",
            "rust-main.md",
            "../examples/rust_main/src/app.py",
            "source/examples/rust_main/src/app.py.txt",
        ),
        ("docs/index.md", "index.md", "https://rustup.rs", "https://rustup.rs"),
    ],
)
def test_a_link_of_the_repository_leads_to_the_sites_place(
    source: str, page: str, link: str, turned: str
) -> None:
    assert site_hooks.turned(f"[it]({link})", source, page) == f"[it]({turned})"
    code = f"```\n[it]({link})\n```"
    assert site_hooks.turned(code, source, page) == code
