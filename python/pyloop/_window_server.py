"""The window that `pyloop ps`, `top` and `trace` look through: a Unix socket, and the thread behind it.

A request is a line of JSON, `{"ask": "dump", "limit": 1000}`; so is its answer, `{"answer": ...}` or
`{"error": "in words"}`. Before that of a trace comes what was recorded. A loop is asked by
`call_soon_threadsafe` and given some time; of one that does not answer the thread's stack is shown, and its
tasks as this thread finds them.

The socket is in a folder of the user's that nobody else may enter, may be opened by the user alone, and on
Linux the kernel tells whose each peer is. A forked child has nothing of it: no thread, no socket, no file.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyloop import _awaits, _compat, _native
from pyloop.window import Dump, LoopInfo, known_loops, look, of_process, stack_of_thread

#: The longest request, in bytes.
LONGEST = 65_536
#: So many peers at a time.
MOST_PEERS = 8
#: How long a loop may take to answer, in seconds, unless the request says another time; at most so long.
PATIENCE, MOST_PATIENCE = 1.0, 10.0
#: How many tasks are shown of a loop, unless the request says another number. Each takes the loop some 25 us.
MOST_TASKS = 1000
#: How many seconds a trace may take, and how many records it may keep, at most. A record is 24 bytes.
LONGEST_TRACE, MOST_RECORDS = 3600.0, 10_000_000
#: How many records a trace keeps, unless the request says another number.
RECORDS = 1_000_000
#: How long a peer may take to receive a piece of a trace, in seconds.
PIECE_PATIENCE = 30.0
#: A peer that asks nothing for so many seconds has gone.
PEER_PATIENCE = 3600.0


class Window:
    """An open window, of `pyloop.open_window`. Closed by `close()`, `with`, and the process's end."""

    def __init__(self, path: Path, listener: socket.socket, linger: float | None) -> None:
        self._path = path
        self._pid = os.getpid()
        self._listener = listener
        self._linger = linger
        self._peers: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="pyloop-window", daemon=True)

    @property
    def path(self) -> str:
        """Where its socket is."""
        return str(self._path)

    @property
    def closed(self) -> bool:
        """Whether nobody can look in any more."""
        return self._closed

    def close(self) -> None:
        """Let nobody in any more: who looks in is cut off, the socket is removed. Again, it does nothing.

        In a forked child it does nothing either: the window is the parent's.
        """
        if not self._end():
            return
        for thread in (self._thread, *list(self._peers.values())):
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        if self._linger is not None:
            self._listener.settimeout(self._linger)
        self._thread.start()
        atexit.register(self.close)

    def _end(self) -> bool:
        """Close what there is. False: somebody has, or it is the parent's."""
        with _lock:
            if self._closed or self._pid != os.getpid():
                return False
            self._closed = True
            if _state.window is self:
                _state.window = None
            if threading.current_thread() is not self._thread:
                self._wake()
            with contextlib.suppress(OSError):
                self._path.unlink()
        atexit.unregister(self.close)
        for peer in list(self._peers):
            # The thread that waits for it wakes up, and closes it.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        return True

    def _wake(self) -> None:
        """Have the thread come back from `accept`, and close the socket."""
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(1)
            sock.connect(str(self._path))
            return
        # Somebody has removed the file. With a time-out the thread comes back by itself, or would spin.
        if self._linger is None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        with self._listener:
            while not self._closed:
                try:
                    peer, _ = self._listener.accept()
                except TimeoutError:
                    if not self._peers:
                        self._end()
                except OSError:
                    # Closed; or no descriptor is left, which may be otherwise soon.
                    time.sleep(0 if self.closed else 0.1)
                else:
                    if self.closed:
                        peer.close()
                    else:
                        self._receive(peer)

    def _receive(self, peer: socket.socket) -> None:
        """Have a thread of its own serve a peer that may look in."""
        refused = None if is_users_own(peer) else "this window is another user's"
        if len(self._peers) >= MOST_PEERS:
            refused = f"{MOST_PEERS} look in already"
        if refused is None:
            thread = threading.Thread(target=self._talk, args=(peer,), name="pyloop-window-peer", daemon=True)
            self._peers[peer] = thread
            try:
                thread.start()
                return
            except RuntimeError as failed:  # no thread can be started
                del self._peers[peer]
                refused = str(failed)
        with peer, contextlib.suppress(OSError):
            peer.settimeout(1)
            peer.sendall(_line({"error": refused}))

    def _talk(self, peer: socket.socket) -> None:
        try:
            peer.settimeout(PEER_PATIENCE)
            with peer, peer.makefile("rb") as requests, contextlib.suppress(OSError):
                while not self._closed and (request := requests.readline(LONGEST + 1)):
                    if len(request) > LONGEST:
                        peer.sendall(_line({"error": f"a request is {LONGEST} bytes long at most"}))
                        return
                    peer.sendall(answer_to(request, peer))
        finally:
            self._peers.pop(peer, None)


class _State:
    """This process's window."""

    window: Window | None = None
    #: Whether a trace is being taken through it.
    traces = False


_state = _State()
_lock = threading.RLock()


def open_window(linger: float | None = None) -> Window:
    """As `pyloop.open_window`; `linger`: it closes itself when nobody has looked in for so many seconds."""
    with _lock:
        if _state.window is None:
            path, listener = _listen()
            window = Window(path, listener, linger)
            try:
                window._begin()
            except BaseException:
                listener.close()
                path.unlink(missing_ok=True)
                raise
            _state.window = window
        return _state.window


def open_as_asked() -> None:
    """`PYLOOP_WINDOW=1`: the process has made a loop. What cannot be opened is said in the log."""
    try:
        if _state.window is None:
            open_window()
    except (OSError, RuntimeError) as failed:
        _compat.log_warning("PYLOOP_WINDOW: no window can be opened: %s", failed)


def _forget() -> None:
    """The first thing in a forked child: the window is the parent's."""
    global _lock
    _lock = threading.RLock()
    window, _state.window = _state.window, None
    if window is not None:
        for sock in (window._listener, *window._peers):
            # The child's copy of the descriptor.
            with contextlib.suppress(OSError):
                os.close(sock.detach())
    if _state.traces:
        _state.traces = False
        with contextlib.suppress(RuntimeError):  # its parent had just ended it
            _native._trace_end(None)


os.register_at_fork(after_in_child=_forget)

# --- where it is ---


def folders(user: int | None = None) -> list[Path]:
    """Where windows of a user's processes may be (None: this user), the one for new ones first."""
    found = [Path(tempfile.gettempdir()) / f"pyloop-{os.geteuid() if user is None else user}"]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime):
        found.insert(0, Path(runtime) / "pyloop")
    return found


def check_folder(folder: Path, user: int | None = None) -> None:
    """Raises PermissionError for one that others than the user may enter; OSError when there is none."""
    known, user = folder.lstat(), os.geteuid() if user is None else user
    if not stat.S_ISDIR(known.st_mode) or known.st_uid != user or known.st_mode & 0o077:
        raise PermissionError(
            f"{folder} must be a folder of the user's that nobody else may enter (mode 0700)"
        )


def socket_in(folder: Path, pid: int) -> Path:
    """Where the window of a process is."""
    return folder / f"{pid}.sock"


def _listen() -> tuple[Path, socket.socket]:
    failed: OSError | None = None
    for folder in folders():
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            check_folder(folder)
            path = socket_in(folder, os.getpid())
            found = path, _listen_at(path)
            _sweep(folder)
            return found
        except OSError as refused:
            failed = failed or refused
    assert failed is not None
    raise failed


def _listen_at(path: Path) -> socket.socket:
    # A process of the same number has left it there, or one in another container has it.
    if path.exists() and not is_stale(path):
        raise FileExistsError(f"{path} is the window of another process")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        os.chmod(path, 0o600)
        listener.listen(MOST_PEERS)
    except BaseException:
        listener.close()
        raise
    return listener


def _sweep(folder: Path) -> None:
    """Remove what processes have left that were killed. In another container a number may be somebody's."""
    for path in folder.glob("*.sock"):
        try:
            os.kill(int(path.stem), 0)
        except ProcessLookupError:
            if is_stale(path):
                path.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue


def is_stale(path: Path) -> bool:
    """Whether nobody serves this socket any more."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
        except ConnectionRefusedError:
            return True
        except FileNotFoundError:
            return True
        except OSError:
            return False
    return False


def is_users_own(peer: socket.socket) -> bool:
    """Whether the other end is this user's, or root's. Where the kernel does not tell, the folder does."""
    credentials = getattr(socket, "SO_PEERCRED", None)
    if credentials is None:
        return True
    _pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, credentials, 12))
    return uid in (os.geteuid(), 0)


# --- what is asked ---


def answer_to(request: bytes, peer: socket.socket) -> bytes:
    """The line that answers a line. It raises nothing: what is wrong with the request is in the answer."""
    try:
        given = json.loads(request)
        if not isinstance(given, dict):
            raise ValueError('a request is an object: {"ask": ...}')
        ask = ASKS.get(given.pop("ask", None))
        if ask is None:
            raise ValueError(f"a request asks for one of {', '.join(ASKS)}")
        return _line({"answer": ask(peer, **given)})
    except Exception as failed:
        return _line({"error": f"{type(failed).__name__}: {failed}"})


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, default=str).encode() + b"\n"


def _hello(_peer: socket.socket) -> dict[str, Any]:
    return {"pid": os.getpid(), "python": sys.version.split()[0], "pyloop": _native.__version__}


def _dump(_peer: socket.socket, limit: object = MOST_TASKS, patience: object = PATIENCE) -> dict[str, Any]:
    if not isinstance(limit, int) or limit < 0:
        raise ValueError("limit is a number of tasks")
    if not isinstance(patience, (int, float)) or not 0 <= patience <= MOST_PATIENCE:
        raise ValueError(f"patience is a number of seconds, {MOST_PATIENCE} at most")
    return ask_loops(limit, patience).to_dict()


def _trace(peer: socket.socket, seconds: object = 5.0, limit: object = RECORDS) -> dict[str, Any]:
    """Record for so long, or until the peer asks for something else, sends no more, or goes; then send it."""
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_TRACE:
        raise ValueError(f"seconds is a number above 0, {LONGEST_TRACE:g} at most")
    if not isinstance(limit, int) or not 1 <= limit <= MOST_RECORDS:
        raise ValueError(f"limit is a number of records, from 1 to {MOST_RECORDS}")
    if not known_loops():
        raise RuntimeError("it has no loop of pyloop's")
    _native._trace_begin(limit)
    _state.traces = True
    is_there = False
    peer.settimeout(PIECE_PATIENCE)
    try:
        peer.sendall(_line({"recording": seconds}))
        is_there = _stays(peer, seconds)
        if is_there:
            _wake_loops()
    finally:
        _state.traces = False
        records, dropped = _native._trace_end(_Pieces(peer) if is_there else None)
        peer.settimeout(PEER_PATIENCE)
    return {"records": records, "dropped": dropped}


def _stays(peer: socket.socket, seconds: float) -> bool:
    """Wait so long, or until something comes from the peer. False: it has gone."""
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return not any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(seconds * 1000))


def _wake_loops() -> None:
    """Have each loop come round: a sleep, like everything, is recorded when it is over."""
    woken = list[threading.Event]()
    for loop in known_loops():
        if loop.is_running():
            woken.append(threading.Event())
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(woken[-1].set)
    deadline = time.monotonic() + PATIENCE
    for event in woken:
        event.wait(max(0, deadline - time.monotonic()))


class _Pieces:
    """Sends a document to a peer, each piece after a line that says how many bytes it has."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer

    def __call__(self, piece: bytes) -> None:
        try:
            self._peer.sendall(_line({"piece": len(piece)}))
            self._peer.sendall(piece)
        except OSError:
            # Whatever came next would be taken for the rest of the piece.
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
            raise


#: What may be asked for, and who answers.
ASKS: dict[Any, Callable[..., dict[str, Any]]] = {"hello": _hello, "dump": _dump, "trace": _trace}


class _Question:
    """What a loop is asked, by another thread."""

    def __init__(self, loop: Any, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._answer: LoopInfo | Exception | None = None
        self._done = threading.Event()
        self._given_up = False
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            loop.call_soon_threadsafe(self)

    def __call__(self) -> None:
        try:
            if not self._given_up:
                self._answer = look(self._loop, self._limit)
        except Exception as failed:  # for who asked, and not for the loop's exception handler
            self._answer = failed
        finally:
            self._done.set()

    def answer(self, deadline: float) -> LoopInfo:
        while self._loop.is_running() and not self._done.is_set() and time.monotonic() < deadline:
            self._done.wait(min(0.1, max(0, deadline - time.monotonic())))
        if isinstance(self._answer, Exception):
            raise self._answer
        if self._answer is not None:
            return self._answer
        self._given_up = True
        ident = _awaits.thread_of(self._loop)
        return look(self._loop, self._limit, stuck=None if ident is None else stack_of_thread(ident))


def ask_loops(limit: int = MOST_TASKS, patience: float = PATIENCE) -> Dump:
    """What the loops of this process do, each asked in its own thread."""
    deadline = time.monotonic() + patience
    loops = known_loops()
    asked = {id(loop): _Question(loop, limit) for loop in loops if loop.is_running()}
    found = [asked[id(loop)].answer(deadline) if id(loop) in asked else look(loop, limit) for loop in loops]
    return of_process(found)
