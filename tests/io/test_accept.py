"""How a server accepts: what its connections know, whose context they have, and what if it cannot."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
import sys
from asyncio import trsock
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import process
from support.loops import Loop, LoopFactory, Run
from support.net import receive_all
from support.protocols import Echo, Recorder
from support.transports import until


class Made(list[Any]):
    """The protocols that a server has made, by this factory."""

    def __init__(self, make: Callable[[], Any] = Recorder) -> None:
        self.make = make

    def __call__(self) -> Any:
        self.append(self.make())
        return self[-1]

    async def connected(self, count: int = 1) -> Any:
        """The last one, when there are so many and each has its transport."""
        await until(lambda: len(self) == count and all(each.transport for each in self))
        return self[-1]


LISTENING: dict[str, Callable[[Path], socket.socket]] = {
    "ipv4": lambda _: socket.create_server(("127.0.0.1", 0)),
    "any ipv4": lambda _: socket.create_server(("", 0)),
    "ipv6": lambda _: socket.create_server(("::1", 0), family=socket.AF_INET6),
    "dual stack": lambda _: socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True),
    "path": lambda path: bound(str(path / "listening")),
    "abstract": lambda path: bound(f"\0{path}"),
}


def bound(name: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(name)
    return sock


def connect(listening: socket.socket) -> socket.socket:
    family, address = listening.family, listening.getsockname()
    if family == socket.AF_INET6 and address[0] == "::":
        family, address = socket.AF_INET, ("127.0.0.1", address[1])
    client = socket.socket(family)
    client.connect(address)
    return client


@contextmanager
def clients(listening: socket.socket, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(listening)) for _ in range(count)]


async def closed(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


async def is_closed_for(client: socket.socket) -> None:
    client.setblocking(False)
    assert await receive_all(asyncio.get_running_loop(), client, 1) == b""


# What an accepted connection knows.


@pytest.mark.parametrize("when", ["made", "open", "over"])
@pytest.mark.parametrize("kind", LISTENING)
def test_an_accepted_connection_knows_its_addresses(
    loop: Loop, run: Run, tmp_path: Path, kind: str, when: str
) -> None:
    def known(transport: Any) -> tuple[Any, ...]:
        sock = transport.get_extra_info("socket")
        assert type(sock) is trsock.TransportSocket
        more = sock.family, sock.type, sock.proto, sock.gettimeout() if when != "over" else 0
        return transport.get_extra_info("peername"), transport.get_extra_info("sockname"), *more

    class Asks(Recorder):
        known: tuple[Any, ...] = ()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if when == "made":
                self.known = known(transport)

    async def main() -> None:
        made = Made(Asks)
        with LISTENING[kind](tmp_path) as listening:
            create: Any = loop.create_unix_server if kind in ("path", "abstract") else loop.create_server
            server = await create(made, sock=listening)
            with connect(listening) as client:
                addresses = client.getsockname(), client.getpeername()
                if kind == "dual stack":
                    addresses = tuple((f"::ffff:{ip}", port, 0, 0) for ip, port in addresses)  # type: ignore[assignment]
                expected = *addresses, listening.family, listening.type, listening.proto, 0
                protocol = await made.connected()
                if when == "open":
                    protocol.known = known(protocol.transport)
            await protocol.lost
            await asyncio.sleep(0)
            if when == "over":
                protocol.known = known(protocol.transport)
            assert protocol.known == expected
            sock = protocol.transport.get_extra_info("socket")
            assert sock.fileno() == -1 and sock is protocol.transport.get_extra_info("socket")
            await closed(server)

    run(main())


def test_a_client_that_is_bound_to_a_path_is_known_by_it(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        made = Made()
        path = str(tmp_path / "listening")
        server = await loop.create_unix_server(made, path)
        for name in (os.fsdecode(bytes(tmp_path) + b"/\xff"), b"\0" + bytes(tmp_path) + b"\xff\0"):
            with socket.socket(socket.AF_UNIX) as client:
                client.bind(name)
                client.connect(path)
                await until(lambda: made and made[-1].transport)
                assert made[-1].transport.get_extra_info("peername") == name
            await made.pop().lost
        await closed(server)

    run(main())


def test_a_connection_of_streams_has_no_socket_object_until_somebody_asks(pyloop_loop: Loop) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_debug(False)  # asyncio's own code accepts in debug mode
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
        with connect(server.sockets[0]._sock):  # type: ignore[attr-defined]
            await until(lambda: writers)
            [writer] = writers
            assert writer.get_extra_info("sslcontext") is None
            assert writer.get_extra_info("nothing", 7) == 7
            with pytest.raises(TypeError, match="unhashable"):
                writer.get_extra_info([])  # type: ignore[arg-type]
            extra: Any = vars(asyncio.BaseTransport)["_extra"]
            with pytest.raises(AttributeError):
                extra.__get__(writer.transport)
            assert list(writer.transport._extra) == ["peername", "socket", "sockname"]  # type: ignore[attr-defined]
            writer.close()
            await writer.wait_closed()
        await closed(server)

    pyloop_loop.run_until_complete(main())


def test_what_an_accepted_connection_knows_may_be_added_to(loop: Loop, run: Run) -> None:
    async def main() -> None:
        made = Made()
        server = await loop.create_server(made, "127.0.0.1", 0)
        with connect(server.sockets[0]._sock) as client:  # type: ignore[attr-defined]
            transport = (await made.connected()).transport
            assert list(transport._extra) == ["peername", "socket", "sockname"]
            transport._extra["more"] = 7
            assert transport.get_extra_info("more") == 7
            assert transport.get_extra_info("peername") == client.getsockname()
            assert transport.get_extra_info("nothing") is None
            transport._extra = {"other": 8}
            assert transport.get_extra_info("other") == 8
            assert transport.get_extra_info("peername") is None
        await made[0].lost
        await closed(server)

    run(main())


@pytest.mark.parametrize("proto", [0, socket.IPPROTO_TCP])
def test_an_accepted_connection_has_options_and_limits(loop: Loop, run: Run, proto: int) -> None:
    async def main() -> None:
        made = Made()
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto) as listening:
            listening.bind(("127.0.0.1", 0))
            server = await loop.create_server(made, sock=listening)
            with connect(listening):
                transport = (await made.connected()).transport
                sock = transport.get_extra_info("socket")
                sends_at_once = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sends_at_once or (type(loop).__module__.startswith("asyncio") and proto == 0)
                assert os.get_inheritable(sock.fileno()) is False
                assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
                transport.set_write_buffer_limits(high=100)
                assert transport.get_write_buffer_limits() == (25, 100)
            await made[0].lost
            await closed(server)

    run(main())


@pytest.mark.parametrize("asked", [False, True], ids=["unseen", "seen"])
def test_a_connection_is_closed_once(loop: Loop, run: Run, asked: bool) -> None:
    """Its number may be another's from then on."""

    async def main() -> None:
        made = Made()
        server = await loop.create_server(made, "127.0.0.1", 0)
        for count in range(1, 11):
            with connect(server.sockets[0]._sock) as client:  # type: ignore[attr-defined]
                protocol = await made.connected(count)
                if asked:
                    assert protocol.transport.get_extra_info("socket").fileno() >= 0
                protocol.transport.abort()
                await protocol.lost
                await is_closed_for(client)
                others = os.pipe()
                for transport in (each.transport for each in made):
                    transport.close()
                    transport.abort()
                await asyncio.sleep(0)
                for each in others:
                    os.close(each)
        await closed(server)

    run(main())


# Whose context it has.

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


def test_a_connection_begins_in_a_context_of_its_own(loop: Loop, run: Run) -> None:
    seen: list[list[str]] = []

    class Sees(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.seen = [variable.get()]
            seen.append(self.seen)
            variable.set(f"factory {len(seen)}")

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.seen.append(variable.get())
            variable.set("made")

        def connection_lost(self, exc: Exception | None) -> None:
            self.seen.append("lost")
            super().connection_lost(exc)

    async def main() -> None:
        made = Made(Sees)
        variable.set("server")
        server = await loop.create_server(made, "127.0.0.1", 0)
        variable.set("later")
        with clients(server.sockets[0]._sock, 3):  # type: ignore[attr-defined]
            await made.connected(3)
        await asyncio.wait([each.lost for each in made])
        assert seen == [["server", f"factory {count}", "lost"] for count in (1, 2, 3)]
        assert variable.get() == "later"
        await closed(server)

    run(main())


# Who is accepted. Where asyncio leaves a socket to the collector, which warns, a test is about pyloop alone.


@pytest.mark.parametrize("backlog", [1, 3, 100])
def test_everybody_who_waits_is_accepted(loop: Loop, run: Run, backlog: int) -> None:
    async def main() -> None:
        made = Made(Echo)
        with (
            socket.create_server(("127.0.0.1", 0), backlog=100) as listening,
            clients(listening, 40) as waiting,
        ):
            server = await loop.create_server(made, sock=listening, backlog=backlog)
            for client in reversed(waiting):
                client.setblocking(False)
                client.send(b"x")
                assert await receive_all(loop, client, 1) == b"x"
            assert len(made) == 40
            for client in waiting:
                client.close()
            await closed(server)

    run(main())


def test_a_server_goes_on_when_its_factory_fails(pyloop_loop: Loop) -> None:
    loop = pyloop_loop
    loop.set_debug(False)  # asyncio's own way accepts in debug mode

    async def main() -> None:
        failing = [OSError(9, "failed"), ValueError(), asyncio.CancelledError()]

        def make() -> Any:
            if failing:
                raise failing.pop()
            return Recorder()

        made = Made(make)
        server = await loop.create_server(made, "127.0.0.1", 0)
        with clients(server.sockets[0]._sock, 4):  # type: ignore[attr-defined]
            protocol = await made.connected()
        await protocol.lost
        assert not failing
        await closed(server)

    loop.run_until_complete(main())


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_ends_it_from_a_factory(pyloop_loop: Loop, raised: type[BaseException]) -> None:
    loop = pyloop_loop
    loop.set_debug(False)  # asyncio's own way accepts in debug mode

    def make() -> Any:
        raise raised("from the factory")

    async def main() -> None:
        await loop.create_server(make, sock=listening)
        await asyncio.sleep(5)

    with socket.create_server(("127.0.0.1", 0)) as listening, connect(listening) as client:
        task = loop.create_task(main())
        with pytest.raises(raised, match="from the factory"):
            loop.run_forever()
        assert client.recv(1) == b""
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop._stop_serving(listening)  # type: ignore[attr-defined]


def test_a_factory_may_close_its_server(pyloop_loop: Loop) -> None:
    loop = pyloop_loop
    loop.set_debug(False)  # asyncio's own way accepts in debug mode

    async def main() -> None:
        made = Made()

        def make() -> Any:
            server.close()
            return made()

        with socket.create_server(("127.0.0.1", 0)) as listening, clients(listening, 5) as waiting:
            server = await loop.create_server(make, sock=listening)
            await server.wait_closed()
            for client in waiting:
                client.setblocking(False)
                try:
                    assert await receive_all(loop, client, 1) == b""
                except ConnectionResetError:  # it was never accepted
                    continue
            assert all(each.events == [] for each in made)

    loop.run_until_complete(main())


def test_a_server_that_is_closed_accepts_nobody_who_waits(loop: Loop, run: Run) -> None:
    async def main() -> None:
        made = Made()
        with socket.create_server(("127.0.0.1", 0)) as listening, clients(listening, 3) as waiting:
            server = await loop.create_server(made, sock=listening)
            server.close()
            await server.wait_closed()
            for client in waiting:
                client.setblocking(False)
                with pytest.raises(ConnectionResetError):
                    await loop.sock_recv(client, 1)
            assert made == []

    run(main())


def test_a_listening_socket_of_another_class_is_asked_itself(loop: Loop, run: Run) -> None:
    class Listening(socket.socket):
        accepted = 0

        def accept(self) -> tuple[socket.socket, Any]:
            accepted = super().accept()
            self.accepted += 1
            return accepted

    async def main() -> None:
        made = Made()
        with Listening() as listening:
            listening.bind(("127.0.0.1", 0))
            server = await loop.create_server(made, sock=listening)
            with clients(listening, 3):
                await made.connected(3)
            assert listening.accepted == 3
            await asyncio.wait([each.lost for each in made])
            await closed(server)

    run(main())


def test_the_debug_mode_tells_of_connections(loop: Loop, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        made = Made()
        server = await loop.create_server(made, "127.0.0.1", 0)
        for count, debug in enumerate((False, True, False), start=1):
            loop.set_debug(debug)
            caplog.clear()
            with caplog.at_level(logging.DEBUG, logger="asyncio"), connect(server.sockets[0]._sock):  # type: ignore[attr-defined]
                await made.connected(count)
            texts = [record.message for record in caplog.records]
            assert any("got a new connection from ('127.0.0.1'," in text for text in texts) == debug
            await made[-1].lost
        await closed(server)

    run(main())


def test_an_accept_that_is_replaced_is_called(loop_factory: LoopFactory) -> None:
    loop = loop_factory()
    calls: list[tuple[Any, ...]] = []

    async def main() -> None:
        original = loop._accept_connection  # type: ignore[attr-defined]

        def accept(*args: Any) -> None:
            calls.append(args)
            original(*args)

        loop._accept_connection = accept  # type: ignore[attr-defined]
        made = Made()
        server = await loop.create_server(made, "127.0.0.1", 0, backlog=7)
        with connect(server.sockets[0]._sock) as client:  # type: ignore[attr-defined]
            protocol = await made.connected()
            assert protocol.transport.get_extra_info("peername") == client.getsockname()
        await protocol.lost
        assert calls[0][0] is made and calls[0][2:5] == (None, server, 7)
        await closed(server)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_serving_stops_and_starts_again(loop: Loop, run: Run) -> None:
    async def main() -> None:
        made = Made()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            start: Callable[..., None] = loop._start_serving  # type: ignore[attr-defined]
            for count in (1, 2):
                start(made, listening)
                with connect(listening):
                    await made.connected(count)
                await made[-1].lost
                assert loop.remove_reader(listening)

    run(main())


# When it cannot.

FAILS = """
import ctypes, errno, socket, struct
from asyncio import constants
constants.ACCEPT_RETRY_DELAY = 0.01

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def fail_accepting(code):
    "Have the kernel answer each accept4 with an error (PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP)."
    allow, refuse = 0x7FFF0000, 0x00050000 | code
    number = {"x86_64": 288, "aarch64": 242}[__import__("os").uname().machine]
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()
    assert libc.prctl(22, 2, ctypes.byref(Program(len(steps), packed))) == 0, ctypes.get_errno()

def attempts():
    "How often asyncio tries to accept when it is told of a connection once, backlog=1: CPythons differ."
    class Full:
        tried = 0
        def accept(self):
            self.tried += 1
            raise OSError(errno.EMFILE, "full")
        def fileno(self):
            return 1000
    sock, loop = Full(), asyncio.SelectorEventLoop()
    loop.set_exception_handler(lambda loop, context: None)
    loop._accept_connection(asyncio.Protocol, sock, backlog=1)
    loop.close()
    return sock.tried

async def main():
    loop = asyncio.get_running_loop()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, backlog=1)
    (sock,) = server.sockets
    fail_accepting(CODE)
    with socket.create_connection(sock.getsockname()):
        WHAT_HAPPENS
    server.close()
    await server.wait_closed()

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
print("ok")
"""

EXHAUSTED = """
        while not contexts:
            await asyncio.sleep(0)
        told = attempts()
        assert len(contexts) == told
        for context in contexts:
            assert context["message"] == "socket.accept() out of system resource", context
            assert context["exception"].errno == CODE, context
            assert type(context["socket"]) is asyncio.trsock.TransportSocket
        assert sock.fileno() not in loop._selector.get_map()  # it is not asked again at once
        while sock.fileno() not in loop._selector.get_map():
            await asyncio.sleep(0.01)
        while len(contexts) == told:
            await asyncio.sleep(0.01)
"""
ABORTED = """
        for _ in range(20):
            await asyncio.sleep(0)
        assert contexts == []
        assert sock.fileno() in loop._selector.get_map()
"""
FAILED = """
        while not contexts:
            await asyncio.sleep(0)
        assert contexts[0]["message"].startswith("Exception in callback "), contexts
        assert contexts[0]["exception"].errno == CODE, contexts
        assert sock.fileno() in loop._selector.get_map()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
@pytest.mark.parametrize(
    ("code", "what_happens"),
    [
        ("EMFILE", EXHAUSTED),
        ("ENFILE", EXHAUSTED),
        ("ENOBUFS", EXHAUSTED),
        ("ENOMEM", EXHAUSTED),
        ("ECONNABORTED", ABORTED),
        ("EPROTO", FAILED),
        ("ENETDOWN", FAILED),
    ],
)
def test_a_failed_accept_is_asyncios_affair(loop_kind: str, code: str, what_happens: str) -> None:
    script = FAILS.replace("WHAT_HAPPENS", what_happens.strip()).replace("CODE", f"errno.{code}")
    assert process.output(loop_kind, script) == "ok\n"
