"""The rules of the house about errors, as tests: how one is taken from Python (src/py/answer.rs says why)."""

from __future__ import annotations

import re

import pytest

from support.source import check, code_of, folder_of, named, rust_files

# What takes the exception that is set in PyO3's way: a PanicException becomes a panic again.
TAKES_IT = re.compile(r"\bPyErr\s*::\s*(?:fetch|take|warn)\b|\w+_or_err\(|\.check_signals\(")
# PyO3's calls of what may be a program's own code do so, too.
CALLS = re.compile(
    r"\.(?:call0|call1|call_method0|call_method1|call_method|getattr|getattr_opt|setattr|is_truthy|repr|str|eq)\("
    r"|\.is_instance\((?!py\b)"
    r"|\.call\([^;]*?, (?:Some|None)\b"
)


def faults(text: str) -> list[tuple[int, str]]:
    code = code_of(text)
    lines = code.splitlines()
    found = []
    for pattern in (TAKES_IT, CALLS):
        for each in pattern.finditer(code):
            number = code.count("\n", 0, each.start()) + 1
            found.append((number, lines[number - 1].strip()))
    return sorted(found)


def test_an_error_is_taken_from_python_in_one_way() -> None:
    broken = [
        f"{named(path, number)}: {line}"
        for path in rust_files()
        if folder_of(path) != "core"  # which knows no Python
        for number, line in faults(path.read_text())
    ]
    check(broken, "PyO3 resumes a panic there. Use py::answer's `fetch` and `owned`, py::call's `try_…`:")


@pytest.mark.parametrize(
    "line",
    [
        "let raised = PyErr::fetch(py);",
        "PyErr::take(py)",
        "Bound::from_owned_ptr_or_err(py, object)",
        "PyErr::warn(py, &category, text, 1)?;",
        "py.check_signals()?;",
        "callable.call0()?;",
        "let value = object\n    .getattr(name)?;",
        "object.call_method1(name, (1,))",
        "callable.call((1,), Some(&keywords))",
        "object.is_instance(&class)?",
        "if object.is_truthy()? {}",
    ],
)
def test_the_rule_finds(line: str) -> None:
    assert faults(line), line


@pytest.mark.parametrize(
    "line",
    [
        "error::fetch(py)",
        "error::check_signals(py)?;",
        "visit.call(&self.object)?;",
        "callable.try_call(())?;",
        "raised.is_instance(py, class)",
        "// callable.call0()",
        'let text = "callable.call0()";',
        "call(callable, Some(args))",
    ],
)
def test_the_rule_lets_pass(line: str) -> None:
    assert not faults(line), line
