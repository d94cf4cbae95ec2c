"""The crate's public surface is the list in docs/api.md, and grows or shrinks on purpose."""

from __future__ import annotations

import difflib
import re

from support import api
from support.source import ROOT, code_of


def test_the_public_surface_is_the_one_that_is_documented() -> None:
    said, is_there = api.written().splitlines(), api.surface().splitlines()
    differences = "\n".join(difflib.unified_diff(said, is_there, "docs/api.md", "src", lineterm=""))
    assert not differences, f"`python tests/support/api.py` writes docs/api.md anew:\n{differences}"


def test_nothing_else_of_the_crate_is_public() -> None:
    code = code_of((ROOT / "src" / "lib.rs").read_text())
    public = set(re.findall(r"^pub mod (\w+)", code, re.MULTILINE))
    assert public == {"tokio", "generic", "prims", "internals"}
    inside = code_of((ROOT / "src" / "prims" / "mod.rs").read_text())
    assert set(re.findall(r"^pub mod (\w+)", inside, re.MULTILINE)) == {"sync"}


def test_the_features_are_those_that_are_documented() -> None:
    cargo = (ROOT / "Cargo.toml").read_text()
    cargo = cargo[cargo.index("[features]") : cargo.index("[dependencies]")]
    features = set(re.findall(r"^([\w-]+) = \[", cargo, re.M))
    page = (ROOT / "docs" / "api.md").read_text()
    assert features - {"default"} == set(re.findall(r"^\| `([\w-]+)`", page, re.M))
