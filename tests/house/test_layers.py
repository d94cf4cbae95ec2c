"""Which part of src/ may use which: the layers, and no circles between the files of a folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import source
from support.source import (
    LAYERS,
    SRC,
    TOP,
    check,
    circles,
    code_of,
    folder_of,
    graph,
    module_of,
    named,
    rust_files,
    uses,
)

ALSO_ALLOWED = {("accel", "py")}

# Files of one folder that use each other, and why they may. `mod` is what is in the folder's mod.rs.
CIRCLES = {
    (
        "sched",
        "entry handle reactor runtime shared state thread_safe_handle timer_handle",
    ): "a handle knows its loop's state, which has the handles in its queues",
}

# Outside src/py/ and src/accel/, where the C API may be called as it is: the capsule is a C API.
RAW_FFI = {"bridge/capsule.rs"}


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    found = {path: path.read_text() for path in rust_files()}
    assert any(found.values()), "src/ has no Rust"
    return found


def test_every_folder_of_src_has_a_layer() -> None:
    folders = {folder_of(path) for path in rust_files()} - {""}
    check(sorted(folders - LAYERS.keys()), "A folder of src/ without a number in LAYERS (and in the docs):")


def test_use_crate_points_only_downwards(sources: dict[Path, str]) -> None:
    # A macro is named from the root wherever it is defined.
    macros = {
        name: folder_of(path)
        for path, text in sources.items()
        for name in re.findall(r"macro_rules!\s+(\w+)", code_of(text))
    }
    broken = []
    for path, text in sources.items():
        here = folder_of(path)
        if not here:
            continue
        for use in uses(text, module_of(path)):
            name = use.path[0]
            there = macros.get(name.rstrip("!"), name)
            allowed = (
                there == here
                or (here, there) in ALSO_ALLOWED
                or LAYERS.get(there, TOP) < LAYERS.get(here, TOP)
            )
            if not allowed:
                level = f"{here} is {LAYERS.get(here, TOP)}, {there} is {LAYERS.get(there, TOP)}"
                broken.append(f"{named(path, use.line)}: crate::{name} ({level})")
    check(broken, "A layer uses one that is not below it. Take a trait or a closure, or move the code:")


def test_core_knows_neither_python_nor_tokio(sources: dict[Path, str]) -> None:
    broken = [
        f"{named(path, number)}: {line.strip()}"
        for path in rust_files("core")
        for number, line in enumerate(code_of(sources[path]).splitlines(), 1)
        if re.search(r"\b(pyo3\w*|tokio)\b", line)
    ]
    check(broken, "src/core/ is pure: no pyo3, no tokio:")


def test_the_raw_c_api_is_used_in_src_py_and_src_accel_alone(sources: dict[Path, str]) -> None:
    broken = [
        f"{named(path, number)}: {line.strip()}"
        for path, text in sources.items()
        if folder_of(path) not in ("py", "accel") and path.relative_to(SRC).as_posix() not in RAW_FFI
        for number, line in enumerate(code_of(text).splitlines(), 1)
        if re.search(r"(?<!std::)(?<!core::)\bffi\s*::|\bpyo3(_|::)ffi\b", line)
    ]
    check(broken, "Raw ffi:: outside src/py/ and src/accel/. Wrap it there, with its SAFETY comment:")


def test_no_circle_between_the_files_of_a_folder_but_the_known_ones() -> None:
    broken, known = [], set(CIRCLES)
    for folder in [SRC, *sorted(path for path in SRC.rglob("*") if path.is_dir())]:
        name, uses_of = folder.relative_to(SRC).as_posix(), graph(folder)
        for circle in circles(uses_of):
            if (name, " ".join(sorted(circle))) in CIRCLES:
                known.remove((name, " ".join(sorted(circle))))
            else:
                ways = [f"{each} -> {' '.join(sorted(uses_of[each] & circle))}" for each in sorted(circle)]
                broken.append(f"{name}: {', '.join(ways)}")
    broken += [f"{folder}: {files} is none any more" for folder, files in sorted(known)]
    check(
        broken, "Files that use each other. Take a trait or a closure, move the code, or say why in CIRCLES:"
    )


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("use crate::py::call;", ["py::call"]),
        (
            "use crate::{core::ready, task::{Task, step::{self, Stepped}}, py};",
            ["core::ready", "task::Task", "task::step::self", "task::step::Stepped", "py"],
        ),
        ('fn f() { crate::sched::run(); let s = "crate::task::x"; } // crate::task', ["sched::run"]),
        ("use super::super::task::Task;", ["task::Task"]),
        ("use super::waker::Waker;", ["future::waker::Waker"]),
        ("use super::{waker, life::{die, *}};", ["future::waker", "future::life::die", "future::life::*"]),
        ("mod tests { use super::super::task; }", ["future::task"]),
        ("mod tests { use super::super::super::task; }", ["task"]),
        ("pub(in crate::task) fn f() {}", []),
        ("/* crate::a /* crate::b */ crate::c */ crate::d::e", ["d::e"]),
        ('let quote = \'"\'; use crate::io::watch; let s = r#"crate::task"#;', ["io::watch"]),
        ("fn f<'a>(x: &'a str) -> &'a crate::bridge::Cx { x }", ["bridge::Cx"]),
        ("use crate::a;\nuse crate::\n    b;", ["a", "b"]),
        ("crate::macros::made!(x)", ["macros::made!"]),
    ],
)
def test_paths_in_rust_are_found(text: str, paths: list[str]) -> None:
    assert ["::".join(use.path) for use in uses(text, ["future", "state"])] == paths


def test_circles_between_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SRC", tmp_path)
    files = {
        "mod.rs": "pub use c::Shared as Known;\nmod a;\nmod b;\nmod c;\nfn all() { d::go() }\nfn own() {}",
        "a.rs": "use super::b::B;",
        "b.rs": "use super::Known;\nmod tests { use super::super::a; }",
        "c.rs": "use crate::x::a::A;",
        "d.rs": "use super::own;",
        "e/mod.rs": "use super::f;",
        "f.rs": "fn f() { crate::x::d::go() }",
    }
    (tmp_path / "x" / "e").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "x" / name).write_text(text)
    found = graph(tmp_path / "x")
    assert found == {
        "a": {"b"},
        "b": {"c"},
        "c": {"a"},
        "d": {"mod"},
        "e": {"f"},
        "f": {"d"},
        "mod": {"d"},
    }
    assert circles(found) == [frozenset("abc"), frozenset({"d", "mod"})]
