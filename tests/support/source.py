"""The project's source as text: which files there are, and which names a Rust file uses."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
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


# ---- files -----------------------------------------------------------------------------------------------


def rust_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders or (".",) for path in (SRC / folder).rglob("*.rs"))


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


def folder_of(path: Path) -> str:
    """The folder in src/; empty for the files of src/ itself."""
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


@dataclass(frozen=True)
class Use:
    """A path in a Rust file, from the root of the crate: `crate::…` and `super::…`, grouped or inline."""

    line: int
    path: tuple[str, ...]
    in_tests: bool  # of the file itself


def uses(text: str, module: list[str]) -> Iterator[Use]:
    """`module` is the path of the file's own module. `pub(in crate::x)` is visibility, no use."""
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
            inner = [name for name in braces if name]
            here = module + inner
            climbs = token["path"].count("super")
            base = [] if token["path"] == "crate" else here[: max(0, len(here) - climbs)]
            line = code.count("\n", 0, token.start()) + 1
            for names in _leaves(code[at:]):
                yield Use(line, (*base, *names), "tests" in inner)


def _leaves(tree: str) -> Iterator[tuple[str, ...]]:
    """The paths of a use tree: `a::b` has one, `{a::b, c::{d, e}}` has three."""
    if not tree.startswith("{"):
        if name := re.match(r"\w+!?|\*", tree):
            rest = re.match(r"\s*::\s*(?=[\w{*])", tree[name.end() :])
            if rest is None:
                yield (name[0],)
            else:
                for more in _leaves(tree[name.end() + rest.end() :]):
                    yield (name[0], *more)
        return
    depth, item = 0, ""
    for char in tree:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if (char == "," and depth == 1) or depth == 0:
            yield from _leaves(item.strip())
            item = ""
        elif not (char == "{" and depth == 1 and not item):
            item += char
        if depth == 0:
            return


# ---- which file of a folder uses which -------------------------------------------------------------------

ROOT_FILES = ("mod", "lib")


def graph(folder: Path) -> dict[str, set[str]]:
    """The files and folders in a folder of src/, and which of the others each of them uses.

    A name that mod.rs hands on counts as the file that it comes from. What mod.rs itself has is called `mod`.
    """
    where = tuple(folder.relative_to(SRC).parts)
    here = next((path for name in ROOT_FILES if (path := folder / f"{name}.rs").exists()), None)
    parts = {path.stem: path for path in folder.iterdir() if path.suffix == ".rs" and path != here}
    parts |= {path.name: path for path in folder.iterdir() if path.is_dir()}
    top = code_of(here.read_text()) if here else ""
    handed_on = _handed_on(top, parts.keys())
    found: dict[str, set[str]] = {name: set() for name in (*parts, "mod")}

    def note(user: str, path: tuple[str, ...]) -> None:
        if path[: len(where)] != where or len(path) == len(where):
            return
        name = path[len(where)]
        used = name if name in parts else handed_on.get(name, "mod")
        if used != user and not name.endswith("!"):
            found[user].add(used)

    for name, path in parts.items():
        for file in [path] if path.suffix else path.rglob("*.rs"):
            for use in uses(file.read_text(), module_of(file)):
                if not use.in_tests:
                    note(name, use.path)
    # mod.rs names its children without a prefix; what it hands on is no use of its own.
    own = re.sub(r"\bpub(\([^)]*\))?\s+use\b[^;]*;", "", top)
    for name in re.findall(r"(?<![\w:])(\w+)\s*::", own):
        if name in parts and not re.search(rf"\bmod\s+{name}\s*\{{", own):
            found["mod"].add(name)
    return found


def _handed_on(top: str, parts: Collection[str]) -> dict[str, str]:
    """The names that mod.rs has from its children: by `pub use child::Name`, `use child::{a, b as c}`."""
    names = dict[str, str]()
    for tree in re.findall(r"\buse\s+(?:self\s*::\s*|crate\s*::\s*)?([^;]*);", top):
        for path in _leaves(re.sub(r"\s+as\s+(\w+)", r"::\1", tree)):
            if path[0] in parts:
                names[path[-1]] = path[0]
    return names


def circles(uses_of: dict[str, set[str]]) -> list[frozenset[str]]:
    """The sets of files that use each other, directly or through others of the set."""
    reach: dict[str, set[str]] = {}
    for start in uses_of:
        seen, left = set[str](), [start]
        while left:
            for name in uses_of[left.pop()] - seen:
                seen.add(name)
                left.append(name)
        reach[start] = seen
    together = {
        frozenset(other for other in uses_of if other in reach[name] and name in reach[other])
        for name in uses_of
        if name in reach[name]
    }
    return sorted(together, key=sorted)
