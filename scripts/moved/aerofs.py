"""What of aerofs is measured: files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import aerofs

if TYPE_CHECKING:
    from moved.measure import Operations


async def operations(folder: Path) -> Operations:
    path, content = str(folder / "read"), bytes(4096)
    async with aerofs.open(path, "wb") as file:
        await file.write(content)

    async def read() -> bytes:
        async with aerofs.open(path, "rb") as file:
            got: bytes = await file.read()
        return got

    async def write() -> None:
        async with aerofs.open(str(folder / "written"), "wb") as file:
            await file.write(content)

    return {
        "os.stat": lambda: aerofs.os.stat(path),
        "open, read of 4 KiB, close": read,
        "open, write of 4 KiB, close": write,
    }
