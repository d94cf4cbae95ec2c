"""Every name of asyncio that is not public and that pyloop leans on, in one place.

`tests/package/test_compat.py` pins them: a CPython that renames one fails there first. The native half takes
its share from here too, once, at the first use.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import contextvars
import inspect
import socket
import sys
import traceback
import types
from asyncio import (
    base_events,
    base_futures,
    base_tasks,
    constants,
    coroutines,
    events,
    exceptions,
    format_helpers,
    futures,
    selector_events,
    sslproto,
    streams,
    tasks,
    transports,
    unix_events,
)
from asyncio.log import logger
from collections import deque
from collections.abc import AsyncGenerator, Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from pyloop import _awaits

if TYPE_CHECKING:
    from typing import type_check_only

    from pyloop import _native
    from pyloop._loop import EventLoop

# --- tasks: the documented protocol of third-party tasks, and the registers behind it ---

register_task: Callable[[Any], None] = tasks._register_task
unregister_task: Callable[[Any], None] = tasks._unregister_task
enter_task: Callable[[Any, Any], None] = tasks._enter_task
leave_task: Callable[[Any, Any], None] = tasks._leave_task
swap_current_task: Callable[[Any, Any], Any] = tasks._swap_current_task

#: CPython 3.12 and 3.13: the dictionary from loop to current task that `current_task()` reads. Later versions
#: keep the current task on the thread; a dictionary of that name is a copy there.
current_tasks: dict[Any, Any] | None = tasks._current_tasks if sys.version_info < (3, 14) else None

all_tasks: Callable[[Any], set[Any]] = tasks.all_tasks
current_task: Callable[[Any], Any] = tasks.current_task


def forget_tasks_of(loop: EventLoop) -> None:
    """Have `asyncio.all_tasks` not show this loop's tasks of other classes than ours: CPython's own, say."""
    for task in asyncio.all_tasks(loop):
        tasks._unregister_task(task)
        tasks._unregister_eager_task(task)


def create_task_by_factory(loop: EventLoop, coro: Any, **kwargs: Any) -> Any:
    """`BaseEventLoop.create_task` with a task factory: each Python calls it in its own way."""
    return base_events.BaseEventLoop.create_task(loop, coro, **kwargs)


def _loop_attributes() -> tuple[str, ...]:
    from pyloop import _native

    loop = asyncio.BaseEventLoop()
    loop.close()
    return tuple(name for name in sorted(vars(loop)) if not hasattr(_native.Loop, name))


#: The attributes of a loop that `BaseEventLoop.__init__` sets and that are not native.
loop_attributes: tuple[str, ...] = _loop_attributes()


#: `(loop, generator)`: an asynchronous generator that the loop has iterated is collected.
finalize_asyncgen: Callable[[Any, Any], None] = base_events.BaseEventLoop._asyncgen_finalizer_hook
get_future_loop: Callable[[Any], Any] = futures._get_loop

# --- the loop ---

#: asyncio's policy, and what sets one: their public names make a warning since CPython 3.14.
default_policy: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
set_policy: Any = getattr(events, "_set_event_loop_policy", None) or asyncio.set_event_loop_policy


def get_running_loop() -> Any:
    """The loop that runs in this thread, or None: documented, as the next, for loops written elsewhere."""
    return events._get_running_loop()


def set_running_loop(loop: Any) -> None:
    """Have `get_running_loop` give this loop, or None."""
    events._set_running_loop(loop)


#: What our classes override, call or keep under a private name of the asyncio class whose part they play.
PARTS: dict[str, tuple[str, ...]] = {
    "BaseEventLoop": (
        "_add_callback",
        "_check_closed",
        "_check_running",
        "_debug",
        "_default_executor",
        "_make_read_pipe_transport",
        "_make_subprocess_transport",
        "_make_write_pipe_transport",
        "_process_events",
    ),
    # What the transports and the methods in `AsyncioTransports` ask of their loop.
    "SelectorEventLoop": ("_csock", "_handle_signal", "_selector", "_signal_handlers", "_ssock"),
    "BaseTransport": ("_extra",),
    "BaseSubprocessTransport": ("_closed", "_connect_pipes", "_process_exited", "_wait"),
    "_SelectorSocketTransport": (
        "_fatal_error",
        "_force_close",
        "_make_empty_waiter",
        "_maybe_pause_protocol",
        "_reset_empty_waiter",
        "_sendfile_compatible",
        "_start_tls_compatible",
    ),
    "_UnixWritePipeTransport": ("_close", "_fatal_error", "_maybe_pause_protocol"),
    "_UnixDefaultEventLoopPolicy": ("_loop_factory",),
}


def _wraps_stop_iteration() -> bool:
    future: Any = futures._PyFuture(loop=types.SimpleNamespace(get_debug=lambda: False))
    try:
        future.set_exception(StopIteration())
    except TypeError:
        return False
    return isinstance(future.exception(), RuntimeError)


#: gh-112182: later versions wrap a StopIteration given to `set_exception` in a RuntimeError, earlier ones
#: refuse it.
wraps_stop_iteration: bool = _wraps_stop_iteration()

# --- looks: what asyncio's objects print ---

future_repr: Callable[[Any], str] = base_futures._future_repr
task_repr: Callable[[Any], str] = base_tasks._task_repr
task_get_stack: Callable[[Any, int | None], list[FrameType]] = base_tasks._task_get_stack
task_print_stack: Callable[[Any, int | None, Any], None] = base_tasks._task_print_stack
handle_repr: Callable[[Any], str] = events.Handle.__repr__
handle_repr_info: Callable[[Any], list[str]] = events.Handle._repr_info
#: What `call_soon_threadsafe` gives back: a class of its own since CPython 3.14.
thread_safe_handle: type[events.Handle] = (
    events._ThreadSafeHandle if sys.version_info >= (3, 14) else events.Handle
)
timer_handle_repr_info: Callable[[Any], list[str]] = events.TimerHandle._repr_info


def format_callback_source(callback: Any, args: tuple[Any, ...], debug: bool) -> str:
    """The callback as asyncio's error reports name it (`format_helpers._format_callback_source`)."""
    keywords = {"debug": debug} if sys.version_info >= (3, 13) else {}
    return str(format_helpers._format_callback_source(callback, args, **keywords))


#: The tasks that await a future of ours, for asyncio's call graphs (`Future._asyncio_awaited_by`).
awaited_by: Callable[[Any], Any] = _awaits.awaited_by


def extract_stack() -> Any:
    """Where the native call comes from, for `_source_traceback` (debug mode).

    Empty for a thread of somebody else's that runs no Python code.
    """
    caller = sys._getframe().f_back
    return traceback.StackSummary() if caller is None else format_helpers.extract_stack(caller)


def done_handle(callback: Any, future: Any, loop: EventLoop, context: contextvars.Context) -> events.Handle:
    """A handle for the report of a done callback that raised: natively there is none."""
    return events.Handle(callback, (future,), loop, context)


def callback_handle(callback: Any, args: Any, loop: EventLoop, context: contextvars.Context) -> events.Handle:
    """As `done_handle`, of what a transport calls where asyncio has a callback."""
    return events.Handle(callback, args, loop, context)


def do_nothing() -> None:
    """An exception that another thread has asked for (`PyThreadState_SetAsyncExc`) is raised here."""


def is_coroutine_like(callback: Any) -> bool:
    """`BaseEventLoop._check_callback`'s test for what must not be given to `call_soon`."""
    return coroutines.iscoroutine(callback) or _iscoroutinefunction(callback)


_iscoroutinefunction: Callable[[Any], bool] = (
    inspect.iscoroutinefunction if sys.version_info >= (3, 14) else asyncio.iscoroutinefunction
)


def report_slow(subject: Any, seconds: float) -> None:
    """The debug mode's report of a callback or a step that took long (`BaseEventLoop._run_once`)."""
    text = repr(subject) if isinstance(subject, asyncio.Task) else str(subject)
    callback = getattr(subject, "_callback", None)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        text = repr(owner)
    logger.warning("Executing %s took %.3f seconds", text, seconds)


# --- what tools put in the place of asyncio's functions ---


def _is_asyncios(function: Any, module: types.ModuleType, qualname: str) -> bool:
    """Whether it is CPython's own function. Another may have been in its place before pyloop was imported."""
    return (
        type(function) is types.FunctionType
        and function.__globals__ is vars(module)
        and function.__code__.co_qualname == qualname
    )


def is_replaced_above(loop: Any, name: str) -> bool:
    """Whether a method of `BaseEventLoop` that our loop has natively is somebody else's there."""
    classes = type(loop).__mro__
    if _Serving not in classes:
        return False
    above = classes[classes.index(_Serving) + 1 :]
    function = next((vars(each)[name] for each in above if name in vars(each)), None)
    return not _is_asyncios(function, base_events, f"BaseEventLoop.{name}")


def call_above(loop: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
    """That method. CPython's own, which it is likely to call, puts handles where our loop does not look."""
    result = getattr(super(_Serving, loop), name)(*args, **kwargs)
    while loop._ready:
        loop._add_callback(loop._ready.popleft())
    while loop._scheduled:
        loop._add_timer(loop._scheduled.pop())
    return result


def handles_are_replaced() -> bool:
    """Whether the `_run` of asyncio's handles is somebody else's."""
    own = _is_asyncios(vars(events.Handle).get("_run"), events, "Handle._run")
    return not own or "_run" in vars(events.TimerHandle)


_READS = ["read", "readexactly", "readline", "readuntil"]
#: The methods of each class that pyloop does itself, and the attributes that have the state of its instances.
_STREAMS: dict[Any, tuple[list[str], list[str]]] = {
    streams.StreamReader: (
        [*_READS, "exception", "feed_data", "_maybe_resume_transport", "_wait_for_data", "_wakeup_waiter"],
        ["_buffer", "_eof", "_exception", "_limit", "_loop", "_paused", "_transport", "_waiter"],
    ),
    streams.StreamReaderProtocol: (
        ["data_received", "_drain_helper"],
        ["_connection_lost", "_paused", "_stream_reader_wr"],
    ),
    streams.StreamWriter: (["drain"], ["_loop", "_protocol", "_reader", "_transport"]),
}
_STREAM_READER = vars(streams.StreamReaderProtocol)["_stream_reader"]
_ACCESS = ("__getattribute__", "__getattr__", "__setattr__", "__delattr__")


def streams_are_replaced(*classes: type) -> bool:
    """Whether a method of these classes is somebody else's, or their instances have their state elsewhere."""
    for cls in classes:
        methods, attributes = _STREAMS[cls]
        for name in methods:
            owner = next((each for each in cls.__mro__ if name in vars(each)), None)
            if owner is None or not _is_asyncios(vars(owner)[name], streams, f"{owner.__name__}.{name}"):
                return True
        for name in (*attributes, *_ACCESS):
            if any(name in vars(each) for each in cls.__mro__[:-1]):
                return True
    return vars(streams.StreamReaderProtocol).get("_stream_reader") is not _STREAM_READER


def run_handle(cls: type[events.Handle], handle: events.Handle) -> None:
    """`handle._run()`, for a handle of ours that is to asyncio one of this class: as the class has it."""
    run: Any = cls._run
    try:
        if type(run) is types.FunctionType:
            run(handle)
        else:
            run = inspect.getattr_static(cls, "_run")
            bind = getattr(type(run), "__get__", None)
            (run if bind is None else bind(run, handle, cls))()
    finally:
        # A traceback has this frame, as the one below it. asyncio's lets go of the handle, too.
        del handle, run


_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "lt": events.TimerHandle.__lt__,
    "le": events.TimerHandle.__le__,
    "gt": events.TimerHandle.__gt__,
    "ge": events.TimerHandle.__ge__,
    "eq": events.TimerHandle.__eq__,
}


def compare_timer_handles(handle: Any, other: Any, operator: str) -> Any:
    """`asyncio.TimerHandle`'s comparisons: by deadline, equal when everything is."""
    if operator == "ne":
        equal = compare_timer_handles(handle, other, "eq")
        return equal if equal is NotImplemented else not equal
    if not isinstance(other, events.TimerHandle):
        return NotImplemented
    if operator in ("le", "ge") and handle._when == other._when:
        return True if operator == "ge" else handle._when < other._when or _equal(handle, other)
    if operator == "eq":
        return _equal(handle, other)
    return _COMPARISONS[operator](handle, other)


def _equal(handle: Any, other: Any) -> bool:
    return bool(
        handle._when == other._when
        and handle._callback == other._callback
        and handle._args == other._args
        and handle._cancelled == other._cancelled
    )


# --- sockets ---


def check_socket(sock: socket.socket, debug: bool) -> None:
    """The checks that open each of asyncio's `sock_*` methods.

    Raises TypeError for an `ssl.SSLSocket`, ValueError in debug mode for a socket that blocks.
    """
    base_events._check_ssl_socket(sock)
    if debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")


sighandler_noop: Callable[[int, FrameType | None], None] = unix_events._sighandler_noop
UnixSubprocessTransport: Any = unix_events._UnixSubprocessTransport
waitstatus_to_exitcode: Callable[[int], int] = unix_events.waitstatus_to_exitcode


if TYPE_CHECKING:
    from asyncio import BaseEventLoop as _LoopBase
else:
    _LoopBase = object


class _Serving(_LoopBase):
    """What the Unix loop's `_stop_serving` finds above it."""

    _stop_serving = selector_events.BaseSelectorEventLoop._stop_serving


def _method_of(owner: type, function: Any) -> Any:
    """The same code as a method of another class, whose `super()` looks above that one.

    Tools that allow asyncio's functions something know them by their code.
    """
    cells = tuple(
        types.CellType(owner) if name == "__class__" else cell
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    )
    method = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, cells
    )
    method.__kwdefaults__ = function.__kwdefaults__
    return method


class AsyncioTransports(_Serving):
    """asyncio's transports over our descriptors: the methods of its Unix loop that need nothing but
    `_add_reader`, `_add_writer` and their opposites, taken over as they are.
    """

    _transports: Any
    _unix_server_sockets: dict[socket.socket, int]

    _make_socket_transport = selector_events.BaseSelectorEventLoop._make_socket_transport
    _make_ssl_transport = selector_events.BaseSelectorEventLoop._make_ssl_transport
    _make_datagram_transport = selector_events.BaseSelectorEventLoop._make_datagram_transport
    _start_serving = selector_events.BaseSelectorEventLoop._start_serving
    _accept_connection = selector_events.BaseSelectorEventLoop._accept_connection
    _accept_connection2 = selector_events.BaseSelectorEventLoop._accept_connection2
    _ensure_fd_no_transport = selector_events.BaseSelectorEventLoop._ensure_fd_no_transport
    _sendfile_native = selector_events.BaseSelectorEventLoop._sendfile_native
    _make_self_pipe = selector_events.BaseSelectorEventLoop._make_self_pipe
    _close_self_pipe = selector_events.BaseSelectorEventLoop._close_self_pipe
    _read_from_self = selector_events.BaseSelectorEventLoop._read_from_self
    _write_to_self = selector_events.BaseSelectorEventLoop._write_to_self
    _sock_sendfile_native = unix_events._UnixSelectorEventLoop._sock_sendfile_native
    _sock_sendfile_native_impl = unix_events._UnixSelectorEventLoop._sock_sendfile_native_impl
    _sock_sendfile_update_filepos = unix_events._UnixSelectorEventLoop._sock_sendfile_update_filepos
    _sock_add_cancellation_callback = unix_events._UnixSelectorEventLoop._sock_add_cancellation_callback
    _check_signal = unix_events._UnixSelectorEventLoop._check_signal

    if not TYPE_CHECKING:  # the public ones: typeshed's `BaseEventLoop` declares them
        add_reader = selector_events.BaseSelectorEventLoop.add_reader
        remove_reader = selector_events.BaseSelectorEventLoop.remove_reader
        add_writer = selector_events.BaseSelectorEventLoop.add_writer
        remove_writer = selector_events.BaseSelectorEventLoop.remove_writer
        create_unix_connection = unix_events._UnixSelectorEventLoop.create_unix_connection
        create_unix_server = unix_events._UnixSelectorEventLoop.create_unix_server


if "_stop_serving" in vars(unix_events._UnixSelectorEventLoop):  # since 3.13
    AsyncioTransports._stop_serving = _method_of(
        AsyncioTransports, unix_events._UnixSelectorEventLoop._stop_serving
    )


if TYPE_CHECKING:

    @type_check_only
    class LoopPart(_native.Loop, AsyncioTransports, asyncio.BaseEventLoop):
        """What a part of `EventLoop` finds in the whole, and what of `BaseEventLoop` is not public."""

        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        async def _ensure_resolved(
            self,
            address: Any,
            *,
            family: int,
            type: int,
            proto: int,
            flags: int = 0,
            loop: asyncio.AbstractEventLoop,
        ) -> list[tuple[int, int, int, str, Any]]: ...
        def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...


# --- transports ---

#: What `BaseEventLoop.sendfile` asks a transport to be.
FlowControl = transports._FlowControlMixin
#: What it sends shows which rules this CPython has.
SelectorDatagramTransport: Any = selector_events._SelectorDatagramTransport
SENDFILE_TRY_NATIVE = constants._SendfileMode.TRY_NATIVE
SSL_HANDSHAKE_TIMEOUT: float = constants.SSL_HANDSHAKE_TIMEOUT
SSL_SHUTDOWN_TIMEOUT: float = constants.SSL_SHUTDOWN_TIMEOUT


def limits_of(transport: Any) -> tuple[int, int]:
    """Its high and low water as the numbers that a machine has: asyncio takes any."""
    high, low = (min(limit, sys.maxsize) for limit in (transport._high_water, transport._low_water))
    return int(high), int(low)


# --- TLS ---

SSLProtocol: Any = sslproto.SSLProtocol
SSLProtocolTransport: Any = sslproto._SSLProtocolTransport
SSLProtocolState: Any = sslproto.SSLProtocolState


def current_ssl_protocol() -> Any:
    """What asyncio's own code would make for a connection now."""
    return sslproto.SSLProtocol


#: What asyncio calls for each packet, and ours does in its place.
_TLS_METHODS = (
    "_control_app_writing _control_ssl_reading _do_read _do_read__buffered _do_read__copied _do_write"
    " _get_read_buffer_size _get_write_buffer_size _process_outgoing _write_appdata buffer_updated get_buffer"
)


def tls_is_asyncios() -> bool:
    """Whether these methods are CPython's own."""
    owners = [(SSLProtocol, name) for name in _TLS_METHODS.split()]
    owners += [(SSLProtocolTransport, "write"), (SSLProtocolTransport, "writelines")]
    return all(
        _is_asyncios(vars(owner).get(name), sslproto, f"{owner.__name__}.{name}") for owner, name in owners
    )


def socket_of(fd: int, kind: tuple[int, int, int]) -> socket.socket:
    """A socket object of a descriptor that does not block."""
    sock = socket.socket(*kind, fileno=fd)
    sock.setblocking(False)
    return sock


def accepted_natively(sock: Any) -> tuple[int, int, int] | None:
    """Family, type and protocol of a listening socket; None for one that is asked by its own methods."""
    plain = type(sock) is socket.socket and sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    return kind_of_socket(sock) if plain else None


def closed_socket(kind: tuple[int, int, int]) -> socket.socket:
    """A socket object whose descriptor is closed."""
    try:
        sock = socket.socket(*kind)
    except OSError:  # no descriptor is left
        return socket.socket.__new__(socket.socket)
    sock.close()
    return sock


def kind_of_socket(sock: socket.socket) -> tuple[int, int, int]:
    """Family, type and protocol, as plain numbers."""
    return _family(sock), _type(sock), sock.proto


_family: Callable[[socket.socket], int] = _socket.socket.family.__get__
_type: Callable[[socket.socket], int] = _socket.socket.type.__get__


def attach_to_server(server: Any, transport: Any) -> None:
    """The server has one connection more: `Server._attach`, which each Python calls in its own way."""
    if sys.version_info >= (3, 13):
        server._attach(transport)
    else:
        server._attach()


def detach_from_server(server: Any, transport: Any) -> None:
    """The server has one connection less."""
    if sys.version_info >= (3, 13):
        server._detach(transport)
    else:
        server._detach()


def log_fatal_error(transport: Any, message: str, exc: BaseException) -> None:
    """The debug mode's line about a connection that the network has ended."""
    logger.debug("%r: %s", transport, message, exc_info=exc)


def log_debug(text: str, *about: Any) -> None:
    """A line of the debug mode."""
    logger.debug(text, *about)


def log_debug_of(loop: Any, text: str, *about: Any) -> None:
    """A line of the debug mode, if the loop is in it."""
    if loop is not None and loop.get_debug():
        logger.debug(text, *about)


def log_info(text: str, *about: Any) -> None:
    """A line of the debug mode, of its louder kind."""
    logger.info(text, *about)


def log_warning(text: str, *about: Any) -> None:
    """What is not as somebody has asked for."""
    logger.warning(text, *about)


def warn_of_lost_pipe_write() -> None:
    """A program goes on writing to a pipe that is closed."""
    logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")


def warn_of_lost_write() -> None:
    """A program goes on writing to a connection that is lost."""
    logger.warning("socket.send() raised exception.")


def refusal_to_write(kind: str) -> str:
    """What `write` says of an object of this class that is no bytes: each CPython has its own words."""
    nothing: Any = None
    try:
        selector_events._SelectorSocketTransport.write(nothing, nothing)
    except TypeError as error:
        return str(error).replace("'NoneType'", repr(kind))
    raise RuntimeError("asyncio writes what is no bytes")


def how_writelines_looks() -> tuple[bool, bool]:
    """Whether `writelines` leaves out the pieces that are false, and takes none of a lost connection."""
    known: Any = {"_eof": False, "_empty_waiter": None, "_buffer": deque(maxlen=0), "_buffer_size": 0}
    idle: Any = types.SimpleNamespace(**known, _conn_lost=0, _write_ready=list)
    lost: Any = types.SimpleNamespace(**known, _conn_lost=1, _write_ready=list)
    wrong: list[Any] = [None]
    pieces = iter([b"left"])
    with contextlib.suppress(TypeError):
        selector_events._SelectorSocketTransport.writelines(idle, wrong)
        wrong.clear()
    selector_events._SelectorSocketTransport.writelines(lost, pieces)
    return not wrong, list(pieces) != []


SendfileNotAvailableError = exceptions.SendfileNotAvailableError
