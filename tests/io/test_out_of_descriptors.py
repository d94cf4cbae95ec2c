"""Everything that needs descriptors, with none left, one, two and so on: it works or it is an OSError, and
whichever it is, nothing is left open, no child is left, and the loop goes on."""

from __future__ import annotations

from support.process import output

SCRIPT = """
import errno, gc, os, resource, signal, socket, sys, tempfile

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = lambda: sorted(os.listdir("/dev/fd"))

def fill(spare):
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            break
    for _ in range(spare):
        os.close(taken.pop())
    return taken

async def child_with_pipes(loop):
    process = await asyncio.create_subprocess_exec("true", stdin=-1, stdout=-1, stderr=-1)
    await process.communicate()
    assert process.returncode == 0

async def child(loop):
    process = await asyncio.create_subprocess_exec("true")
    assert await process.wait() == 0

async def connection(loop):
    _, writer = await asyncio.open_connection(*listener.getsockname())
    writer.transport.abort()

async def unix_connection(loop):
    _, writer = await asyncio.open_unix_connection(folder + "/there")
    writer.transport.abort()

async def server(loop):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        (await asyncio.start_server(print, sock=sock)).close()

async def unix_server(loop):
    (await asyncio.start_unix_server(print, folder + "/here")).close()

async def datagrams(loop):
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    transport.abort()

async def unix_datagrams(loop):
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, folder + "/datagrams", family=socket.AF_UNIX)
    transport.abort()
    os.unlink(folder + "/datagrams")

async def connected_datagrams(loop):
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, None, udp.getsockname())
    transport.sendto(b"x")
    transport.close()

async def sock_connect(loop):
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())

async def sock_accept(loop):
    with socket.socket() as sock:
        sock.connect(accepting.getsockname())
        (await loop.sock_accept(accepting))[0].close()

async def pipes(loop):
    reads, writes = os.pipe()
    with open(reads, "rb", 0) as reads, open(writes, "wb", 0) as writes:
        reader, _ = await loop.connect_read_pipe(asyncio.Protocol, reads)
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writes)
        reader.close()
        writer.close()

async def sendfile(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs, open("/dev/null", "rb") as file:
        ours.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        await loop.sendfile(transport, file)
        transport.abort()

async def sock_sendfile(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs, open("/dev/null", "rb") as file:
        ours.setblocking(False)
        await loop.sock_sendfile(ours, file)

async def watch(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        readable = asyncio.Event()
        loop.add_reader(ours, readable.set)
        theirs.send(b"x")
        await readable.wait()
        loop.remove_reader(ours)

async def signals(loop):
    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.remove_signal_handler(signal.SIGUSR1)

async def executor(loop):
    await loop.run_in_executor(None, int)

async def outcome(operation, loop):
    try:
        async with asyncio.timeout(5):
            await operation(loop)
    except TimeoutError:
        return "hangs"
    except OSError as error:
        return "" if error.errno == errno.EMFILE else repr(error)
    return "works"

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: print("reported:", context))
    await loop.run_in_executor(None, int)  # the executor's thread
    operations = [
        child_with_pipes, child, connection, unix_connection, server, unix_server, datagrams,
        unix_datagrams, connected_datagrams, sock_connect, sock_accept, pipes, sendfile, sock_sendfile, watch,
        signals, executor,
    ]
    for operation in operations:
        before = opened()
        outcomes = []
        for spare in range(10):
            taken = fill(spare)
            outcomes.append(await outcome(operation, loop))
            for descriptor in taken:
                os.close(descriptor)
            for _ in range(500):  # what ends in a later turn, or when a thread has ended
                await asyncio.sleep(0)
                if opened() == before:
                    break
                gc.collect()
            else:
                print("left open:", operation.__name__, spare, set(opened()) ^ set(before))
        needs = outcomes.index("works")
        assert outcomes == [""] * needs + ["works"] * (10 - needs), outcomes
        print(operation.__name__, needs)
    try:
        print("a child is left:", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        pass

with (
    tempfile.TemporaryDirectory() as folder,
    socket.create_server(("127.0.0.1", 0), backlog=128) as listener,
    socket.create_server(("127.0.0.1", 0)) as accepting,
    socket.socket(socket.AF_UNIX) as unix,
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
):
    unix.bind(folder + "/there")
    unix.listen(128)
    udp.bind(("127.0.0.1", 0))
    accepting.setblocking(False)
    asyncio.run(main(), loop_factory=new_event_loop)
"""


def test_what_needs_descriptors_works_or_leaves_nothing(loop_kind: str) -> None:
    needs = dict(line.split() for line in output(loop_kind, SCRIPT).splitlines())
    # A pidfd is one of a child's, and the pipe by which it tells of a failed exec two.
    assert needs == {
        "child_with_pipes": "8",
        "child": "2",
        "connection": "1",
        "unix_connection": "1",
        "server": "1",
        "unix_server": "1",
        "datagrams": "1",
        "unix_datagrams": "1",
        "connected_datagrams": "1",
        "sock_connect": "1",
        "sock_accept": "2",
        "pipes": "2",
        "sendfile": "3",
        "sock_sendfile": "3",
        "watch": "2",
        "signals": "0",
        "executor": "0",
    }
