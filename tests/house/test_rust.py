"""What Rust code must say and must not hold: unsafe, lints, types for any thread."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.source import ROOT, check, code_of, named, rust_files

LINTS = {
    "rust": {"unsafe_op_in_unsafe_fn"},
    "clippy": {"undocumented_unsafe_blocks", "unwrap_used", "let_underscore_must_use"},
}


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    found = {path: path.read_text() for path in rust_files()}
    assert any(found.values()), "src/ has no Rust"
    return found


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


# What a SAFETY comment begins with that gives no argument: who keeps it alive, who promises it, who calls it?
NO_ARGUMENT = re.compile(
    r"// SAFETY: (?:a live|live|both are live|as (?:for|in|above|said)|the ABI[.:;]"
    r"|the caller's word|that is how)",
    re.IGNORECASE,
)


def test_every_argument_for_unsafe_is_one(sources: dict[Path, str]) -> None:
    broken = [
        f"{named(path, number)}: {line.strip()}"
        for path, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if NO_ARGUMENT.search(line)
    ]
    check(broken, "A SAFETY comment says who guarantees what (`the Bound holds the object for the call`):")


def test_no_comment_is_wider_than_the_code(sources: dict[Path, str]) -> None:
    # rustfmt wraps no comments. A row of a table is one line.
    broken = [
        named(path, number)
        for path, text in sources.items()
        for number, line in enumerate(text.splitlines(), 1)
        if len(line) > 120 and re.match(r"\s*//(?![/!]? \|)", line)
    ]
    check(broken, "A comment of more than 120 columns:")


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
