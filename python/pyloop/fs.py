"""tokio's file system calls for Python: what `os` and `open` do, without blocking the loop.

    async with pyloop.fs.open("data.bin") as file:
        async for line in file: ...

| | |
|---|---|
| `open` | a binary file: `read`, `readinto`, `readline`, `write`, `seek`, `async for line in file`, ... |
| `read`, `write`, `read_text`, `write_text` | a whole file |
| `read_dir` | the entries of a directory |
| `metadata`, `exists`, `canonicalize`, `read_link` | questions |
| `create_dir`, `create_dir_all`, `symlink`, `hard_link` | making |
| `rename`, `copy`, `set_permissions` | changing |
| `remove_file`, `remove_dir`, `remove_dir_all` | removing |

The calls are made by a pool of threads that never take the GIL. Paths are str, bytes or `os.PathLike`; paths
that come back are bytes where bytes went in. Errors are the `os` module's: FileNotFoundError and its like,
with `errno`, `strerror` and `filename`.

A call that the pool has begun goes on when its task is cancelled; nobody waits for it then.
"""

from __future__ import annotations

import io

from pyloop import _whole  # noqa: F401
from pyloop._fs import (
    DirEntry,
    File,
    Opening,
    ReadDir,
    canonicalize,
    copy,
    create_dir,
    create_dir_all,
    exists,
    hard_link,
    metadata,
    open,
    read,
    read_dir,
    read_link,
    remove_dir,
    remove_dir_all,
    remove_file,
    rename,
    set_permissions,
    symlink,
    write,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import StrOrBytesPath

__all__ = [
    "DirEntry",
    "File",
    "Opening",
    "ReadDir",
    "canonicalize",
    "copy",
    "create_dir",
    "create_dir_all",
    "exists",
    "hard_link",
    "metadata",
    "open",
    "read",
    "read_dir",
    "read_link",
    "read_text",
    "remove_dir",
    "remove_dir_all",
    "remove_file",
    "rename",
    "set_permissions",
    "symlink",
    "write",
    "write_text",
]


async def read_text(
    path: StrOrBytesPath, encoding: str = "utf-8", errors: str = "strict", newline: str | None = None
) -> str:
    """The whole content of a file, decoded as `io.open` does; UTF-8 unless told.

    Raises OSError, UnicodeDecodeError, LookupError for an unknown encoding.
    """
    with io.TextIOWrapper(io.BytesIO(await read(path)), encoding, errors, newline) as text:
        return text.read()


async def write_text(
    path: StrOrBytesPath,
    text: str,
    encoding: str = "utf-8",
    errors: str = "strict",
    newline: str | None = None,
) -> int:
    """Make a file's content this text, encoded as `io.open` does, and say how many characters it has.

    Raises OSError, UnicodeEncodeError (nothing is written), LookupError. Cancelled as `write` is.
    """
    data = io.BytesIO()
    with io.TextIOWrapper(data, encoding, errors, newline) as writer:
        count = writer.write(text)
        writer.flush()
        await write(path, data.getvalue())
    return count
