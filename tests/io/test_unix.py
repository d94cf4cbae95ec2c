"""Unix sockets through the loop: paths, abstract names, and what is left in the file system."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import pytest

from support.loops import Loop, Run
from support.protocols import Echo, Recorder


async def echoes(loop: Loop, address: Any) -> None:
    """Asserts that a server there echoes."""
    transport, protocol = await loop.create_unix_connection(Recorder, address)
    transport.write(b"echo")
    assert await protocol.received(4) == b"echo"
    transport.close()
    await protocol.lost


async def ended(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("kind", ["str", "Path", "bytes", "unicode"])
def test_a_path_may_be_given_in_any_form(loop: Loop, run: Run, tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("sökét" if kind == "unicode" else "socket")
    address: Any = {"str": str(path), "unicode": str(path), "Path": path, "bytes": bytes(path)}[kind]

    async def main() -> None:
        server = await loop.create_unix_server(Echo, address)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        await echoes(loop, address)
        await ended(server)

    run(main())


@pytest.mark.parametrize("kind", ["str", "bytes"])
def test_an_abstract_name_leaves_no_file(loop: Loop, run: Run, tmp_path: Path, kind: str) -> None:
    name = f"\0pyloop test {tmp_path}"
    address: Any = name if kind == "str" else name.encode()

    async def main() -> None:
        server = await loop.create_unix_server(Echo, address)
        assert server.sockets[0].getsockname() == name.encode()
        await echoes(loop, address)
        transport, protocol = await loop.create_unix_connection(Recorder, address)
        assert transport.get_extra_info("peername") == name.encode()
        transport.close()
        await protocol.lost
        await ended(server)

    run(main())


def test_streams_work_over_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    async def main() -> None:
        async with await asyncio.start_unix_server(handle, tmp_path / "socket"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(b"word\n")
            assert await reader.read() == b"WORD\n"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_both_ends_take_sockets(loop: Loop, run: Run) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=ours)
        with theirs:
            theirs.send(b"data")
            assert await protocol.received(4) == b"data"
            credentials = transport.get_extra_info("socket").getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, 12
            )
            assert struct.unpack("3i", credentials)[0] == os.getpid()
        await protocol.lost

    run(main())


def test_a_stale_socket_is_replaced(loop: Loop, run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)

    async def main() -> None:
        server = await loop.create_unix_server(Echo, path)
        await echoes(loop, path)
        await ended(server)

    run(main())


def test_a_file_in_the_way_is_kept_and_an_error(loop: Loop, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")

    async def main() -> None:
        with pytest.raises(OSError, match="is already in use"):
            await loop.create_unix_server(Echo, path)

    run(main())
    assert path.read_text() == "precious"


@pytest.mark.since(3, 13)
@pytest.mark.parametrize("cleanup", [True, False])
def test_the_file_goes_with_the_server_unless_it_shall_stay(
    loop: Loop, run: Run, tmp_path: Path, cleanup: bool
) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        create: Any = loop.create_unix_server
        await ended(await create(Echo, path, cleanup_socket=cleanup))
        assert path.exists() is not cleanup

    run(main())


@pytest.mark.since(3, 13)
def test_the_file_of_another_server_stays(loop: Loop, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def main() -> None:
        first = await loop.create_unix_server(Echo, path)
        path.unlink()
        second = await loop.create_unix_server(Echo, path)
        await ended(first)
        await echoes(loop, path)
        await ended(second)
        assert not path.exists()

    run(main())


def test_connecting_to_nobody_fails(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, str(tmp_path / "missing"))
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, f"\0{tmp_path} missing")

    run(main())


def test_a_path_that_is_too_long_is_an_os_error(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        for coro in (
            loop.create_unix_server(Echo, str(tmp_path / ("x" * 200))),
            loop.create_unix_connection(Recorder, str(tmp_path / ("x" * 200))),
        ):
            with pytest.raises(OSError, match="too long"):
                await coro

    run(main())


def test_arguments_are_checked(loop: Loop, run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket() as inet, socket.socket(socket.AF_UNIX) as unix:
            wrong: list[tuple[Any, dict[str, Any]]] = [
                (None, {}),
                (None, {"sock": inet}),
                (str(tmp_path), {"sock": unix}),
                (str(tmp_path), {"ssl_handshake_timeout": 1}),
            ]
            connect: Any = loop.create_unix_connection
            serve: Any = loop.create_unix_server
            for path, more in wrong:
                with pytest.raises(ValueError):
                    await connect(Recorder, path, **more)
                with pytest.raises(ValueError):
                    await serve(Recorder, path, **more)

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_attempt_may_be_cancelled_at_each_of_its_turns(
    loop: Loop, run: Run, tmp_path: Path, turns: int
) -> None:
    async def main() -> None:
        server = await loop.create_unix_server(Echo, tmp_path / "socket")
        task = asyncio.ensure_future(loop.create_unix_connection(Recorder, str(tmp_path / "socket")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.close()
            await protocol.lost
        await echoes(loop, str(tmp_path / "socket"))
        await ended(server)

    run(main())
