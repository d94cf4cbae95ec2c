"""websockets: its server and its client on one loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from support.loops import Run


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def served(compression: str | None = None) -> AsyncIterator[tuple[Server, str]]:
    """A running server that says everything back, and its address."""
    async with serve(echo, "127.0.0.1", 0, compression=compression, max_size=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        yield server, f"ws://{host}:{port}"


def dial(url: str, compression: str | None = None) -> connect:
    return connect(url, compression=compression, max_size=None, proxy=None)


def test_many_clients_talk_at_once(run: Run) -> None:
    async def one(url: str, name: int) -> None:
        async with dial(url) as connection:
            for number in range(30):
                await connection.send(f"{name}.{number}")
                assert await connection.recv() == f"{name}.{number}"

    async def main() -> None:
        async with served() as (_, url):
            await asyncio.gather(*(one(url, name) for name in range(20)))

    run(main())


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_large_message_arrives_whole(run: Run, compression: str | None) -> None:
    async def main() -> None:
        data = os.urandom(1000) * 3000
        async with served(compression) as (_, url), dial(url, compression) as connection:
            # In fragments, while the answer arrives.
            sending = asyncio.create_task(
                connection.send(data[at : at + 2**16] for at in range(0, 3_000_000, 2**16))
            )
            assert await connection.recv() == data
            await sending

    run(main())


def test_a_message_that_is_not_waited_for_is_not_lost(run: Run) -> None:
    async def main() -> None:
        async with served() as (_, url), dial(url) as connection:
            receiving = asyncio.create_task(connection.recv())
            await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.wait([receiving])
            await connection.send("kept")
            assert await connection.recv() == "kept"
            assert await (await connection.ping()) >= 0

    run(main())


def test_a_server_that_closes_says_so(run: Run) -> None:
    async def main() -> None:
        async with served() as (server, url), dial(url) as connection:
            server.close()
            with pytest.raises(ConnectionClosedOK) as closed:
                await connection.recv()
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001

    run(main())


def test_a_connection_that_breaks_is_an_error_on_the_other_side(run: Run) -> None:
    async def main() -> None:
        async with served() as (_, url), dial(url) as connection:
            connection.transport.abort()
            with pytest.raises(ConnectionClosedError):
                await connection.recv()

    run(main())


def test_a_broadcast_reaches_everybody(run: Run) -> None:
    async def listen(connection: ClientConnection) -> list[str | bytes]:
        return [await connection.recv() for _ in range(20)]

    async def main() -> None:
        async with served() as (server, url):
            connections = [await dial(url) for _ in range(20)]
            listening = [asyncio.create_task(listen(each)) for each in connections]
            for number in range(20):
                broadcast(server.connections, str(number))
                await asyncio.sleep(0)
            assert await asyncio.gather(*listening) == [[str(number) for number in range(20)]] * 20
            await asyncio.gather(*(each.close() for each in connections))

    run(main())
