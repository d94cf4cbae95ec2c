"""getaddrinfo of literals, which pyloop answers natively: what the socket module would say."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import socket
import sys
import threading
from typing import Any

import pytest

from support.loops import Loop, Run
from support.process import output

ODD = random.Random(7)
V4 = [".".join(str(ODD.choice((0, 1, 9, 10, 127, 255))) for _ in range(4)) for _ in range(12)]
V6 = [
    "::", "::1", "2001:db8::1", "2001:DB8:0:0:0:0:0:A", "1:2:3:4:5:6:7:8", "::1.2.3.4", "::ffff:1.2.3.4",
    "::ffff:0:0", "64:ff9b::1.2.3.4", "fe80::1", "fe80::1%lo", "ff02::1", "ff05::2", "fc00::", "1::8",
    "0:0:0:1::", "::abcd:0:0:1", "0001:0002::", "1:0:0:2:0:0:0:3",
]  # fmt: skip
# Forms of the same that a stricter reader takes for something else.
OTHER = ["127.1", "0x7f.1", "1", "010.1.1.1", "1.2.3.04", "::1%", "\uff11.2.3.4", "[::1]", "1.2.3.4\0"]
PORTS: list[Any] = [80, 0, 65535, "443", b"8080", None, "0", "007", 65536, -1, True]
PORTS += ["70000", " 1", "+1", "\u0661"]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, -1]
KINDS: list[Any] = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 1, 77]
PROTOCOLS: list[Any] = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP, 6]
FLAGS: list[Any] = [
    0,
    socket.AI_NUMERICHOST,
    socket.AI_PASSIVE,
    socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
]
ERRORS = (OSError, OverflowError, TypeError, UnicodeError, ValueError)


class Text(str):
    """A `str` that is none of `str`'s own."""


def expected(*given: Any) -> Any:
    try:
        return socket.getaddrinfo(*given)
    except ERRORS as error:
        return type(error), error.args


async def given(loop: Loop, host: Any, port: Any, *more: Any) -> Any:
    names = ("family", "type", "proto", "flags")
    try:
        return await loop.getaddrinfo(host, port, **dict(zip(names, more, strict=True)))
    except ERRORS as error:
        return type(error), error.args


def typed(answer: Any) -> Any:
    """What is equal and is of the same types all the way down."""
    if isinstance(answer, (list, tuple)):
        return type(answer), [typed(part) for part in answer]
    return type(answer), answer


def test_literals_are_answered_as_the_socket_module_does(loop: Loop, run: Run) -> None:
    every = list(itertools.product(PORTS, FAMILIES, KINDS, PROTOCOLS, FLAGS))
    usual = list(itertools.product([80, None, "443"], FAMILIES[:3], KINDS[:4], [0, 6], FLAGS[:2]))

    async def main() -> None:
        looked_up = 0
        for host in [*V4, *map(str.encode, V4[:3]), *V6, *map(str.encode, V6[:3]), Text(V4[0])]:
            for more in [*ODD.sample(every, 60), *ODD.sample(usual, 40)]:
                looked_up += 1
                assert typed(await given(loop, host, *more)) == typed(expected(host, *more)), (host, more)
        assert looked_up > 3_000

    loop.set_debug(False)
    run(main())


def test_what_only_looks_like_a_literal_is_the_socket_modules(loop: Loop, run: Run) -> None:
    async def main() -> None:
        for host, port in itertools.product([*OTHER, *V4[:2], *V6[:3]], PORTS):
            # So that nobody asks a name server.
            more = (0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
            answer = typed(await given(loop, host, port, *more))
            assert answer == typed(expected(host, port, *more)), (host, port)
        for wrong in ("0", 0, 0, 0), (None, 0, 0, 0), (0, 1.0, 0, 0), (0, 0, 1 << 40, 0), (0, 0, 0, [0]):
            assert await given(loop, "127.0.0.1", 80, *wrong) == expected("127.0.0.1", 80, *wrong)

    loop.set_debug(False)
    run(main())


def test_an_answer_is_the_callers_own(loop: Loop, run: Run) -> None:
    async def main() -> None:
        first: Any = await loop.getaddrinfo("192.0.2.1", 80)
        first[0] = None
        first.clear()
        assert await loop.getaddrinfo("192.0.2.1", 80) == socket.getaddrinfo("192.0.2.1", 80)

    run(main())


def test_the_c_library_is_asked_once_for_each_kind(pyloop_loop: Loop) -> None:
    asked: list[Any] = []

    def called(frame: Any, event: str, what: Any) -> None:
        if event == "c_call" and what.__name__ == "getaddrinfo" and what.__module__ == "_socket":
            asked.append(what)

    async def main() -> None:
        for host in ("192.0.2.1", "2001:db8::1"):
            await pyloop_loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
        sys.setprofile(called)
        try:
            questions: Any = itertools.product(("192.0.2.2", b"192.0.2.3", "2001:db8::2"), (1, "2", b"3"))
            for host, port in questions:
                await pyloop_loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        finally:
            sys.setprofile(None)

    pyloop_loop.set_debug(False)
    pyloop_loop.run_until_complete(main())
    assert asked == []


def test_a_lookup_of_the_users_own_is_asked_in_the_executor(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def lookup(*args: Any) -> Any:
        asked.append((threading.current_thread() is threading.main_thread(), *args))
        return ["answer"]

    async def main() -> None:
        before = await loop.getaddrinfo("127.0.0.1", 80)
        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", lookup)
            answer: Any = await loop.getaddrinfo("127.0.0.1", 80, flags=4)
            assert answer == ["answer"]
        assert await loop.getaddrinfo("127.0.0.1", 80) == before

    loop.set_debug(False)
    run(main())
    assert asked == [(False, "127.0.0.1", 80, 0, 0, 0, 4)]


def test_what_stands_behind_the_socket_modules_function_may_be_replaced(
    loop: Loop, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _socket

    def lookup(*args: Any) -> Any:
        return [(socket.AF_INET, 77, 0, "", args[:2])]

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(_socket, "getaddrinfo", lookup)
            assert await loop.getaddrinfo("127.0.0.1", 80) == [(socket.AF_INET, 77, 0, "", ("127.0.0.1", 80))]

    run(main())


AUDITED = """
import socket, sys
heard = []
def hook(event, args):
    if event == "socket.getaddrinfo":
        heard.append(args)
        if args[1] == 666:
            raise PermissionError("not that port")
async def main():
    sys.addaudithook(hook)
    loop = asyncio.get_running_loop()
    for port in (80, 81, 666):
        try:
            await loop.getaddrinfo("192.0.2.1", port, type=socket.SOCK_STREAM)
        except PermissionError as refused:
            print(refused)
    print(heard)
asyncio.run(main(), loop_factory=new_event_loop)
"""


def test_who_audits_a_program_hears_of_literals(loop_kind: str) -> None:
    # A process of its own: an audit hook stays.
    heard = [("192.0.2.1", port, 0, 1, 0) for port in (80, 81, 666)]
    assert output(loop_kind, AUDITED) == f"not that port\n{heard}\n"


def test_it_is_a_coroutine_function(loop: Loop) -> None:
    assert inspect.iscoroutinefunction(loop.getaddrinfo)
    pending = loop.getaddrinfo("127.0.0.1", 80)
    assert inspect.iscoroutine(pending)
    pending.close()


def test_a_lookup_of_a_subclass_is_asked_for_connections(loop: Loop) -> None:
    asked: list[Any] = []
    kind: Any = type(loop)

    class Own(kind):  # type: ignore[misc]
        async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
            asked.append(host)
            return await super().getaddrinfo("127.0.0.1", port, **more)

    own = Own()

    async def main() -> None:
        async with await own.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            transport, _ = await own.create_connection(asyncio.Protocol, "made up", port)
            transport.abort()
            await asyncio.sleep(0)

    try:
        own.run_until_complete(main())
    finally:
        own.close()
    assert asked == ["made up"]
