"""A kernel that lacks what Linux got since 5.1 (io_uring, pidfds, epoll_pwait2, clone3), or a sandbox that
forbids it: everything works by what there was before."""

from __future__ import annotations

import sys

import pytest

from support.process import output

SCRIPT = """
import ctypes, errno, os, signal, socket, struct, tempfile

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def forget(first):
    "Have the kernel answer each system call from that number on with ENOSYS (seccomp)."
    # Load the number; greater or equal: refuse; else allow.
    refuse, allow = 0x50000 | errno.ENOSYS, 0x7FFF0000
    steps = [(0x20, 0, 0, 0), (0x35, 0, 1, first), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()
    assert libc.prctl(22, 2, ctypes.byref(Program(len(steps), packed))) == 0, ctypes.get_errno()

# 424 is pidfd_send_signal, the first of Linux 5.1. From there on the numbers are the same on all processors.
forget(424)
try:
    os.pidfd_open(os.getpid())
except OSError as error:
    assert error.errno == errno.ENOSYS

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()

async def main():
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"there and back")
    assert await reader.readexactly(14) == b"there and back"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    child = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    assert await child.communicate(b"through a child") == (b"through a child", None)
    child = await asyncio.create_subprocess_exec("sleep", "3600")
    child.terminate()
    assert await child.wait() == -signal.SIGTERM
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    transport.close()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await heard.wait()
    assert await asyncio.to_thread(int) == 0
    await asyncio.sleep(0.001)
    MORE

asyncio.run(main(), loop_factory=new_event_loop)
print("ok")
"""
RUST = """
    import pyloop, pyloop.fs
    await pyloop.sleep(0.001)
    with tempfile.TemporaryDirectory() as folder:
        await pyloop.fs.write(folder + "/file", b"text")
        assert await pyloop.fs.read(folder + "/file") == b"text"
        assert [each.name async for each in pyloop.fs.read_dir(folder)] == ["file"]
        await pyloop.fs.copy(folder + "/file", folder + "/copy")
        assert (await pyloop.fs.metadata(folder + "/copy")).st_size == 4
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
def test_nothing_needs_a_system_call_of_linux_5_1_or_later(loop_kind: str) -> None:
    more = RUST.strip() if loop_kind == "pyloop" else ""
    assert output(loop_kind, SCRIPT.replace("MORE", more)) == "ok\n"
