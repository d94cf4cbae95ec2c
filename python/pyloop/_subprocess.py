"""Subprocesses: asyncio's transport, and a wait for the child without a signal handler or a policy.

A child is waited for through a pidfd where the kernel has them (Linux 5.3 and later), else by a thread of its
own. A handler for SIGCHLD, if there is one, stays the user's.
"""

from __future__ import annotations

import os
import threading
from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from pyloop import _compat

if TYPE_CHECKING:
    from pyloop._compat import LoopPart
else:
    LoopPart = object


def _wait(pid: int) -> int:
    try:
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        # Somebody else waited for it (asyncio says the same and reports 255).
        logger.warning("child process pid %d exit status already read: will report returncode 255", pid)
        return 255
    return _compat.waitstatus_to_exitcode(status)


class Subprocesses(LoopPart):
    """`_make_subprocess_transport` of one loop."""

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
        transport = _compat.UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **kwargs
        )
        self._watch_child(transport.get_pid(), transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _watch_child(self, pid: int, transport: Any) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            thread = threading.Thread(
                target=self._wait_in_thread, name=f"pyloop-waitpid-{pid}", args=(pid, transport), daemon=True
            )
            thread.start()
            return
        self._add_reader(pidfd, self._child_exited, pid, pidfd, transport)

    def _child_exited(self, pid: int, pidfd: int, transport: Any) -> None:
        self._remove_reader(pidfd)
        os.close(pidfd)
        transport._process_exited(_wait(pid))

    def _wait_in_thread(self, pid: int, transport: Any) -> None:
        returncode = _wait(pid)
        try:
            self.call_soon_threadsafe(transport._process_exited, returncode)
        except RuntimeError:
            logger.warning("Loop %r that handles pid %r is closed", self, pid)
