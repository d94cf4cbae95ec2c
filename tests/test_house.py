"""The rules of the house (docs/architecture.md), as tests: layers, files, unsafe, imports, the two commands.

They read the source; only the last ones run something. A rule that fails says which line broke it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_skips import is_allowed, read_allowed

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# `use crate::x` points only to a lower number or to the own folder.
LAYERS = {
    "core": 0,
    "accel": 1,
    "py": 1,
    "rt": 2,
    "sched": 3,
    "future": 4,
    "bridge": 5,
    "task": 6,
    "io": 7,
    "prims": 7,
    "event_loop": 8,
}
TOP = 8  # the files of src/ itself: they put the parts together
ALSO_ALLOWED = {("accel", "py")}

# Outside src/py/ and src/accel/, where the C API may be called as it is: the capsule is a C API.
RAW_FFI = {"bridge/capsule.rs"}

MOST_LINES = 600

LINTS = {
    "rust": {"unsafe_op_in_unsafe_fn"},
    "clippy": {"undocumented_unsafe_blocks", "unwrap_used", "let_underscore_must_use"},
}


# ---- reading Rust ----------------------------------------------------------------------------------------

_NOT_CODE = re.compile(
    r"""
    (?P<line>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>\bb?c?r(?P<hash>\#*)".*?"(?P=hash))
  | (?P<string>"(?:\\.|[^"\\])*")
  | (?P<char>'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])')
    """,
    re.VERBOSE | re.DOTALL,
)


def code_of(text: str) -> str:
    """Rust without its comments and the insides of its strings; every line stays where it is."""
    out, at = [], 0
    while found := _NOT_CODE.search(text, at):
        out.append(text[at : found.start()])
        end = _block_end(text, found.start()) if found["block"] else found.end()
        gone = text[found.start() : end]
        out.append('""' if found["raw"] or found["string"] else " ")
        out.append("\n" * gone.count("\n"))
        at = end
    return "".join([*out, text[at:]])


def _block_end(text: str, start: int) -> int:
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return start + mark.end()
    return len(text)


_TOKEN = re.compile(
    r"""
    \bmod\s+(?P<mod>\w+)\s*\{
  | (?P<open>\{)
  | (?P<close>\})
  | (?P<where>\bin\s+(?:crate|super)\b)
  | (?P<path>\bcrate|(?:\bself\s*::\s*)?\bsuper(?:\s*::\s*super)*)\s*::\s*(?P<rest>)
    """,
    re.VERBOSE,
)


def crate_names(text: str, module: list[str]) -> Iterator[tuple[int, str]]:
    """(line, name) for each `crate::name` and each `super::…` that climbs to the root, grouped or inline.

    `module` is the path of the file's own module. `pub(in crate::x)` is visibility, no use.
    """
    code, braces = code_of(text), list[str | None]()
    at = 0
    while token := _TOKEN.search(code, at):
        at = token.end()
        if token["mod"]:
            braces.append(token["mod"])
        elif token["open"]:
            braces.append(None)
        elif token["close"]:
            if braces:
                braces.pop()
        elif token["path"]:
            climbs = token["path"].count("super")
            here = module + [name for name in braces if name]
            if token["path"] == "crate" or climbs >= len(here):
                line = code.count("\n", 0, token.start()) + 1
                for name in _heads(code[at:]):
                    yield line, name


def _heads(tree: str) -> Iterator[str]:
    """The first names of a use tree: `a::b` has one, `{a::b, c::{d, e}}` has a and c."""
    if not tree.startswith("{"):
        if name := re.match(r"\w+!?|\*", tree):
            yield name[0]
        return
    depth, item = 0, ""
    for char in tree:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if (char == "," and depth == 1) or depth == 0:
            yield from _heads(item.strip())
            item = ""
        elif not (char == "{" and depth == 1 and not item):
            item += char
        if depth == 0:
            return


def rust_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders or (".",) for path in (SRC / folder).rglob("*.rs"))


def folder_of(path: Path) -> str:
    parts = path.relative_to(SRC).parts
    return parts[0] if len(parts) > 1 else ""


def module_of(path: Path) -> list[str]:
    parts = list(path.relative_to(SRC).with_suffix("").parts)
    if parts[-1] in ("mod", "lib"):
        parts.pop()
    return parts


def named(path: Path, line: int | None = None) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def check(broken: list[str], rule: str) -> None:
    assert not broken, f"{rule}\n  " + "\n  ".join(broken)


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    found = {path: path.read_text() for path in rust_files()}
    assert any(found.values()), "src/ has no Rust"
    return found


# ---- layers ----------------------------------------------------------------------------------------------


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
        for line, name in crate_names(text, module_of(path)):
            there = macros.get(name.rstrip("!"), name)
            allowed = (
                there == here
                or (here, there) in ALSO_ALLOWED
                or LAYERS.get(there, TOP) < LAYERS.get(here, TOP)
            )
            if not allowed:
                level = f"{here} is {LAYERS.get(here, TOP)}, {there} is {LAYERS.get(there, TOP)}"
                broken.append(f"{named(path, line)}: crate::{name} ({level})")
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


# ---- files -----------------------------------------------------------------------------------------------


def test_a_file_says_first_what_it_is(sources: dict[Path, str]) -> None:
    broken = [named(path) for path, text in sources.items() if not text.startswith("//!")]
    check(broken, "A .rs file opens with //!: what it owns, on which thread, what it must never do:")


def test_no_file_is_longer_than_600_lines() -> None:
    broken = []
    for path in tracked():
        if path.suffix in (".rs", ".py", ".sh", ".h"):
            lines = len(path.read_text().splitlines())
            if lines > MOST_LINES:
                broken.append(f"{named(path)}: {lines} lines")
    check(broken, f"A file is one role, {MOST_LINES} lines at most:")


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


# ---- unsafe and lints ------------------------------------------------------------------------------------


def undocumented(text: str) -> Iterator[int]:
    """The lines of `unsafe {` and `unsafe impl` without a SAFETY comment on the line or right above."""
    lines, code = text.splitlines(), code_of(text).splitlines()
    for number, line in enumerate(code):
        if not re.search(r"\bunsafe\s*(\{|impl\b)", line) or "SAFETY:" in lines[number]:
            continue
        above = number - 1
        # Up to where the statement begins, and over attributes.
        while above >= 0 and code[above].strip() and not re.search(r"[;{}]\s*$", code[above]):
            if "SAFETY:" in lines[above]:
                break
            above -= 1
        while above >= 0 and lines[above].strip().startswith(("//", "#[")):
            if "SAFETY:" in lines[above]:
                break
            above -= 1
        if above < 0 or "SAFETY:" not in lines[above]:
            yield number + 1


def test_every_unsafe_says_why_it_is_sound(sources: dict[Path, str]) -> None:
    broken = [named(path, line) for path, text in sources.items() for line in undocumented(text)]
    check(broken, "unsafe without a `// SAFETY:` comment right above it:")


def test_every_allowed_lint_says_why(sources: dict[Path, str]) -> None:
    broken = []
    for path, text in sources.items():
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if re.match(r"\s*#!?\[(allow|expect)\(", line):
                attribute = "\n".join(lines[number:]).split("]", 1)[0]
                before = lines[number - 1].strip() if number else ""
                commented = "//" in line or (
                    before.startswith("//") and not before.startswith(("///", "//!"))
                )
                if "reason" not in attribute and not commented:
                    broken.append(f"{named(path, number + 1)}: {line.strip()}")
    check(broken, 'An allowed lint without its reason (`reason = "…"` or a comment above):')


def test_what_any_thread_may_hold_has_no_python_object(sources: dict[Path, str]) -> None:
    broken = []
    for path, text in sources.items():
        code = code_of(text)
        broken += [
            f"{named(path, code.count(chr(10), 0, found.start()) + 1)}: {found[1]}"
            for found in re.finditer(r"\b(?:struct|enum)\s+(\w*Shared)\b[^;{(]*([{(][^})]*)", code)
            if re.search(r"\bPy<|\bPyObject\b", found[2])
        ]
    check(broken, "A type named …Shared is for any thread, so no Py<_> inside:")


def test_cargo_toml_denies_what_the_house_denies() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    broken = []
    for tool, lints in LINTS.items():
        for lint in sorted(lints):
            level = cargo["workspace"].get("lints", {}).get(tool, {}).get(lint)
            level = level["level"] if isinstance(level, dict) else level
            if level not in ("deny", "forbid"):
                broken.append(f"{tool}::{lint} is {level}")
    check(broken, "Lints that Cargo.toml must deny:")
    release = cargo["profile"]["release"]
    assert (release["lto"], release["codegen-units"], release["panic"]) == ("fat", 1, "unwind")


# ---- what is tracked -------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        return [path for path in ROOT.rglob("*.*") if not {".git", "target"} & set(path.parts)]
    return sorted({path for name in listed.split("\0") if name and (path := ROOT / name).is_file()})


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
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    pinned = {
        line.split("==")[0].lower()
        for file in (ROOT / "scripts" / "requirements").glob("*.txt")
        for line in file.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    asked = {re.split(r"[^\w-]", want)[0].lower() for group in groups.values() for want in group}
    check(sorted(asked - pinned), "In pyproject.toml but not pinned in scripts/requirements/:")


def test_every_allowed_skip_has_a_reason() -> None:
    pairs = read_allowed()
    assert all(len(reason) > 10 for _, reason in pairs)
    names = [pattern for pattern, _ in pairs]
    assert len(set(names)) == len(names)


# ---- what runs -------------------------------------------------------------------------------------------

_IMPORT = """
import asyncio, importlib, pkgutil, signal, sys, threading
left_out = {"__main__", "tools", "proactor_events", "windows_events", "windows_utils"}
for found in pkgutil.iter_modules(asyncio.__path__):
    if found.name not in left_out:
        importlib.import_module("asyncio." + found.name)
import _asyncio, selectors, socket, ssl, contextvars, concurrent.futures

def look():
    seen = {}
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("asyncio", "_asyncio", "selectors", "socket", "ssl", "signal", "threading"):
            for key, value in vars(module).items():
                seen[name, key] = value
                if isinstance(value, type):
                    seen |= {(name, key, inner): v for inner, v in vars(value).items() if inner != "__doc__"}
    seen["policy"] = getattr(asyncio.events, "_event_loop_policy", None)
    seen["threads"] = tuple(threading.enumerate())
    seen["handlers"] = tuple(signal.getsignal(n) for n in sorted(signal.valid_signals()))
    seen["hooks"] = (sys.excepthook, sys.unraisablehook, sys.get_asyncgen_hooks(), sys.gettrace())
    return seen

look()
before = look()
import pyloop
after = look()
modules = {"__warningregistry__", "_abc_impl"}
changed = [k for k in before.keys() | after.keys()
           if k[-1] not in modules and before.get(k, "absent") is not after.get(k, "absent")
           and before.get(k, "absent") != after.get(k, "absent")]
assert not changed, changed
"""


def test_importing_pyloop_changes_nothing() -> None:
    """No patch of asyncio, no policy, no thread, no handler: who wants them calls `pyloop.install()`."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", _IMPORT], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


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


# ---- the rules themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("use crate::py::call;", ["py"]),
        ("use crate::{core::ready, task::{Task, step}, py};", ["core", "task", "py"]),
        ('fn f() { crate::sched::run(); let s = "crate::task::x"; } // crate::task', ["sched"]),
        ("use super::super::task::Task;", ["task"]),
        ("use super::waker::Waker;", []),
        ("mod tests { use super::super::task; }", []),
        ("mod tests { use super::super::super::task; }", ["task"]),
        ("pub(in crate::task) fn f() {}", []),
        ("/* crate::a /* crate::b */ crate::c */ crate::d::e", ["d"]),
        ('let quote = \'"\'; use crate::io::watch; let s = r#"crate::task"#;', ["io"]),
        ("fn f<'a>(x: &'a str) -> &'a crate::bridge::Cx { x }", ["bridge"]),
        ("use crate::a;\nuse crate::\n    b;", ["a", "b"]),
    ],
)
def test_paths_to_other_layers_are_found(text: str, names: list[str]) -> None:
    assert [name for _, name in crate_names(text, ["future", "state"])] == names


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("// SAFETY: alive.\nunsafe { f() }", []),
        ("unsafe { f() }", [1]),
        ("// SAFETY: one thread.\n#[cfg(x)]\nunsafe impl Send for A {}", []),
        ("// SAFETY: yes,\n// really.\nlet x =\n    unsafe { f() };", []),
        ("// SAFETY: of another\nlet y = unsafe { f() };\nlet x = unsafe { g() };", [3]),
        ("// unsafe { }\nfn f() {}", []),
        ('unsafe extern "C" fn f() {}', []),
    ],
)
def test_unsafe_without_a_reason_is_found(text: str, lines: list[int]) -> None:
    assert list(undocumented(text)) == lines


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
