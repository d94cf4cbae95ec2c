"""`pyloop.testing_plugin`: leak checks, virtual time and seeds for pytest."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path
from types import ModuleType

import pytest

from support.process import environment

SUITE = """
import asyncio, os, threading, unittest
import pytest, pyloop

LEFT = []

async def wait_for_ever():
    await asyncio.get_running_loop().create_future()

@pytest.fixture(scope="module")
def wide():
    LEFT.extend(os.pipe())
    yield
    for fd in LEFT[:2]:
        os.close(fd)

def test_leaves_nothing(wide):
    asyncio.run(asyncio.sleep(0))

def test_leaves_a_task():
    async def main():
        task = asyncio.create_task(wait_for_ever(), name="forgotten")
        LEFT.append(task)
        await asyncio.sleep(0)
    asyncio.run(main())

def test_ends_its_task():
    async def main():
        task = asyncio.create_task(wait_for_ever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    asyncio.run(main())

def test_leaves_a_timer():
    async def main():
        asyncio.get_running_loop().call_later(3600, print, "late")
    asyncio.run(main())

def test_cancels_its_timer():
    async def main():
        asyncio.get_running_loop().call_later(3600, print).cancel()
    asyncio.run(main())

def test_leaves_a_reader():
    reader, writer = os.pipe()
    async def main():
        asyncio.get_running_loop().add_reader(reader, print)
    asyncio.run(main())
    os.close(reader), os.close(writer)

def test_leaves_a_descriptor():
    LEFT.extend(os.pipe())

@pytest.mark.pyloop_leaks("tasks")
def test_may_leave_a_descriptor():
    LEFT.extend(os.pipe())

@pytest.mark.pyloop_leaks()
def test_may_leave_all():
    test_leaves_a_task()

def test_leaves_a_thread():
    stop = threading.Event()
    LEFT.append(stop)
    threading.Thread(target=stop.wait, name="forgotten", daemon=True).start()

class Case(unittest.IsolatedAsyncioTestCase):
    async def test_in_a_case(self):
        LEFT.append(asyncio.create_task(wait_for_ever(), name="of a case"))

@pytest.mark.asyncio
async def test_of_pytest_asyncio_leaves_a_task():
    LEFT.append(asyncio.create_task(wait_for_ever(), name="of pytest-asyncio"))

@pytest.mark.asyncio
async def test_of_pytest_asyncio_leaves_nothing():
    await asyncio.to_thread(int)

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_of_anyio_leaves_a_task():
    LEFT.append(asyncio.create_task(wait_for_ever(), name="of anyio"))

@pytest.mark.anyio
async def test_of_anyio_leaves_nothing():
    await asyncio.sleep(0)

@pytest.mark.pyloop_virtual_time
@pytest.mark.asyncio
async def test_virtual_time_by_pytest_asyncio():
    await asyncio.sleep(3600)
    assert asyncio.get_running_loop().time() == 3600

@pytest.mark.pyloop_virtual_time(autojump_threshold=0.01)
def test_virtual_time():
    asyncio.run(asyncio.sleep(3600))

def test_order():
    async def main():
        seen = []
        event = asyncio.Event()
        async def waits(number):
            await event.wait()
            seen.append(number)
        tasks = [asyncio.create_task(waits(number)) for number in range(8)]
        await asyncio.sleep(0)
        event.set()
        await asyncio.gather(*tasks)
        assert seen == list(range(8))
    asyncio.run(main())
"""

# Which tests complain, of what.
LEFT = {
    "test_leaves_a_task": ["pending task: <Task ", "name='forgotten'"],
    "test_leaves_a_timer": ["pending timer: <TimerHandle "],
    "test_leaves_a_reader": ["watched: "],
    "test_leaves_a_descriptor": ["descriptor ", " was left open: pipe:"],
    "test_leaves_a_thread": ["thread was left running: <Thread(forgotten"],
    "test_in_a_case": ["name='of a case'"],
    "test_of_pytest_asyncio_leaves_a_task": ["name='of pytest-asyncio'"],
    "test_of_anyio_leaves_a_task": ["name='of anyio'"],
}


def pytest_run(folder: Path, *options: str) -> tuple[dict[str, str], str]:
    """What each test of the suite was reported with (nothing: it passed), and the whole output."""
    (folder / "test_suite.py").write_text(SUITE)
    plugins = ["-p", "pyloop.pytest_plugin", "-p", "pyloop.testing_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *plugins, "--junitxml=report.xml", *options, "test_suite.py"]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found: dict[str, str] = {}
    for case in xml.parse(folder / "report.xml").iter("testcase"):
        texts = [f"{part.get('message')}\n{part.text}" for part in case if part.tag in ("failure", "error")]
        found[str(case.get("name"))] = found.get(str(case.get("name")), "") + "\n".join(texts)
    return found, ran.stdout


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], str]:
    frameworks = ["-p", "pytest_asyncio.plugin", "-p", "anyio.pytest_plugin"]
    return pytest_run(tmp_path_factory.mktemp("suite"), *frameworks, "--pyloop-leaks=all", "--pyloop-seed=3")


def test_what_a_test_left_behind_is_an_error_of_that_test(checked: tuple[dict[str, str], str]) -> None:
    reported, output = checked
    assert {name for name, text in reported.items() if text} == {*LEFT, "test_order"}, output
    for name, parts in LEFT.items():
        assert all(part in reported[name] for part in parts), reported[name]


def test_the_header_and_a_failed_test_say_the_seed(checked: tuple[dict[str, str], str]) -> None:
    assert "pyloop leaks: tasks, handles, descriptors, threads\npyloop seed: 3\n" in checked[1]
    assert "--pyloop-seed=3 replays this order of tasks" in checked[1]


@pytest.mark.parametrize(
    ("ini", "found"),
    [("", set[str]()), ("pyloop_leaks = descriptors\npyloop_shuffle = true", {"test_leaves_a_descriptor"})],
)
def test_the_ini_file_says_what_is_checked(tmp_path: Path, ini: str, found: set[str]) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    reported, output = pytest_run(tmp_path, "-k", "test_leaves_a_descriptor or test_leaves_a_task")
    assert {name for name, text in reported.items() if text} == found
    assert ("pyloop leaks: descriptors\n" in output and "pyloop seed: " in output) == bool(found)


def test_a_kind_that_is_none_is_refused(pyloop: ModuleType) -> None:
    from pyloop import testing_plugin

    assert testing_plugin._checked(["all"]) == {"tasks", "handles", "descriptors", "threads"}
    with pytest.raises(
        pytest.UsageError, match="knows tasks, handles, descriptors, threads and all, not files"
    ):
        testing_plugin._checked(["tasks", "files"])
