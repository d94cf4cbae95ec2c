"""`run_in_thread`: coroutines for callers that cannot await, also where a loop is running already."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import signal
import socket
import threading
from collections.abc import Awaitable, Iterator
from types import FrameType
from typing import Any

from pyloop._loop import new_event_loop
from pyloop._wakeup import WakeUp


def run_in_thread[T](main: Awaitable[T], *, debug: bool | None = None) -> T:
    """Run an awaitable to its end on a new pyloop loop in a helper thread; wait for it here, give its result.

    For synchronous callers, whether or not a loop is running in this thread (a notebook, a callback): that
    loop is blocked meanwhile, as by any other call. The awaitable sees this thread's context variables and
    must not need objects of another loop. `debug`: as for `run`.

    Ctrl-C cancels the awaitable, waits for it to end and then raises KeyboardInterrupt; a second one raises
    it at once. Raises what the awaitable raises (CancelledError, if it was cancelled), TypeError for what is
    no awaitable.
    """
    if not inspect.isawaitable(main):
        raise TypeError(f"an awaitable is required, got {main!r}")
    run = _Run(main, debug)
    with run, run.inside_of_another(), run.cancelled_by_sigint():
        try:
            run.thread.start()
            run.wait()
        except BaseException:  # what a signal handler raises
            if not run.interrupted:
                run.cancel()
                if run.thread.ident is not None:
                    run.wait()
            raise
        run.thread.join()
    result: T = run.outcome()
    return result


_here = threading.local()


class _Run:
    """One helper thread; `cancel` is for any thread and for signal handlers, so nothing here takes a lock.

    Who waits reads from a socket, to which CPython's signal handler writes, too: a signal that comes just
    before the wait begins would go unheard by a thread that waits for a lock.
    """

    def __init__(self, main: Awaitable[Any], debug: bool | None) -> None:
        self.main = main
        self.debug = debug
        self.context = contextvars.copy_context()
        self.thread = threading.Thread(target=self._run, name="pyloop-run")
        self.ended = False
        self.bell, self.button = socket.socketpair()
        self.button.setblocking(False)
        self.wakeup = WakeUp(self.button.fileno(), self.hear)
        self.task: asyncio.Task[Any] | None = None
        self.inner: _Run | None = None
        self.cancelled = self.interrupted = False
        self.results: list[Any] = []
        self.error: BaseException | None = None

    def _run(self) -> None:
        _here.run = self
        try:
            with asyncio.Runner(debug=self.debug, loop_factory=new_event_loop) as runner:
                loop = runner.get_loop()
                main = self.main if asyncio.iscoroutine(self.main) else _await(self.main)
                self.task = loop.create_task(main, context=self.context)
                if self.cancelled:
                    self.task.cancel()
                self.results.append(loop.run_until_complete(self.task))
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            with contextlib.suppress(OSError):  # full, or nobody waits any more
                self.button.send(b"\0")

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self.wakeup.take()

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            self.wakeup.give_back()
            self.bell.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # signals that came with the end
                self.listen()
        self.bell.close()
        self.button.close()

    def wait(self) -> None:
        """Until it has ended."""
        while not self.ended:
            self.listen()

    def listen(self) -> None:
        """Hear the bell; a loop that runs in this thread hears of the signals, too."""
        self.wakeup.pass_on(self.bell.recv(4096).replace(b"\0", b""))

    def hear(self, numbers: bytes) -> None:
        """A loop that runs inside of this wait has read them: the handlers have run."""

    def cancel(self) -> None:
        """Cancel the task once: a second CancelledError would end what it does to clean up."""
        if self.inner is not None:  # it is inside a call of `run_in_thread`, which will raise CancelledError
            self.inner.cancel()
            return
        if self.cancelled:
            return
        self.cancelled = True
        if self.task is not None:
            with contextlib.suppress(RuntimeError):  # closed
                self.task.get_loop().call_soon_threadsafe(self.task.cancel)

    def outcome(self) -> Any:
        error, self.error, self.task = self.error, None, None
        try:
            if self.interrupted:
                interrupt = KeyboardInterrupt()
                if not isinstance(error, asyncio.CancelledError):
                    interrupt.__context__ = error
                raise interrupt
            if error is not None:
                raise error
            return self.results.pop()
        finally:
            error = None  # no cycle through the traceback

    @contextlib.contextmanager
    def inside_of_another(self) -> Iterator[None]:
        """While a coroutine of another helper thread waits for this one, it is cancelled in its place."""
        outer: _Run | None = getattr(_here, "run", None)
        if outer is None:
            yield
            return
        outer.inner = self
        try:
            yield
        finally:
            outer.inner = None

    @contextlib.contextmanager
    def cancelled_by_sigint(self) -> Iterator[None]:
        """Ctrl-C in the main thread, unless the program has a handler of its own.

        asyncio.run's handler would cancel the task that waits here, which hears of it after the end of this.
        """
        before = signal.getsignal(signal.SIGINT)
        runner = getattr(getattr(before, "func", None), "__self__", None)
        if threading.current_thread() is not threading.main_thread() or not (
            before is signal.default_int_handler or isinstance(runner, asyncio.Runner)
        ):
            yield
            return

        def on_sigint(signum: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.cancel()

        signal.signal(signal.SIGINT, on_sigint)
        try:
            yield
        finally:
            if signal.getsignal(signal.SIGINT) is on_sigint:
                signal.signal(signal.SIGINT, before)


async def _await[T](main: Awaitable[T]) -> T:
    return await main
