"""Count the lines of a tree of files, many at a time, without blocking the loop.

    python examples/files.py [DIRECTORY]

The pool of threads reads; the loop counts, and goes on ticking meanwhile.
"""

import asyncio
import sys
from pathlib import Path

import pyloop
from pyloop import fs, sync


async def walk(directory: Path, found: sync.Sender[str]) -> None:
    """Send the path of each Python file below a directory; links are not followed."""
    async for entry in fs.read_dir(directory):
        if entry.is_symlink():
            continue
        if entry.is_dir():
            await walk(Path(entry), found)
        elif entry.name.endswith(".py"):
            await found.send(entry.path)


async def count(paths: sync.Receiver[str], lines: dict[str, int]) -> None:
    """Take paths until there are none; each file is read line by line."""
    async for path in paths:
        async with fs.open(path) as file:
            lines[path] = 0
            async for _ in file:
                lines[path] += 1


async def tick(ticks: list[float]) -> None:
    """What a blocked loop would not do."""
    loop = asyncio.get_running_loop()
    while True:
        ticks.append(loop.time())
        await pyloop.sleep(0.001)


def counted(directory: Path) -> dict[str, int]:
    """The same, as a plain program does it."""
    files = [path for path in directory.rglob("*.py") if not path.is_symlink()]
    return {str(path): path.read_bytes().count(b"\n") for path in files}


async def main(directory: Path) -> None:
    """One task walks, four count."""
    lines: dict[str, int] = {}
    ticks: list[float] = []
    found, paths = sync.mpsc(16)
    ticking = asyncio.create_task(tick(ticks))
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(count(paths, lines))
        with found:
            await walk(directory, found)
    ticking.cancel()

    assert lines == counted(directory) and lines and ticks
    print(f"{sum(lines.values()):,} lines in {len(lines)} files, {len(ticks)} ticks meanwhile")


if __name__ == "__main__":
    pyloop.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent))
