"""`trace`: what the loops of this process do, as a timeline for Perfetto."""

from __future__ import annotations

import os
from types import TracebackType
from typing import BinaryIO, Self

from pyloop import _native


class trace:
    """Record what the pyloop loops of this process do while the `with` block runs, and write it to a file.

        with pyloop.trace("out.json"):
            ...

    The file is in Chrome's trace event format: https://ui.perfetto.dev opens it. It is made when the block
    begins and written when it ends. Inside a coroutine the records begin with the loop's next turn; outside,
    they are those of the runs in the block, in whichever thread.

    `limit` is how many records are kept, 24 bytes each: of more, the oldest are dropped, and the file says
    how many (`otherData`). After the block `records` and `dropped` say so, too.

    Raises RuntimeError when another trace is being taken, OSError for a file that cannot be written,
    ValueError for a limit below 1, MemoryError for one that there is no memory for. What the block raises
    comes out of it in any case; that the file could not be written is then a note of it.
    """

    records = 0
    dropped = 0

    def __init__(self, path: str | os.PathLike[str], *, limit: int = 1_000_000) -> None:
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit!r}")
        self._path = path
        self._limit = limit

    def __enter__(self) -> Self:
        _native._trace_begin(self._limit)
        try:
            # Now: a path that cannot be written is told before anything has run.
            self._file: BinaryIO = open(self._path, "wb")
        except BaseException:
            _native._trace_end(None)
            raise
        self._process = os.getpid()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # A forked child has a copy: the file is its parent's.
            is_ours = self._process == os.getpid()
            with self._file:
                self.records, self.dropped = _native._trace_end(self._file.write if is_ours else None)
        except Exception as failed:
            if raised is None:
                raise
            raised.add_note(f"pyloop.trace could not write {os.fspath(self._path)!r}: {failed}")
