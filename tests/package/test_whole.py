"""Another project's package of the same name, put over this one or taken from under it, is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.patience import patient
from support.process import environment

OTHERS = {"overwritten": "__all__ = []\n", "taken away": None, "alike": "def new_event_loop(): ...\n"}


@pytest.fixture(params=OTHERS)
def site(request: pytest.FixtureRequest, tmp_path: Path, pyloop: ModuleType) -> Path:
    """A folder with a package in which `__init__.py` is another's."""
    assert pyloop.__file__ is not None
    package = tmp_path / "pyloop"
    package.mkdir()
    for file in Path(pyloop.__file__).parent.iterdir():
        if file.suffix in (".py", ".so"):
            (package / file.name).symlink_to(file)
    (package / "__init__.py").unlink()
    if (text := OTHERS[request.param]) is not None:
        (package / "__init__.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [("-m", "pyloop", "-V"), ("-c", "import pyloop.sync"), ("-c", "from pyloop import fs")],
    ids=["command", "sync", "fs"],
)
def test_each_way_in_says_what_has_happened(words: tuple[str, ...], site: Path) -> None:
    # -S: the package that is tested is not among those that are installed.
    ran = subprocess.run(
        [sys.executable, "-S", *words],
        capture_output=True,
        text=True,
        timeout=patient(9),
        env=environment(PYTHONPATH=str(site)),
        cwd=site,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {site / 'pyloop'}")
    assert "pip uninstall pyloop pyloop-rs" in last
