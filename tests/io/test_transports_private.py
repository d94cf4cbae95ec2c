"""What libraries read of connections, servers and loops though its name is private."""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
from typing import Any

from support.loops import Loop, Run
from support.protocols import Recorder
from support.tls import client_context, server_context
from support.transports import HalfOpen, fill, transport_and_peer, until


def test_a_connection(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with transport_and_peer(HalfOpen) as (transport, protocol, peer):
            sock = transport._sock
            assert sock.fileno() == transport._sock_fd >= 0
            assert sock.getpeername() == peer.getsockname()
            assert transport._protocol is protocol and transport._loop is loop
            assert transport._server is None
            assert transport._extra["socket"] is transport.get_extra_info("socket")
            assert transport._extra["peername"] == peer.getsockname()
            assert (transport._low_water, transport._high_water) == (2**14, 2**16)
            flags = ("_closing", "_paused", "_eof", "_protocol_paused", "_conn_lost", "_empty_waiter")
            assert [bool(getattr(transport, name)) for name in flags] == [False] * 6
            transport.pause_reading()
            assert bool(transport._paused)
            transport.resume_reading()
            assert not transport._paused
            fill(transport)
            assert transport._protocol_paused is True
            transport.write_eof()
            assert transport._eof is True
            transport.close()
            assert transport._closing is True and transport._conn_lost == 0
            transport.abort()
            assert transport._conn_lost == 1
            await protocol.lost
            await asyncio.sleep(0)
            assert transport._sock is transport._protocol is transport._loop is None

    run(main())


def test_an_accepted_connection(loop: Loop, run: Run) -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def make() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server: Any = await loop.create_server(make, "127.0.0.1", 0)
        transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        await until(lambda: made and made[0].transport)
        theirs = made[0].transport
        assert theirs._server is server and theirs._loop is loop and theirs._protocol is made[0]
        assert theirs._sock.getpeername() == transport.get_extra_info("sockname")
        assert server._loop is loop and server._serving and server._sockets and server._ssl_context is None
        transport.close()
        await asyncio.wait([protocol.lost, made[0].lost])
        await asyncio.sleep(0)
        assert theirs._server is None
        server.close()
        assert server.sockets == () and server._sockets is None
        await server.wait_closed()

    run(main())


def test_an_encrypted_connection(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Recorder, "127.0.0.1", 0, ssl=server_context())
        own = client_context()
        transport: Any
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=own, server_hostname="localhost"
        )
        inner = transport._ssl_protocol
        assert asyncio.sslproto.SSLProtocol in type(inner).__mro__
        assert asyncio.sslproto._SSLProtocolTransport in type(transport).__mro__
        assert transport._loop is inner._loop is loop and not transport._closed
        assert inner._sslcontext is own and inner._app_protocol is protocol
        assert inner._app_transport is transport and inner._server_hostname == "localhost"
        tls = inner._sslobj
        assert type(tls) is ssl.SSLObject and tls.getpeercert(True)
        assert inner._extra["ssl_object"] is tls is transport.get_extra_info("ssl_object")
        assert inner._transport._sock.fileno() == transport.get_extra_info("socket").fileno()
        inner.pause_writing()
        inner.resume_writing()
        transport.close()
        assert transport._closed
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())


def test_a_loop(loop: Loop) -> None:
    private: Any = loop

    def handler(loop: Any, context: Any) -> None:
        raise AssertionError(context)

    def factory(loop: Any, coro: Any, **more: Any) -> Any:
        return asyncio.Task(coro, loop=loop, **more)

    async def main() -> None:
        assert private._thread_id == threading.get_ident()
        assert private._exception_handler is handler and private._task_factory is factory
        assert private._debug is loop.get_debug() and private._closed is False
        assert not private._default_executor
        await loop.run_in_executor(None, int)
        assert private._default_executor.submit(int).result() == 0
        private._check_closed()
        len(private._ready)
        len(private._scheduled)
        async with transport_and_peer() as (transport, _, _):
            fd = transport._sock_fd
            await asyncio.sleep(0)
            assert fd in private._selector.get_map() and private._selector.get_key(fd).fd == fd
        loop.add_signal_handler(signal.SIGUSR1, print)
        assert list(private._signal_handlers) == [signal.SIGUSR1]
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.set_exception_handler(handler)
    loop.set_task_factory(factory)
    assert private._thread_id is None
    loop.run_until_complete(main())
    assert private._thread_id is None
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert private._closed is True and private._selector is None and private._default_executor is None


def test_a_transport_is_found_in_its_loop(loop: Loop, run: Run) -> None:
    private: Any = loop

    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            assert list(private._transports.values()) == [transport]
            assert private._transports[transport._sock_fd] is transport
            transport.close()
            await protocol.lost

    run(main())
