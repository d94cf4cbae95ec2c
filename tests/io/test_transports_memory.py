"""What a connection that does nothing takes: beside it there are ten thousand more."""

from __future__ import annotations

import pytest

from support.process import output

SCRIPT = """
import ctypes, gc, os, socket

class Allocated(ctypes.Structure):
    "struct mallinfo2 of glibc"
    _fields_ = [(name, ctypes.c_size_t) for name in "a b c d mapped e f in_use g h".split()]

try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
except AttributeError:
    mallinfo2 = Allocated
mallinfo2.restype = Allocated

def allocated():
    gc.collect()
    now = mallinfo2()
    return now.in_use + now.mapped

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)

async def connect(address, count):
    clients = [socket.create_connection(address) for _ in range(count)]
    for client in clients:
        client.send(b"x" * 100)
        client.setblocking(False)
    for client in clients:
        while True:
            try:
                assert client.recv(1000) == b"x" * 100
                break
            except BlockingIOError:
                await asyncio.sleep(0)
    return clients

async def main():
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(Echo, "127.0.0.1", 0, backlog=200),
        await asyncio.start_server(echo, "127.0.0.1", 0, backlog=200),
    ]
    taken, clients = [], []
    for server in servers:
        address = server.sockets[0].getsockname()
        clients.append(await connect(address, 100))
        before = allocated()
        clients.append(await connect(address, 200))
        taken.append((allocated() - before) // 200)
    print(*taken, flush=True)
    os._exit(0)

unseen = allocated()
kept = [bytearray(1000) for _ in range(100)]
if allocated() - unseen < 100_000:
    print("unknown")
else:
    del kept
    asyncio.run(main(), loop_factory=new_event_loop)
"""


def taken(loop: str) -> list[int]:
    """By a connection to a server of protocols and to one of streams, in bytes, on `pyloop` or `uvloop`.

    The client's socket object is in it. It takes half a second.
    """
    chosen = "from uvloop import new_event_loop\n" if loop == "uvloop" else ""
    printed = output("pyloop", chosen + SCRIPT, PYTHONMALLOC="malloc")
    if printed == "unknown\n":
        pytest.skip("the C library does not tell what is allocated, or a sanitizer does it")
    return [int(number) for number in printed.split()]


@pytest.mark.acceleration("direct_calls")
@pytest.mark.acceleration("function_calls")
def test_an_idle_connection_takes_no_more_memory_than_one_of_uvloop(pyloop_factory: object) -> None:
    for ours, uvloops in zip(taken("pyloop"), taken("uvloop"), strict=True):
        assert 0 < ours <= uvloops
