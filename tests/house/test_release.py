"""What a release asks of the source, and that the workflows and templates are what they say."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from house.pythons import Python
from house.release import CRATES, asked_of, version_of, wheels_command
from support.source import ROOT

GITHUB = ROOT / ".github"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source that is ready."""
    (tmp_path / "Cargo.toml").write_text(
        '[workspace.package]\nversion = "1.2.3"\n[package]\nrepository = "there"\n'
    )
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[project.urls]\nHomepage = "there"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-01-02\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *words], check=True)
    return tmp_path


def faults(source: Path) -> list[str]:
    return [name for name, why in asked_of(source, version_of(source)) if why]


def test_a_source_that_is_ready_has_no_faults(source: Path) -> None:
    assert faults(source) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("CHANGELOG.md", "[1.2.3]", "[1.2.2]", "changelog"),
        ("pyproject.toml", "[project.urls]", "[project.no]", "urls"),
        ("Cargo.toml", "repository", "no", "repository"),
    ],
)
def test_what_is_not_ready_is_named(source: Path, file: str, old: str, new: str, fault: str) -> None:
    text = (source / file).read_text()
    (source / file).write_text(text.replace(old, new))
    assert faults(source) == ["git", fault]


def test_the_version_is_in_one_place() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert cargo["dependencies"]["pyloop-macros"]["version"] == version_of(ROOT)
    assert PROJECT["dynamic"] == ["version"]
    for manifest in (ROOT / "Cargo.toml", *(ROOT / "crates").glob("*/Cargo.toml")):
        assert tomllib.loads(manifest.read_text())["package"]["version"] == {"workspace": True}, manifest


def test_the_crates_that_are_published_are_those_that_may_be() -> None:
    manifests = [ROOT / "Cargo.toml", *(ROOT / "crates").glob("*/Cargo.toml")]
    packages = [tomllib.loads(manifest.read_text())["package"] for manifest in manifests]
    assert {each["name"] for each in packages if each.get("publish", True)} == set(CRATES)


def test_wheels_are_made_from_the_source_distribution_for_each_python() -> None:
    pythons = [Python("3.13", "/no/python3.13"), Python("3.12", "/no/python3.12")]
    words = wheels_command(pythons[0], pythons)
    assert "--sdist" in words and "--zig" not in words  # RELEASING.md says why
    assert words[words.index("-i") + 1 :] == [str(py.exe) for py in pythons]


def test_the_workflows_have_each_python_that_is_supported() -> None:
    supported = [
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert len(supported) >= 4
    for name in ("ci", "wheels"):
        text = (GITHUB / "workflows" / f"{name}.yml").read_text()
        workflow = yaml.safe_load(text)
        assert workflow["name"] == name
        assert all(job["steps"] for job in workflow["jobs"].values())
        for version in supported:
            assert re.search(rf"^ +{re.escape(version)}$", text, re.M), (name, version)


def test_the_check_is_the_same_everywhere() -> None:
    steps = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())["jobs"]["check"]["steps"]
    assert "bash .ci/run" in [step.get("run") for step in steps]


@pytest.mark.parametrize(
    "form", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda form: form.stem
)
def test_a_form_is_one(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    if form.stem == "config":
        assert read == {"blank_issues_enabled": True}
        return
    assert read["name"]
    assert read["description"]
    ids = [part["id"] for part in read["body"] if part["type"] != "markdown"]
    assert len(set(ids)) == len(ids) > 0
