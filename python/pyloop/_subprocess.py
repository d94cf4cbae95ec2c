"""Subprocesses: asyncio's transport, and a wait for the child without a signal handler or a policy.

A child is waited for through a pidfd where the kernel has them (Linux 5.3 and later), else by a thread of its
own. A handler for SIGCHLD, if there is one, stays the user's.
"""

from __future__ import annotations

import contextlib
import os
import threading
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from pyloop import _compat, _native

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
else:
    LoopPart = object


def _wait(pid: int, transport: Any) -> int:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        known: int | None = transport._proc.returncode
        if known is not None:
            # `Popen.poll` was asked, by `transport.close()` perhaps.
            return known
        # Somebody else waited for it (asyncio says the same and reports 255).
        logger.warning("child process pid %d exit status already read: will report returncode 255", pid)
        return 255
    return _compat.waitstatus_to_exitcode(status)


class _Transport(_compat.UnixSubprocessTransport):  # type: ignore[misc]
    """asyncio's transport, whose `_wait` ends when the child does.

    asyncio's waits for the child's pipes, too. When the task that connects them has been cancelled, they are
    never connected, and so never lost.
    """

    _connecting = False
    #: The loop's clock must not jump while the child runs (`pyloop.testing`).
    holds_time = False
    _exit_waiters: Any

    async def _connect_pipes(self, waiter: Any) -> None:
        self._connecting = True
        try:
            await super()._connect_pipes(waiter)
        finally:
            self._connecting = False
            if self._closed:
                # Meanwhile. Their other ends may be open for long, in children of the child.
                for pipe in self._pipes.values():
                    if pipe is not None:
                        pipe.pipe.close()
            self._tell_of_exit()

    def close_unconnected(self) -> None:
        """Close the child's pipes that no transport has got, if nobody is about to connect them."""
        if self._connecting or self._pending_calls is None:
            return
        for fd, stream in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if stream is not None and self._pipes.get(fd) is None:
                stream.close()

    def _process_exited(self, returncode: int) -> None:
        if self.holds_time:
            self.holds_time = False
            _native._release_time(self._loop)
        super()._process_exited(returncode)
        self._tell_of_exit()

    def _tell_of_exit(self) -> None:
        """The pipes are not connected: nobody else will."""
        if self._returncode is None or self._pending_calls is None:
            return
        # They are told now: asyncio, which comes when the pipes are lost after all, is not to do it again.
        # Up to 3.13 it goes through them then; since 3.14 each takes itself out of them, which are a set.
        waiters, self._exit_waiters = self._exit_waiters or (), set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)


class Subprocesses(LoopPart):
    """`_make_subprocess_transport` of one loop."""

    #: The pidfds of children that are waited for.
    _pidfds: set[int]

    async def _make_subprocess_transport(
        self,
        protocol: Any,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        extra: Any = None,
        **kwargs: Any,
    ) -> Any:
        waiter = self.create_future()
        transport = _Transport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        try:
            self._watch_child(transport.get_pid(), transport)
        except BaseException:
            # Nobody would hear of the child's end: there is neither a descriptor nor a thread for it. Its
            # pipes are being connected, and are closed after that.
            try:
                with contextlib.suppress(Exception):
                    await waiter
            finally:
                transport.close()
            raise
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            try:
                await transport._wait()
            finally:
                transport.close_unconnected()
            raise
        return transport

    def _watch_child(self, pid: int, transport: Any) -> None:
        transport.holds_time = _native._hold_time(self)
        try:
            pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self._watch_child_in_thread(pid, transport)
            return
        try:
            self._add_reader(pidfd, self._child_exited, pid, pidfd, transport)
        except OSError:
            os.close(pidfd)
            self._watch_child_in_thread(pid, transport)
        else:
            self._pidfds.add(pidfd)

    def _watch_child_in_thread(self, pid: int, transport: Any) -> None:
        name = f"pyloop-waitpid-{pid}"
        args = (pid, transport)
        threading.Thread(target=self._wait_in_thread, name=name, args=args, daemon=True).start()

    def _child_exited(self, pid: int, pidfd: int, transport: Any) -> None:
        self._remove_reader(pidfd)
        self._pidfds.discard(pidfd)
        os.close(pidfd)
        transport._process_exited(_wait(pid, transport))

    def _wait_in_thread(self, pid: int, transport: Any) -> None:
        returncode = _wait(pid, transport)
        try:
            self.call_soon_threadsafe(transport._process_exited, returncode)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", self, pid)

    def _close_pidfds(self) -> None:
        """The loop closes: children that run on are nobody's any more (`subprocess` reaps them some day)."""
        while self._pidfds:
            pidfd = self._pidfds.pop()
            self._remove_reader(pidfd)
            os.close(pidfd)
