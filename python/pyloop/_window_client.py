"""`python -m pyloop ps PID` and `trace PID`, and the way into a process: through its window.

From CPython 3.14 on a process that has none open is told to open one, by `sys.remote_exec`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import select
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyloop import _window_server as server
from pyloop.window import Dump

#: How long the process may take to run what it is sent, in seconds.
PATIENCE = 5.0
#: A window that a look has opened stays for so long after it.
LINGER = 5.0


class LookFailedError(Exception):
    """Nobody can look into that process. The text says why, and what to do."""


class Client:
    """Asks a process through its window; closed by `with`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._answers = sock.makefile("rb")

    def ask(self, what: str, **how: Any) -> dict[str, Any]:
        """The answer. Raises LookFailedError for an error, or when the process has gone."""
        self._send(what, how)
        found: dict[str, Any] = self._receive()["answer"]
        return found

    def _send(self, what: str, how: dict[str, Any]) -> None:
        try:
            self._sock.sendall(json.dumps({"ask": what, **how}).encode() + b"\n")
        except OSError as failed:
            raise LookFailedError(f"the process does not answer: {failed}") from None

    def _receive(self) -> dict[str, Any]:
        """The next line, if it is no error."""
        line = self._received(self._answers.readline)
        if not line.endswith(b"\n"):
            raise LookFailedError("the process has closed its window")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LookFailedError(answer["error"])
        return answer

    def _received(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except OSError as failed:
            raise LookFailedError(f"the process does not answer: {failed}") from None

    def dump(self, limit: int) -> Dump:
        """What its loops do. Raises LookFailedError."""
        return Dump.from_dict(self.ask("dump", limit=limit))

    def begin_trace(self, seconds: float, limit: int) -> None:
        """Have it record. Raises LookFailedError."""
        self._send("trace", {"seconds": seconds, "limit": limit})
        self._receive()

    def wait_for_trace(self, seconds: float) -> None:
        """Wait until it has recorded for so long."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.poll((seconds + PATIENCE) * 1000)

    def end_trace(self) -> None:
        """Nothing more is asked for: the process ends the trace, and sends it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def receive_trace(self, write: Callable[[bytes], object]) -> dict[str, Any]:
        """The document, piece by piece; how many records it has, and how many had to go.

        Raises LookFailedError, and what `write` raises.
        """
        while (size := (answer := self._receive()).get("piece")) is not None:
            piece = self._received(functools.partial(self._answers.read, size))
            if len(piece) != size:
                raise LookFailedError("the process has closed its window")
            write(piece)
        found: dict[str, Any] = answer["answer"]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.close()
        self._sock.close()


def connect(pid: int) -> Client:
    """Look into a process: through the window that it has, else one that it is told to open.

    Raises LookFailedError when neither works.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        _remove_stale(pid)
        raise LookFailedError(f"there is no process {pid}") from None
    except PermissionError:
        raise LookFailedError(f"process {pid} is another user's") from None
    user = _user_of(pid)
    for path in _places(pid, user):
        if (found := _through(path, user)) is not None:
            return found
    if not hasattr(sys, "remote_exec"):
        raise LookFailedError(
            f"process {pid} has no window open: have it call pyloop.open_window(), or start it with "
            "PYLOOP_WINDOW=1. From CPython 3.14 on neither is needed"
        )
    path = Path(_have_opened(pid, user))
    if (found := _through(path, user)) is None:
        raise LookFailedError(f"{path} cannot be opened")
    return found


def _user_of(pid: int) -> int:
    """Whose process it is: root may look into each."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return os.geteuid()


def _through(path: Path, user: int) -> Client | None:
    sock = socket.socket(socket.AF_UNIX)
    try:
        # Another user may have put a socket where this user's would be.
        server.check_folder(path.parent, user)
        # An answer takes as long as the loop may take for it.
        sock.settimeout(server.MOST_PATIENCE + PATIENCE)
        sock.connect(str(path))
        return Client(sock)
    except OSError:
        sock.close()
        return None


def _places(pid: int, user: int) -> list[Path]:
    """Where its window may be: it may have been started with another environment than this process."""
    folders = server.folders(user)
    with contextlib.suppress(OSError):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        known = dict(each.split(b"=", 1) for each in variables if b"=" in each)
        if runtime := known.get(b"XDG_RUNTIME_DIR"):
            folders.append(Path(os.fsdecode(runtime)) / "pyloop")
        temporary = os.fsdecode(known.get(b"TMPDIR", b"/tmp"))
        folders.append(Path(temporary) / f"pyloop-{user}")
    return [server.socket_in(folder, pid) for folder in dict.fromkeys(folders)]


def _remove_stale(pid: int) -> None:
    for folder in server.folders():
        path = server.socket_in(folder, pid)
        with contextlib.suppress(OSError):
            server.check_folder(folder)
            if server.is_stale(path):
                path.unlink(missing_ok=True)


# --- CPython 3.14 and later ---

_SCRIPT = """\
def look(place=__PLACE__, linger=__LINGER__):
    import json, os, sys
    try:
        if "pyloop" not in sys.modules:
            raise RuntimeError("it has not imported pyloop")
        from pyloop._window_server import open_window
        answer = {"path": open_window(linger).path}
    except BaseException as failed:
        answer = {"error": f"{type(failed).__name__}: {failed}"}
    with open(place + ".new", "w") as file:
        json.dump(answer, file)
    os.rename(place + ".new", place)

look()
del look
"""


def _have_opened(pid: int, user: int) -> str:
    """Have the process open a window, for as long as somebody looks in: where. Raises LookFailedError."""
    folder = Path(tempfile.mkdtemp(prefix="pyloop-"))
    script, reply, sent = folder / "look.py", folder / "reply.json", False
    try:
        script.write_text(_SCRIPT.replace("__PLACE__", repr(str(reply))).replace("__LINGER__", repr(LINGER)))
        if user != os.geteuid():
            os.chown(folder, user, -1)
        _send(pid, str(script))
        sent = True
        _wait_for(reply, pid)
        answer = json.loads(reply.read_text())
    finally:
        if sent and not reply.exists():
            # The process will run it some day. What it finds then takes away what is left of this look.
            script.write_text(f"import shutil; shutil.rmtree({str(folder)!r}, ignore_errors=True)\n")
        else:
            shutil.rmtree(folder)
    if "error" in answer:
        raise LookFailedError(f"process {pid}: {answer['error']}")
    return str(answer["path"])


def _send(pid: int, script: str) -> None:
    remote_exec: Callable[[int, str], None] = sys.remote_exec  # type: ignore[attr-defined,unused-ignore]
    try:
        remote_exec(pid, script)
    except (OSError, RuntimeError, ValueError) as refused:
        raise LookFailedError(
            f"Python may not look into process {pid} ({refused}): "
            "start it with PYLOOP_WINDOW=1, or look as root"
        ) from None


def _wait_for(reply: Path, pid: int) -> None:
    deadline, next_nudge = time.monotonic() + PATIENCE, time.monotonic() + 0.05
    while not reply.exists():
        now = time.monotonic()
        if now > deadline:
            raise LookFailedError(
                f"the main thread of process {pid} runs no Python code: nothing can be sent to it. "
                "A program started with PYLOOP_WINDOW=1 can be looked into at any time"
            )
        if now > next_nudge:
            nudge(pid)
            next_nudge = now + 1
        time.sleep(0.01)


_SEIZE, _INTERRUPT, _DETACH, _ALL_KINDS = 0x4206, 0x4207, 17, 0x40000000


def nudge(pid: int) -> None:
    """End for a moment what the main thread of a process sleeps in, as a debugger does that comes and goes.

    A loop that sleeps runs what it was sent only when it wakes. On Linux alone, and nothing where it is
    forbidden: `sys.remote_exec` has asked for the same permission.
    """
    if sys.platform != "linux":
        return
    # Not at the top: libffi keeps a descriptor open for as long as the process lives.
    import ctypes

    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    if ptrace(_SEIZE, pid, None, None) != 0:
        return
    # A thread that cannot be stopped now is let go of by the kernel, when this process ends.
    if ptrace(_INTERRUPT, pid, None, None) == 0:
        deadline = time.monotonic() + 1
        while os.waitpid(pid, os.WNOHANG | _ALL_KINDS) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.001)
    ptrace(_DETACH, pid, None, None)


# --- the commands ---


def ps(arguments: Sequence[str]) -> int:
    """`python -m pyloop ps PID`: the tree, or JSON. The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pyloop ps",
        description="The tasks of a process: where each waits, for what, how long.",
    )
    parser.add_argument("pid", type=int, metavar="PID", help="the process")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--limit", type=int, default=server.MOST_TASKS, metavar="N", help="tasks of each loop"
    )
    given = parser.parse_args(arguments)
    try:
        with connect(given.pid) as client:
            found = client.dump(given.limit)
    except LookFailedError as failed:
        print(f"python -m pyloop ps: {failed}", file=sys.stderr)
        return 1
    print(found.to_json(indent=2) if given.json else found)
    return 0


def trace(arguments: Sequence[str]) -> int:
    """`python -m pyloop trace PID`: a timeline of another process, for Perfetto. The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pyloop trace",
        description="What the loops of a process do, as a timeline: https://ui.perfetto.dev opens it.",
    )
    parser.add_argument("pid", type=int, metavar="PID", help="the process")
    parser.add_argument("--seconds", type=_seconds, default=5.0, metavar="S", help="how long (5); ^C ends it")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to (trace-PID.json)")
    parser.add_argument(
        "--limit", type=int, default=server.RECORDS, metavar="N", help="records that are kept (1,000,000)"
    )
    given = parser.parse_args(arguments)
    path: Path = given.output or Path(f"trace-{given.pid}.json")
    try:
        with connect(given.pid) as client, _writable(path):
            client.begin_trace(given.seconds, given.limit)
            try:
                print(f"recording process {given.pid} for {given.seconds:g} s", file=sys.stderr, flush=True)
                client.wait_for_trace(given.seconds)
            except KeyboardInterrupt:
                client.end_trace()
            with path.open("wb") as file:
                told = client.receive_trace(file.write)
    except LookFailedError as failed:
        print(f"python -m pyloop trace: {failed}", file=sys.stderr)
        return 1
    except OSError as failed:
        print(f"python -m pyloop trace: {path} cannot be written: {failed.strerror}", file=sys.stderr)
        return 1
    dropped = f", the last of {told['records'] + told['dropped']:,}" if told["dropped"] else ""
    print(f"{path}: {told['records']:,} records{dropped}. https://ui.perfetto.dev opens it", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Raises OSError now, and not when all is recorded. What fails then leaves no new file."""
    is_new = not path.exists()
    path.open("ab").close()
    try:
        yield
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= server.LONGEST_TRACE:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0, {server.LONGEST_TRACE:g} at most"
        )
    return seconds
