"""The public surface of the crate, read from its source.

    python tests/support/api.py     writes it into docs/api.md

It starts at what `src/lib.rs`, and the public modules, export, and finds each name's definition: its
signature, the variants of an enum, the public functions of a type. What a type holds, and whatever is
`#[doc(hidden)]`, is not of it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
PAGE = ROOT / "docs" / "api.md"
START, END = "<!-- api:start -->", "<!-- api:end -->"

# The public modules, and where each is.
MODULES = {
    "pyloop": SRC / "lib.rs",
    "pyloop::tokio": SRC / "tokio.rs",
    "pyloop::generic": SRC / "generic.rs",
    "pyloop::prims::sync": SRC / "prims" / "sync" / "mod.rs",
}
# Made by macros, or another crate's.
MACROS = {
    "main": "#[pyloop::main]",
    "awaitable": "#[pyloop::awaitable]",
    "CancelledError": "struct CancelledError",
    "CancellationToken": "struct CancellationToken",
}
KIND = r"(?:async )?(?:fn|struct|enum|trait|type)"
EXCEPTIONS = ("Closed", "Empty", "Full", "NoPermits")

# Comments, and what may have braces in it: strings and characters.
_NO_CODE = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/
  | \bb?c?r(\#*)".*?"\1 | "(?:\\.|[^"\\])*"
  | '(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'])'
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Found:
    signature: str
    more: list[str]


def source() -> dict[Path, str]:
    return {path: _NO_CODE.sub("", path.read_text()) for path in sorted(SRC.rglob("*.rs"))}


def exported(code: str) -> Iterator[str]:
    """The names that a module exports, but for modules and what is hidden."""
    code = re.sub(r"#\[doc\(hidden\)\]\s*(?:#\[[^\]]*\]\s*)*pub[^;{]*(?:;|\{[^}]*\}[;]?)", "", code)
    for found in re.finditer(r"^pub use ([\w:]+?)::(?:\{([^}]*)\}|(\w+));", code, re.MULTILINE):
        yield from (name.strip() for name in (found[2] or found[3]).split(",") if name.strip())
    for found in re.finditer(rf"^pub {KIND} (\w+)", code, re.MULTILINE):
        yield found[1]


def plain(text: str) -> str:
    """On one line, with nothing in it that means nothing."""
    text = re.sub(r"\s+", " ", text).strip().rstrip(",")
    text = re.sub(r",? ?where ", " where ", text)
    for noise, meant in (("(mut self", "(self"), ("( ", "("), (", )", ")"), (",)", ")")):
        text = text.replace(noise, meant)
    return text


def body(code: str, at: int) -> str:
    """What is between the brace at `at` and its partner."""
    depth, end = 1, at + 1
    while depth:
        depth += {"{": 1, "}": -1}.get(code[end], 0)
        end += 1
    return code[at + 1 : end - 1]


def methods(code: str, name: str) -> Iterator[str]:
    """The public functions of a type that are no Python methods."""
    for found in re.finditer(rf"^((?:#\[[^\n]*\]\n)*)impl {name} \{{", code, re.MULTILINE):
        if "pymethods" in found[1]:
            continue
        inside = body(code, found.end() - 1)
        for method in re.finditer(r"^    pub (?:const )?((?:async )?fn \w+[^{;]*)", inside, re.MULTILINE):
            yield plain(method[1])


def definition(files: dict[Path, str], name: str, module: Path) -> Found:
    if name in MACROS:
        return Found(MACROS[name], [])
    if name in EXCEPTIONS:
        return Found(f"struct {name}", [])
    pattern = re.compile(rf"^pub ({KIND} {name}\b[^{{;]*)([{{;])", re.MULTILINE)
    # A module's own comes before another's of the same name (`tokio` has some).
    order = sorted(files, key=lambda path: (path != module, module.parent not in path.parents, path))
    for path in order:
        if found := pattern.search(files[path]):
            signature = plain(re.sub(r"\(.*", "", found[1]) if found[1].startswith("struct") else found[1])
            more = list(methods(files[path], name))
            inside = body(files[path], found.end() - 1) if found[2] == "{" else ""
            if signature.startswith("enum"):
                more = [plain(each) for each in re.findall(r"^    (\w+[^\n]*)", inside, re.MULTILINE)] + more
            if signature.startswith("trait"):
                more = [plain(each) for each in re.findall(r"^    (fn [^;{]*)", inside, re.MULTILINE)]
            return Found(signature, more)
    raise LookupError(f"{name} is exported by {module} and defined nowhere")


def surface() -> str:
    """As docs/api.md shows it."""
    files = source()
    parts = []
    for module, path in MODULES.items():
        lines = []
        for name in sorted(set(exported(files[path]))):
            found = definition(files, name, path)
            lines += [found.signature, *(f"    {each}" for each in found.more)]
        parts.append(f"`{module}`\n\n```text\n" + "\n".join(lines) + "\n```\n")
    return "\n".join(parts)


def written() -> str:
    """What docs/api.md says."""
    text = PAGE.read_text()
    return text[text.index(START) + len(START) : text.index(END)].strip("\n") + "\n"


if __name__ == "__main__":
    page = PAGE.read_text()
    before, after = page[: page.index(START)], page[page.index(END) :]
    PAGE.write_text(f"{before}{START}\n{surface()}{after}")
    sys.stdout.write(f"{PAGE} is written\n")
