"""Open files of `pyloop.fs`. Python's own files are the oracle."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.process import output
from support.rust import fs, pyloop, start_background

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


def test_a_block_closes_its_file(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with fs.open(path, "wb") as file:
            assert (file.name, file.mode, file.closed) == (str(path), "wb", False)
            assert os.fstat(file.fileno()).st_ino == path.stat().st_ino
            assert await file.write(b"content") == 7
            assert path.read_bytes() == b"content"  # written, not buffered
        assert file.closed
        assert repr(file) == f"<pyloop.fs.File name={str(path)!r} mode='wb' closed>"
        await file.close()
        for use in (
            file.read,
            file.readline,
            file.tell,
            file.flush,
            lambda: file.write(b""),
            lambda: file.seek(0),
        ):
            with pytest.raises(ValueError, match="closed file"):
                await use()
        with pytest.raises(ValueError, match="closed file"):
            file.fileno()
        file = await fs.open(path)
        async with file:
            assert await file.read() == b"content"
        assert file.closed

    loop.run_until_complete(main())


def test_a_file_is_closed_when_its_block_raises(loop: Loop, tmp_path: Path) -> None:
    files = list[Any]()

    async def main() -> None:
        async with fs.open(tmp_path / "file", "xb") as file:
            files.append(file)
            raise KeyError("inside")

    with pytest.raises(KeyError):
        loop.run_until_complete(main())
    assert files[0].closed


MODES = [kind + plus for kind in ("rb", "wb", "ab", "xb") for plus in ("", "+")]


@pytest.mark.parametrize("mode", [*MODES, "r+b", "+br"])
@pytest.mark.parametrize("name", ["existing", "new", "directory", "missing/new"])
def test_modes_do_what_they_do_in_io(loop: Loop, tmp_path: Path, mode: str, name: str) -> None:
    def plant(root: Path) -> Path:
        root.mkdir()
        (root / "existing").write_bytes(b"existing content")
        (root / "directory").mkdir()
        return root / name

    async def use(path: Path) -> list[Any]:
        async with fs.open(path, mode) as file:
            return [file.mode, await attempt_async(file.read), await attempt_async(lambda: file.write(b"##"))]

    async def attempt_async(act: Callable[[], Any]) -> Any:
        try:
            return await act()
        except io.UnsupportedOperation as error:
            return type(error)

    def attempt(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except io.UnsupportedOperation as error:
            return type(error)

    ours, theirs = plant(tmp_path / "ours"), plant(tmp_path / "theirs")

    def use_theirs() -> list[Any]:
        with open(theirs, mode) as file:
            return [file.mode, attempt(file.read), attempt(lambda: file.write(b"##"))]

    def outcome(act: Callable[[], list[Any]], path: Path) -> Any:
        try:
            return act(), path.read_bytes()
        except OSError as error:
            return type(error), error.errno, error.strerror, error.filename == str(path)

    assert outcome(lambda: loop.run_until_complete(use(ours)), ours) == outcome(use_theirs, theirs)


@pytest.mark.parametrize("mode", ["", "b", "rw", "rwb", "rbb", "U", "zb"])
def test_other_modes_are_refused(loop: Loop, mode: str) -> None:
    with pytest.raises(ValueError, match="mode"):
        fs.open("path", mode)


@pytest.mark.parametrize("mode", ["r", "w", "rt", "a+"])
def test_text_modes_say_where_text_is(loop: Loop, mode: str) -> None:
    with pytest.raises(ValueError, match=r"read_text\(\)"):
        fs.open("path", mode)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"one\ntwo\nthree", b"a\r\nb\rc\n\n", b"x" * 300_000 + b"\n" + b"y" * 70_000 + b"\n"],
)
def test_lines_are_those_of_io(loop: Loop, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)

    async def main() -> tuple[list[bytes], list[bytes]]:
        async with fs.open(path) as file:
            iterated = [line async for line in file]
            await file.seek(0)
            read = list[bytes]()
            while line := await file.readline():
                read.append(line)
            return iterated, read

    with open(path, "rb") as file:
        expected = list(file)
    assert loop.run_until_complete(main()) == (expected, expected)


def test_a_buffer_is_filled(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")

    async def main() -> None:
        async with fs.open(path) as file:
            buffer = bytearray(4)
            assert await file.readinto(buffer) == 4
            assert buffer == b"0123"
            assert await file.readinto(memoryview(buffer)[1:3]) == 2
            assert buffer == b"0453"
            large = bytearray(b"." * 10)
            assert await file.readinto(large) == 4
            assert large == b"6789......"
            assert await file.readinto(large) == 0
            assert await file.readinto(bytearray()) == 0
            large.append(1)  # no longer exported
            for wrong in (b"read-only", memoryview(buffer)[::2]):
                with pytest.raises(BufferError):
                    file.readinto(wrong)

    loop.run_until_complete(main())


@pytest.mark.parametrize("seed", range(8))
def test_random_operations_do_what_they_do_in_io(loop: Loop, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    content = chance.randbytes(200_000).replace(b"\0", b"\n")
    mode = chance.choice(["rb+", "rb+", "wb+", "ab+"])
    for path in (ours, theirs):
        path.write_bytes(content)

    def plan() -> tuple[str, tuple[Any, ...]]:
        act = chance.choice(
            ["read", "read", "readline", "write", "seek", "tell", "set_len", "readinto", "flush"]
        )
        size = chance.choice([0, 1, 10, 5_000, 70_000, 150_000])
        if act == "seek":
            whence = chance.randrange(3)
            return act, (size if whence == 0 else -size if whence == 2 else 0, whence)
        return act, {
            "read": (size,),
            "write": (chance.randbytes(size),),
            "set_len": (size,),
            "readinto": (size,),
        }.get(act, ())

    def do(file: Any, act: str, args: tuple[Any, ...]) -> Any:
        try:
            if act == "set_len":
                file.truncate(*args)
                return None
            if act == "readinto":
                buffer = bytearray(args[0])
                return file.readinto(buffer), bytes(buffer)
            result = getattr(file, act)(*args)
            file.flush()  # ours has no buffer for writing
        except OSError as error:
            return error.errno
        return result

    async def do_async(file: Any, act: str, args: tuple[Any, ...]) -> Any:
        try:
            if act == "readinto":
                buffer = bytearray(args[0])
                return await file.readinto(buffer), bytes(buffer)
            return await getattr(file, act)(*args)
        except OSError as error:
            return error.errno

    async def main() -> None:
        with open(theirs, mode) as other:
            async with fs.open(ours, mode) as file:
                for _ in range(60):
                    act, args = plan()
                    mine, expected = await do_async(file, act, args), do(other, act, args)
                    assert mine == expected, (act, args[:1])
                other.flush()
                assert ours.read_bytes() == theirs.read_bytes()

    loop.run_until_complete(main())


def test_a_seek_to_nowhere(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")

    async def main() -> None:
        async with fs.open(tmp_path / "file") as file:
            assert await file.read(4) == b"0123"
            for offset, whence in ((-1, 0), (-11, 2), (-5, 1)):
                with pytest.raises(OSError, match="Invalid argument"):
                    await file.seek(offset, whence)
            with pytest.raises(ValueError, match="whence"):
                file.seek(0, 7)
            assert await file.tell() == 4
            assert await file.read(1) == b"4"

    loop.run_until_complete(main())


def test_data_reach_the_disk(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with fs.open(tmp_path / "file", "wb") as file:
            await file.write(bytearray(b"data"))
            await file.sync_all()
            await file.sync_data()
            assert (await file.metadata()).st_size == 4
            await file.set_len(10)
            assert (await file.metadata()).st_size == 10
            with pytest.raises(OSError, match="Invalid argument"):
                file.set_len(-1)
        with pytest.raises(OSError, match="Invalid argument") as caught:
            async with fs.open("/dev/null", "wb") as null:
                await null.sync_all()
        assert caught.value.errno == 22

    loop.run_until_complete(main())


def test_an_error_of_a_write_is_raised_by_it(loop: Loop) -> None:
    async def main() -> None:
        async with fs.open("/dev/full", "wb") as full:
            for _ in range(2):
                with pytest.raises(OSError, match="No space left") as caught:
                    await full.write(b"data")
                assert caught.value.errno == 28

    loop.run_until_complete(main())


def test_operations_at_once_are_done_in_order(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        async with fs.open(path, "wb+") as file:
            await asyncio.gather(*[file.write(b"%03d" % number) for number in range(100)])
            await file.seek(0)
            assert await asyncio.gather(*[file.read(3) for _ in range(100)]) == [
                b"%03d" % n for n in range(100)
            ]

    loop.run_until_complete(main())
    assert path.read_bytes() == b"".join(b"%03d" % number for number in range(100))


# Cancelling.


@pytest.mark.parametrize("seed", range(3))
def test_a_cancelled_read_loses_nothing(loop: Loop, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(500_000)
    (tmp_path / "file").write_bytes(content)

    async def main() -> bytes:
        read = bytearray()
        async with fs.open(tmp_path / "file") as file:
            while True:
                step = asyncio.create_task(file.read(chance.choice([10, 1000, 90_000])))
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                step.cancel()
                await asyncio.wait([step])
                if not step.cancelled():
                    read += step.result()
                if not (data := await file.read(chance.choice([100, 100_000]))):
                    return bytes(read)
                read += data

    assert loop.run_until_complete(main()) == content


def test_a_cancelled_write_is_a_prefix_and_the_next_comes_after_it(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    large = b"x" * (47 * 1024 * 1024)  # more than is written in two turns

    async def main() -> int:
        async with fs.open(path, "wb") as file:
            writing = asyncio.create_task(file.write(large))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
            assert writing.cancelled()
            await file.write(b"end")
            position: int = await file.tell()
            return position

    size = loop.run_until_complete(main())
    content = path.read_bytes()
    assert len(content) == size
    assert content == large[: size - 3] + b"end"
    assert (size - 3) % (2 * 1024 * 1024) == 0 or size - 3 == len(large)


def test_a_write_cancelled_before_it_began_writes_nothing(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        async with fs.open(tmp_path / "file", "wb") as file:
            writing = asyncio.create_task(file.write(b"data"))
            writing.cancel()
            await asyncio.wait([writing])

    loop.run_until_complete(main())
    assert (tmp_path / "file").read_bytes() == b""


def test_a_cancelled_open_leaves_no_descriptor(loop: Loop, tmp_path: Path) -> None:
    """The guard of each test counts them."""

    async def main() -> None:
        for turns in range(4):
            opening = asyncio.create_task(wait(fs.open(tmp_path / f"file-{turns}", "wb")))
            for _ in range(turns):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                await opening.result().close()
        while any("file-" in name for name in descriptors()):
            await asyncio.sleep(0)

    async def wait(opening: Any) -> Any:
        return await opening

    def descriptors() -> list[str]:
        found = list[str]()
        for fd in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        return found

    loop.run_until_complete(main())
    turn(loop)


def test_a_file_that_was_not_closed_is_reported_and_closed(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        file = await fs.open(tmp_path / "file", "wb")
        await file.write(b"data")

    def run() -> None:
        loop.run_until_complete(main())
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"unclosed file <pyloop.fs.File name=.*mode='wb'>"):
        run()


def test_a_close_that_fails_says_so(loop: Loop, tmp_path: Path) -> None:
    async def main() -> None:
        # A loop of another kind opens a descriptor for the first future that waits: not with this number.
        await pyloop.sleep(0.001)
        file = await fs.open(tmp_path / "file", "wb")
        os.close(file.fileno())
        with pytest.raises(OSError) as caught:
            await file.close()
        assert caught.value.errno == errno.EBADF
        assert file.closed
        await file.close()

    loop.run_until_complete(main())


def test_a_pipe_is_opened_to_be_appended_to(loop: Loop, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    async def main() -> None:
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        async with fs.open(tmp_path / "pipe", "ab") as file:
            await file.write(b"through it")
        assert os.read(reader, 99) == b"through it"
        os.close(reader)

    loop.run_until_complete(main())


def test_a_program_ends_with_calls_under_way(loop: Loop, tmp_path: Path) -> None:
    kind = "pyloop" if "pyloop" in type(loop).__module__ else "asyncio"
    script = f"""
import pyloop.fs as fs
async def main():
    tasks = [asyncio.create_task(fs.write({str(tmp_path)!r} + f"/{{n}}", b"x" * 100_000)) for n in range(20)]
    await asyncio.sleep(0)
asyncio.run(main(), loop_factory=new_event_loop)
print("end")
"""
    assert output(kind, script) == "end\n"
