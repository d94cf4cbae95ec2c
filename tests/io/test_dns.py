"""getaddrinfo and getnameinfo: what the socket module says, without a thread where none is needed."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from typing import Any

import pytest

from support.loops import Loop, Run

HOSTS = [
    "127.0.0.1", "0.0.0.0", "255.255.255.255", "8.8.8.8", "::1", "::", "fe80::1", "fe80::1%lo", "2001:db8::1",
    "::ffff:127.0.0.1", "1.2.3", "127.1", "0x7f000001", "2130706433", "010.0.0.1", b"127.0.0.1", b"::1", None,
    "localhost", "", "256.1.1.1", "1.2.3.4.5", "::1::", "127.0.0.1 ", "fe80::1%nowhere", "no such host",
]  # fmt: skip
# What is no address, and no name in the hosts file: the C library asks a name server for it.
NAMES = {"", "256.1.1.1", "1.2.3.4.5", "::1::", "127.0.0.1 ", "fe80::1%nowhere", "no such host"}
PORTS: list[Any] = [0, 80, 65535, "80", "http", b"443", None, -1, 65536, "", "no such service"]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP]
FLAGS = [
    0,
    socket.AI_NUMERICHOST,
    socket.AI_PASSIVE,
    socket.AI_CANONNAME | socket.AI_NUMERICHOST,
    socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    socket.AI_ADDRCONFIG,
    socket.AI_V4MAPPED | socket.AI_ALL | socket.AI_NUMERICHOST,
]


def answer(ask: Callable[..., Any], *given: Any) -> Any:
    """What it returns, or the kind of error and its number."""
    try:
        return ask(*given)
    except (OSError, OverflowError, TypeError, UnicodeError, ValueError) as error:
        return type(error), error.errno if isinstance(error, OSError) else None


def looks_up(host: Any, flags: int) -> bool:
    """Whether that might ask a name server, which may be slow to answer or absent: not here."""
    return host in NAMES and not flags & socket.AI_NUMERICHOST


@pytest.mark.parametrize("host", HOSTS, ids=repr)
def test_numeric_addresses_are_answered_as_the_socket_module_does(loop: Loop, run: Run, host: Any) -> None:
    combinations = [
        (port, family, kind, protocol, flags)
        for port, family, kind, protocol, flags in itertools.product(PORTS, FAMILIES, TYPES, PROTOCOLS, FLAGS)
        if (family and kind and protocol) or port in (80, "http") or not flags
    ]
    # Each of them for the most usual host, a spread of them for the others.
    step = 7 if host in ("127.0.0.1", "::1") else 29

    async def main() -> None:
        for port, family, kind, protocol, flags in combinations[::step]:
            if looks_up(host, flags):
                continue
            more = {"family": family, "type": kind, "proto": protocol, "flags": flags}
            expected = answer(socket.getaddrinfo, host, port, family, kind, protocol, flags)
            try:
                got: Any = await loop.getaddrinfo(host, port, **more)
            except (OSError, OverflowError, TypeError, UnicodeError, ValueError) as error:
                got = type(error), error.errno if isinstance(error, OSError) else None
            assert got == expected, (host, port, more)

    loop.set_debug(False)
    run(main())


def test_an_answer_has_the_types_of_the_socket_module(loop: Loop, run: Run) -> None:
    async def main() -> None:
        expected = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        got = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        assert got == expected
        assert type(got) is list
        assert [type(part) for part in got[0]] == [type(part) for part in expected[0]]

    run(main())


def test_arguments_go_by_name(loop: Loop, run: Run) -> None:
    async def main() -> None:
        ask: Any = loop.getaddrinfo
        with pytest.raises(TypeError):
            await ask("127.0.0.1", 80, socket.AF_INET)
        with pytest.raises(TypeError):
            await ask("127.0.0.1", 80, nothing=1)
        with pytest.raises(TypeError):
            await ask("127.0.0.1")

    run(main())


def test_localhost_is_found(loop: Loop, run: Run) -> None:
    async def main() -> None:
        assert await loop.getaddrinfo("localhost", 80) == socket.getaddrinfo("localhost", 80)

    run(main())


def test_a_name_that_cannot_be_is_an_error(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with pytest.raises((UnicodeError, socket.gaierror)):
            await loop.getaddrinfo("x" * 300, 80)
        with pytest.raises((ValueError, socket.gaierror)):
            await loop.getaddrinfo("nul\0byte", 80, flags=socket.AI_NUMERICHOST)

    run(main())


def test_a_zone_is_kept(loop: Loop, run: Run) -> None:
    async def main() -> None:
        found: Any = await loop.getaddrinfo("fe80::1%lo", 80, type=socket.SOCK_STREAM)
        assert found[0][4][3] == socket.if_nametoindex("lo")

    run(main())


def test_many_lookups_at_once(loop: Loop, run: Run) -> None:
    async def main() -> None:
        answers = await asyncio.gather(
            *(loop.getaddrinfo(("127.0.0.1", "::1", "localhost")[i % 3], i) for i in range(100))
        )
        for i, found in enumerate(answers):
            assert {address[1] for *_, address in found} == {i}

    run(main())


@pytest.mark.parametrize(
    "flags",
    [
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST,
        socket.NI_NUMERICHOST | socket.NI_DGRAM,
        0,
    ],
)
@pytest.mark.parametrize(
    "address", [("127.0.0.1", 80), ("::1", 80), ("::1", 53, 0, 0), ("127.0.0.1", 65000), ("fe80::1%lo", 1)]
)
def test_names_are_answered_as_the_socket_module_does(loop: Loop, run: Run, address: Any, flags: int) -> None:
    async def main() -> None:
        assert await loop.getnameinfo(address, flags) == socket.getnameinfo(address, flags)

    run(main())


def test_getnameinfo_wants_an_address(loop: Loop, run: Run) -> None:
    async def main() -> None:
        ask: Any = loop.getnameinfo
        for wrong in ("127.0.0.1",), "127.0.0.1", None, ("127.0.0.1", "80"), ():
            with pytest.raises((TypeError, OSError)):
                await ask(wrong)
        with pytest.raises(socket.gaierror):
            await ask(("no address", 80), socket.NI_NUMERICHOST)

    run(main())


def test_a_cancelled_lookup_harms_nobody(loop: Loop, run: Run) -> None:
    async def main() -> None:
        for turns in range(3):
            task = asyncio.ensure_future(loop.getaddrinfo("localhost", 80))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert await loop.getaddrinfo("127.0.0.1", 80)
        await loop.shutdown_default_executor()  # a cancelled lookup goes on, and tells the loop when it ends

    run(main())


def test_a_replaced_lookup_is_used_for_connections(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    async def lookup(host: Any, port: Any, **more: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def main() -> None:
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setattr(loop, "getaddrinfo", lookup)
            transport, _ = await loop.create_connection(asyncio.Protocol, "made up", port)
            transport.abort()
            await asyncio.sleep(0)

    run(main())
    assert asked == ["made up"]


def test_names_are_looked_up_in_the_executor_of_the_loop(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def lookup(host: Any, port: Any, *rest: Any) -> Any:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert run(loop.getaddrinfo("made up", 80))[0][4] == ("127.0.0.1", 80)
    assert asked == ["made up"]
