"""Everything that `subprocess.Popen` can be given reaches the child, and what fails leaves nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Run
from support.process import output


async def talk(process: Process, given: bytes | None = None) -> Any:
    """What communicate() says; typeshed does not know that either may be None."""
    return await process.communicate(given)


async def said(script: str, **more: Any) -> str:
    """What a shell prints that runs this line."""
    process = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=PIPE, **more)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


def test_another_program_may_run_under_a_name(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            "name", "-c", "echo $0 $1", executable="/bin/sh", stdout=PIPE
        )
        assert await talk(process) == (b"name\n", None)

    run(main())


@pytest.mark.parametrize(
    "program", ["/bin/echo", b"/bin/echo", Path("/bin/echo")], ids=["str", "bytes", "Path"]
)
def test_names_may_be_of_each_kind(run: Run, program: Any) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(program, b"bytes", Path("path"), stdout=PIPE)
        assert await talk(process) == (b"bytes path\n", None)
        assert await said("echo $WORD", env={b"WORD": b"given", "PATH": os.environ["PATH"]}) == "given"

    run(main())


def test_a_function_is_called_in_the_child(run: Run) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        parent = os.getpid()

        def before() -> None:
            os.write(writing, b"parent" if os.getpid() == parent else b"child")

        assert await said("echo ran", preexec_fn=before) == "ran"
        os.close(writing)
        assert os.read(reading, 100) == b"child"
        os.close(reading)

    run(main())


def test_a_function_that_fails_in_the_child_is_an_error_and_leaves_nothing(run: Run) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        before = descriptors()
        with pytest.raises(subprocess.SubprocessError):
            await asyncio.create_subprocess_exec(
                "true", preexec_fn=fail, stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
        assert descriptors() == before

    run(main())


@pytest.mark.parametrize("closes", [True, False])
def test_inheritable_descriptors_are_closed_unless_they_are_not_to_be(run: Run, closes: bool) -> None:
    async def main() -> None:
        reading, writing = os.pipe()
        os.set_inheritable(writing, True)
        there = await said(f"test -e /dev/fd/{writing} && echo yes || echo no", close_fds=closes)
        assert there == ("no" if closes else "yes")
        os.close(reading)
        os.close(writing)

    run(main())


def test_a_directory_that_is_missing_is_an_error_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        before = descriptors()
        with pytest.raises(FileNotFoundError, match="missing"):
            await asyncio.create_subprocess_exec("true", cwd=tmp_path / "missing", stdin=PIPE, stdout=PIPE)
        assert descriptors() == before

    run(main())


def test_a_group_a_user_and_a_mask_of_its_own(run: Run) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "ps -o pgid= -p $$; umask", stdout=PIPE, process_group=0, umask=0o27
        )
        out, _ = await process.communicate()
        assert [int(word, base) for word, base in zip(out.split(), (10, 8), strict=True)] == [
            process.pid,
            0o27,
        ]
        if os.getuid() == 0:
            more: dict[str, Any] = {"user": 65_534, "group": 65_533, "extra_groups": [65_532]}
            assert await said("id -u; id -g; id -G", **more) == "65534\n65533\n65533 65532"
        else:
            assert await said("id -u", user=os.getuid(), group=os.getgid()) == str(os.getuid())

    run(main())


@pytest.mark.parametrize("restores", [True, False])
def test_ignored_signals_are_restored_unless_they_are_not_to_be(run: Run, restores: bool) -> None:
    async def main() -> None:
        line = await said("grep SigIgn /proc/self/status", restore_signals=restores)
        ignored = int(line.split()[1], 16)
        assert bool(ignored & 1 << (signal.SIGPIPE - 1)) is not restores

    if sys.platform != "linux":
        pytest.skip("reads what Linux tells of a process")
    run(main())


def test_the_size_of_the_pipes(run: Run) -> None:
    if not hasattr(fcntl, "F_GETPIPE_SZ"):
        pytest.skip("only Linux has pipes of other sizes")

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, pipesize=8192)
        assert process.stdin
        end = process.stdin.transport.get_extra_info("pipe")
        assert fcntl.fcntl(end, fcntl.F_GETPIPE_SZ) == 8192
        assert await talk(process, b"x" * 100_000) == (b"x" * 100_000, None)

    run(main())


def test_what_only_windows_has_is_taken_or_refused_as_by_popen(run: Run) -> None:
    async def main() -> None:
        assert await said("echo ran", startupinfo=None, creationflags=0) == "ran"
        with pytest.raises(ValueError, match="startupinfo"):
            await said("true", startupinfo=object())
        with pytest.raises(ValueError, match="creationflags"):
            await said("true", creationflags=1)

    run(main())


@pytest.mark.parametrize("wrong", [{"nothing": 1}, {"stdin": "file"}, {"cwd": 1.5}, {"pass_fds": [-1]}])
def test_what_popen_refuses_is_refused_and_leaves_nothing(run: Run, wrong: dict[str, Any]) -> None:
    async def main() -> None:
        before = descriptors()
        with pytest.raises((TypeError, ValueError, AttributeError)):
            await asyncio.create_subprocess_exec("true", **{"stdin": PIPE, "stdout": PIPE, **wrong})
        assert descriptors() == before

    run(main())


def test_hooks_of_forks_are_not_called(loop_kind: str) -> None:
    # A process of its own: a hook stays.
    script = """
import os
os.register_at_fork(before=lambda: print("fork"))

async def main():
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
    print(await process.communicate(b"through"))

asyncio.run(main(), loop_factory=new_event_loop)
"""
    assert output(loop_kind, script) == "(b'through', None)\n"
