"""`pyloop.fs`: the calls about paths. `os`, `shutil` and `io` are the oracle."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support import making
from support.loops import Loop, turn
from support.rust import fs, start_background

pytestmark = [pytest.mark.usefixtures("pyloop_factory", "background"), making.on_every_host]

# A name that is no UTF-8.
ODD = os.fsdecode(b"odd-\xff\xfe")


@pytest.fixture(scope="module")
def background() -> None:
    start_background()


def test_a_whole_file_is_written_and_read(loop: Loop, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    path = tmp_path / "file"
    assert loop.run_until_complete(fs.write(path, data)) == len(data)
    assert path.read_bytes() == data
    read = loop.run_until_complete(fs.read(path))
    assert type(read) is bytes and read == data
    assert loop.run_until_complete(fs.write(path, b"short")) == 5
    assert path.read_bytes() == b"short"
    assert loop.run_until_complete(fs.write(path, b"")) == 0
    assert loop.run_until_complete(fs.read(path)) == b""


@pytest.mark.parametrize("make", [bytearray, memoryview, lambda data: memoryview(data)[::-1]])
def test_any_buffer_is_written_as_it_is_at_the_call(loop: Loop, tmp_path: Path, make: Any) -> None:
    data = make(bytearray(b"content"))
    expected = bytes(data)
    writing = fs.write(tmp_path / "file", data)
    if isinstance(data, bytearray):
        data[:] = b"changed"
    loop.run_until_complete(writing)
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize("name", ["plain", "with space", "ünicode", ODD])
@pytest.mark.parametrize("as_what", [str, Path, os.fsencode, lambda path: PathLike(os.fsencode(path))])
def test_every_kind_of_path_is_taken(loop: Loop, tmp_path: Path, name: str, as_what: Any) -> None:
    path = as_what(os.path.join(tmp_path, name))
    loop.run_until_complete(fs.write(path, b"data"))
    with open(path, "rb") as file:
        assert file.read() == b"data"
    assert loop.run_until_complete(fs.read(path)) == b"data"
    assert loop.run_until_complete(fs.canonicalize(path)) == os.path.realpath(path)


class PathLike:
    def __init__(self, path: Any) -> None:
        self.path = path

    def __fspath__(self) -> Any:
        return self.path


@pytest.mark.parametrize("wrong", [1, None, 1.5, ["path"], PathLike(3)], ids=repr)
def test_what_is_no_path_is_a_type_error(loop: Loop, wrong: Any) -> None:
    for call in (fs.read, fs.metadata, fs.read_dir, fs.open):
        with pytest.raises(TypeError):
            call(wrong)
    with pytest.raises(TypeError):
        fs.write("path", "text")


def test_a_null_in_a_path_is_a_value_error(loop: Loop) -> None:
    for path in ("a\0b", b"a\0b"):
        for call in (fs.read, fs.metadata, fs.read_dir, fs.open):
            with pytest.raises(ValueError, match="embedded null"):
                call(path)


# Each call against the os module's.

Act = Callable[..., Any]

TWINS: dict[str, tuple[Act, Act, int]] = {
    "metadata": (lambda a: fs.metadata(a), os.stat, 1),
    "lstat": (lambda a: fs.metadata(a, follow_symlinks=False), os.lstat, 1),
    "exists": (lambda a: fs.exists(a), os.path.exists, 1),
    "create_dir": (lambda a: fs.create_dir(a), os.mkdir, 1),
    "create_dir_all": (lambda a: fs.create_dir_all(a), lambda a: os.makedirs(a, exist_ok=True), 1),
    "remove_file": (lambda a: fs.remove_file(a), os.remove, 1),
    "remove_dir": (lambda a: fs.remove_dir(a), os.rmdir, 1),
    "canonicalize": (lambda a: fs.canonicalize(a), lambda a: os.path.realpath(a, strict=True), 1),
    "read_link": (lambda a: fs.read_link(a), os.readlink, 1),
    "set_permissions": (lambda a: fs.set_permissions(a, 0o640), lambda a: os.chmod(a, 0o640), 1),
    "rename": (lambda a, b: fs.rename(a, b), os.replace, 2),
    "symlink": (lambda a, b: fs.symlink(a, b), os.symlink, 2),
    # A link to the link itself, which is what `os.link` alone did on Linux before 3.14.
    "hard_link": (lambda a, b: fs.hard_link(a, b), partial(os.link, follow_symlinks=False), 2),
}
NAMES = [
    "file",
    "empty",
    "full",
    "link",
    "dangling",
    "loop",
    "missing",
    "missing/deeper",
    "file/below",
    "full/new",
    ".",
]


def plant(root: Path) -> None:
    (root / "file").write_bytes(b"content")
    (root / "empty").mkdir()
    (root / "full").mkdir()
    (root / "full" / "inside").write_bytes(b"x")
    (root / "link").symlink_to("file")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")


def tree(root: Path) -> list[tuple[Any, ...]]:
    found = list[tuple[Any, ...]]()
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        target = os.readlink(path).replace(str(root), "") if path.is_symlink() else None
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
        found.append((path.relative_to(root), info.st_mode, info.st_nlink, target, content))
    return found


def outcome(act: Callable[[], Any], root: Path) -> tuple[Any, ...]:
    try:
        result = act()
    except OSError as error:
        names = [
            None if name is None else os.path.relpath(name, root)
            for name in (error.filename, error.filename2)
        ]
        kinds = [type(name).__name__ for name in (error.filename, error.filename2)]
        return type(error), error.errno, error.strerror, names, kinds
    if isinstance(result, os.stat_result):
        return result.st_mode, result.st_nlink, result.st_size, result.st_uid, result.st_gid
    if isinstance(result, str) and os.path.isabs(result):
        result = os.path.relpath(result, os.path.realpath(root))
    return type(result), result


@pytest.mark.parametrize("call", list(TWINS))
def test_a_call_does_and_says_what_its_twin_in_os_does(loop: Loop, tmp_path: Path, call: str) -> None:
    def run(act: Act, given: list[Path]) -> Any:
        return loop.run_until_complete(act(*given))

    ours, theirs, paths = TWINS[call]
    others = NAMES if paths == 2 else [""]
    for number, first in enumerate(NAMES):
        for second in others:
            roots = [tmp_path / f"{number}-{second.replace('/', '-')}-{side}" for side in ("ours", "theirs")]
            for root in roots:
                root.mkdir()
                plant(root)
            given = [[root / first, root / second][:paths] for root in roots]
            if call == "create_dir_all" and first in ("file/below", "loop"):
                continue  # os.makedirs raises for the part that is in the way, with another path or number
            mine = outcome(partial(run, ours, given[0]), roots[0])
            expected = outcome(partial(theirs, *given[1]), roots[1])
            if call == "canonicalize" and len(expected) == 5:
                # os.path.realpath names the part that failed, we what was asked for.
                mine, expected = mine[:3], expected[:3]
            if call == "create_dir_all" and len(expected) == 5:
                mine, expected = mine[:3], expected[:3]
            assert mine == expected, (call, first, second)
            assert tree(roots[0]) == tree(roots[1]), (call, first, second)


def test_metadata_has_every_field_of_os_stat(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    os.utime(path, ns=(1_700_000_000_123_456_789, -1_500_000_001))
    for target in (path, tmp_path, "/dev/null"):
        mine, theirs = loop.run_until_complete(fs.metadata(target)), os.stat(target)
        fields = [name for name in dir(theirs) if name.startswith("st_")]
        assert {name: getattr(mine, name) for name in fields} == {
            name: getattr(theirs, name) for name in fields
        }
        assert tuple(mine) == tuple(theirs)
        assert type(mine) is os.stat_result


def test_bytes_in_bytes_out(loop: Loop, tmp_path: Path) -> None:
    target, link = tmp_path / ODD, tmp_path / "link"
    target.write_bytes(b"")
    link.symlink_to(target)
    assert loop.run_until_complete(fs.read_link(link)) == os.readlink(link) == str(target)
    assert loop.run_until_complete(fs.read_link(os.fsencode(link))) == os.fsencode(target)
    assert loop.run_until_complete(fs.canonicalize(os.fsencode(link))) == os.path.realpath(
        os.fsencode(target)
    )


def test_a_file_is_copied_with_its_permissions(loop: Loop, tmp_path: Path) -> None:
    src, dst = tmp_path / "src", tmp_path / "dst"
    src.write_bytes(b"content")
    src.chmod(0o640)
    assert loop.run_until_complete(fs.copy(src, dst)) == 7
    assert dst.read_bytes() == b"content"
    assert stat.S_IMODE(dst.stat().st_mode) == 0o640
    with pytest.raises(FileNotFoundError) as caught:
        loop.run_until_complete(fs.copy(tmp_path / "none", dst))
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "none"), str(dst))


def test_a_tree_is_removed_and_links_are_not_followed(loop: Loop, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    plant(outside)
    before = tree(outside)
    for side in (root, tmp_path / "other"):
        side.mkdir()
        plant(side)
        (side / "out").symlink_to(outside)
    loop.run_until_complete(fs.remove_dir_all(root))
    shutil.rmtree(tmp_path / "other")
    assert not root.exists()
    assert tree(outside) == before
    with pytest.raises(FileNotFoundError):
        loop.run_until_complete(fs.remove_dir_all(root))


@pytest.mark.parametrize("mode", [-1, 0o10000, 2**40])
def test_a_mode_is_checked(loop: Loop, tmp_path: Path, mode: int) -> None:
    with pytest.raises(ValueError, match="mode"):
        fs.set_permissions(tmp_path, mode)


# Text.


@pytest.mark.parametrize("newline", [None, "", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_text_is_what_io_makes_of_it(loop: Loop, tmp_path: Path, newline: str | None, encoding: str) -> None:
    text = "eins\nzwei\r\ndrei\rä\n"
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    count = loop.run_until_complete(fs.write_text(mine, text, encoding, newline=newline))
    with open(theirs, "w", encoding=encoding, newline=newline) as file:
        assert file.write(text) == count
    assert mine.read_bytes() == theirs.read_bytes()
    read = loop.run_until_complete(fs.read_text(mine, encoding, newline=newline))
    with open(theirs, encoding=encoding, newline=newline) as file:
        assert file.read() == read


def test_text_that_cannot_be_coded(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(UnicodeEncodeError):
        loop.run_until_complete(fs.write_text(path, "ä", "ascii"))
    assert not path.exists()
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        loop.run_until_complete(fs.read_text(path))
    assert loop.run_until_complete(fs.read_text(path, errors="replace")) == "\ufffd"
    with pytest.raises(LookupError):
        loop.run_until_complete(fs.read_text(path, "no-such-encoding"))


# Directories.


@pytest.mark.parametrize("as_what", [str, Path, os.fsencode])
def test_entries_are_those_of_scandir(loop: Loop, tmp_path: Path, as_what: Any) -> None:
    plant(tmp_path)
    (tmp_path / ODD).write_bytes(b"")
    for number in range(200):  # several trips to the pool
        (tmp_path / f"many-{number}").write_bytes(b"")

    async def main() -> list[tuple[Any, ...]]:
        return [
            (
                entry.name,
                entry.path,
                os.fspath(entry),
                said(entry.is_dir),
                said(entry.is_file),
                entry.is_symlink(),
                entry.inode(),
                (await entry.metadata(follow_symlinks=False)).st_mode,
            )
            async for entry in fs.read_dir(as_what(tmp_path))
        ]

    with os.scandir(as_what(tmp_path)) as entries:
        theirs = [
            (
                entry.name,
                entry.path,
                os.fspath(entry),
                said(entry.is_dir),
                said(entry.is_file),
                entry.is_symlink(),
                entry.inode(),
                entry.stat(follow_symlinks=False).st_mode,
            )
            for entry in entries
        ]
    assert sorted(loop.run_until_complete(main())) == sorted(theirs)


def said(question: Callable[[], bool]) -> bool | tuple[int, Any]:
    """The answer, or the error about a link that leads to itself."""
    try:
        return question()
    except OSError as error:
        assert error.errno is not None
        return error.errno, error.filename


@pytest.mark.parametrize("name", ["missing", "file", "loop"])
def test_a_directory_that_cannot_be_read(loop: Loop, tmp_path: Path, name: str) -> None:
    plant(tmp_path)
    directory = fs.read_dir(tmp_path / name)
    mine = outcome(lambda: loop.run_until_complete(anext(directory)), tmp_path)
    assert mine == outcome(lambda: os.scandir(tmp_path / name), tmp_path)
    with pytest.raises(StopAsyncIteration):
        loop.run_until_complete(anext(directory))


def test_a_cancelled_step_loses_no_entry(loop: Loop, tmp_path: Path) -> None:
    names = {f"file-{number}" for number in range(150)}
    for name in names:
        (tmp_path / name).write_bytes(b"")

    async def main() -> list[str]:
        directory, found = fs.read_dir(tmp_path), list[str]()
        while True:
            step = asyncio.create_task(anext(directory))
            await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            try:
                if not step.cancelled():
                    found.append(step.result().name)
                found.append((await anext(directory)).name)
            except StopAsyncIteration:
                return found

    found = loop.run_until_complete(main())
    assert len(found) == len(names)
    assert set(found) == names


# Cancelling.


def test_a_call_that_was_never_begun_does_nothing(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    task = loop.create_task(fs.write(path, b"data"))
    task.cancel()
    turn(loop, 2)
    assert task.cancelled()
    assert not path.exists()


def test_a_call_that_was_begun_is_ended_by_the_pool(loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def main() -> None:
        task = asyncio.create_task(fs.write(path, b"data" * 1000))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        while not path.exists() or path.stat().st_size < 4000:
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert path.read_bytes() == b"data" * 1000


def test_many_calls_at_once(loop: Loop, tmp_path: Path) -> None:
    async def main() -> list[bytes]:
        paths = [tmp_path / str(number) for number in range(100)]
        await asyncio.gather(*[fs.write(path, path.name.encode()) for path in paths])
        return list(await asyncio.gather(*[fs.read(path) for path in paths]))

    assert loop.run_until_complete(main()) == [str(number).encode() for number in range(100)]


def test_everything_public_is_documented(loop: Loop) -> None:
    import pyloop.fs

    for name in pyloop.fs.__all__:
        thing = getattr(pyloop.fs, name)
        assert thing.__doc__, name
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            assert attribute.startswith("_") or member.__doc__, f"{name}.{attribute}"
