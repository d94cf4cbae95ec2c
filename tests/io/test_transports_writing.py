"""What a stream transport promises about writing: everything arrives, whole and in order."""

from __future__ import annotations

import array
import asyncio
import gc
import hashlib
import io
import os
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from support.loops import KINDS, Loop, Run, new_loop
from support.net import receive_all
from support.transports import FAMILIES, MEGABYTES, everything, fill, transport_and_peer, until


class Bytes(bytes):
    """A subclass."""


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"array"),
        memoryview(b"view"),
        memoryview(b"a slice")[2:5],
        memoryview(bytearray(b"a slice"))[2:],
        Bytes(b"subclass"),
        b"",
        bytearray(),
        memoryview(b""),
    ],
    ids=lambda data: f"{type(data).__name__}-{len(bytes(data))}",
)
@pytest.mark.parametrize("is_busy", [False, True], ids=["at once", "behind others"])
def test_bytes_of_any_kind_are_written(run: Run, data: Any, is_busy: bool) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            before = fill(transport) if is_busy else b""
            transport.write(data)
            transport.write(b"|")
            transport.write_eof()
            assert await everything(peer) == before + bytes(data) + b"|"

    run(main())


@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("is_busy", [False, True], ids=["at once", "behind others"])
def test_a_view_counts_by_its_bytes(pyloop_loop: Loop, method: str, is_busy: bool) -> None:
    grid = memoryview(bytes(range(6))).cast("B", (2, 3))
    words = memoryview(array.array("I", range(200_000)))

    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            before = fill(transport) if is_busy else b""
            waiting = transport.get_write_buffer_size()
            for view in grid, words[100:200], words:
                transport.write(view) if method == "write" else transport.writelines([view, b""])
            if is_busy:
                assert transport.get_write_buffer_size() > waiting + 300_000
            transport.write_eof()
            assert await everything(peer) == before + bytes(grid) + bytes(words[100:200]) + bytes(words)

    pyloop_loop.run_until_complete(main())


def test_a_view_with_gaps_is_written_without_them(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            transport.write(memoryview(b"a-b-c-")[::2])
            transport.writelines([memoryview(b"cba")[::-1], b"."])
            assert await receive_all(asyncio.get_running_loop(), peer, 7) == b"abcabc."

    pyloop_loop.run_until_complete(main())


@pytest.mark.parametrize("size", [10, len(MEGABYTES)], ids=["small", "large"])
@pytest.mark.parametrize("as_view", [False, True], ids=["bytearray", "memoryview"])
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_a_buffer_may_be_changed_and_resized_as_soon_as_it_was_written(
    pyloop_loop: Loop, size: int, as_view: bool, method: str
) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            before = bytearray(MEGABYTES[:size])
            for _ in range(2):
                data = memoryview(before) if as_view else before
                transport.write(data) if method == "write" else transport.writelines([data])
                del data
                gc.collect()
                before[:5] = b"other"
                before += b"longer"
                before[:] = MEGABYTES[:size]
            transport.write_eof()
            assert await everything(peer) == MEGABYTES[:size] * 2

    pyloop_loop.run_until_complete(main())


def refusal_of_asyncio(wrong: Any) -> str:
    """In the words of this CPython: it looks at what is to be written first."""
    with pytest.raises(TypeError) as caught:
        asyncio.selector_events._SelectorSocketTransport.write(object(), wrong)  # type: ignore[attr-defined]
    words = str(caught.value)
    assert words.startswith("data argument must be a bytes") and words.endswith(
        f" object, not {type(wrong).__name__!r}"
    )
    return words


@pytest.mark.parametrize("wrong", ["text", 7, None, [b"x"], array.array("B", b"x"), io.BytesIO()], ids=repr)
def test_what_is_no_bytes_is_refused_by_name(run: Run, wrong: Any) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            for state in "open", "eof", "closing", "over":
                if state == "eof":
                    transport.write_eof()
                elif state == "closing":
                    transport.close()
                elif state == "over":
                    await protocol.lost
                with pytest.raises(TypeError) as caught:
                    transport.write(wrong)
                assert str(caught.value) == refusal_of_asyncio(wrong)

    run(main())


def test_write_takes_one_argument(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            transport.write(data=b"by name")
            assert await receive_all(asyncio.get_running_loop(), peer, 7) == b"by name"
            for args in (), (b"a", b"b"):
                with pytest.raises(TypeError):
                    transport.write(*args)
            with pytest.raises(TypeError):
                transport.write(b"a", other=1)

    run(main())


def test_an_empty_write_does_nothing(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            transport.write(b"")
            assert transport.get_write_buffer_size() == 0
            sent = fill(transport)
            size = transport.get_write_buffer_size()
            transport.write(b"")
            assert transport.get_write_buffer_size() == size
            transport.write_eof()
            assert await everything(peer) == sent

    run(main())


def chunks() -> list[bytes]:
    return [b"%d;" % i for i in range(3000)]


@pytest.mark.parametrize(
    "lines",
    [
        lambda: [b"one", bytearray(b"two"), memoryview(b"three"), Bytes(b"four")],
        lambda: (b"%d" % i for i in range(10)),
        lambda: (b"a", b"b"),
        lambda: {b"a": 1, b"b": 2},
        lambda: [b"", b"a", b"", b"b"],
        list,
        tuple,
        chunks,
        lambda: [MEGABYTES, b"small", MEGABYTES],
    ],
    ids=["mixed", "generator", "tuple", "dict", "some empty", "[]", "()", "many", "large"],
)
@pytest.mark.parametrize("is_busy", [False, True], ids=["at once", "behind others"])
def test_writelines_writes_everything_in_order(run: Run, lines: Callable[[], Any], is_busy: bool) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            before = fill(transport) if is_busy else b""
            transport.writelines(lines())
            transport.write(b"|")
            transport.write_eof()
            assert await everything(peer) == before + b"".join(map(bytes, lines())) + b"|"

    run(main())


def test_writelines_sends_many_chunks_at_once_if_it_can(run: Run) -> None:
    lines = [b"%07d;" % i for i in range(1000)]

    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.writelines(lines)
            assert transport.get_write_buffer_size() == 0
            assert protocol.events == ["made"]
            assert await receive_all(asyncio.get_running_loop(), peer, 8000) == b"".join(lines)

    run(main())


def test_writelines_of_nothing_but_empty_chunks_leaves_nothing_waiting(pyloop_loop: Loop) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            transport.writelines([b"", bytearray(), memoryview(b"")])
            transport.writelines([b"x", b""])
            assert transport.get_write_buffer_size() == 0
            transport.close()
            await protocol.lost
            assert await everything(peer) == b"x"

    pyloop_loop.run_until_complete(main())


def is_stuck(transport: asyncio.WriteTransport) -> bool:
    """asyncio of CPython 3.15 keeps what came before the wrong piece, and sends nothing from then on."""
    theirs = sys.version_info >= (3, 15) and isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop)
    return theirs and transport.get_write_buffer_size() == len(b"good")


@pytest.mark.parametrize("lines", [7, [b"good", "text"], [b"good", 7], ["text"], "text"], ids=repr)
def test_writelines_with_something_wrong_writes_nothing(run: Run, lines: Any) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.writelines(lines)
            if is_stuck(transport):
                transport.abort()
                return
            transport.write(b"after")
            transport.write_eof()
            assert await everything(peer) == b"after"

    run(main())


@pytest.mark.parametrize("lines", [0, None, "", [b"good", None], [b"good", "", 0, b"too"]], ids=repr)
@pytest.mark.parametrize("state", ["open", "lost"])
def test_writelines_takes_what_is_false_as_this_asyncio_does(lines: Any, state: str) -> None:
    async def main() -> bytes | type[TypeError]:
        async with transport_and_peer() as (transport, protocol, peer):
            if state == "lost":
                transport.abort()
                await protocol.lost
            try:
                transport.writelines(lines)
            except TypeError:
                return TypeError
            transport.close()
            return await everything(peer)

    answers = []
    for loop in map(new_loop, KINDS):
        answers.append(loop.run_until_complete(main()))
        loop.close()
    assert answers[0] == answers[1]


def test_writelines_with_an_iterator_that_raises_writes_nothing(run: Run) -> None:
    def lines() -> Iterable[bytes]:
        yield b"good"
        raise LookupError("in the generator")

    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            with pytest.raises(LookupError, match="in the generator"):
                transport.writelines(lines())
            if is_stuck(transport):
                transport.abort()
                return
            transport.write_eof()
            assert await everything(peer) == b""

    run(main())


@pytest.mark.parametrize("end", ["abort", "close", "write_eof"])
def test_writelines_with_an_iterator_that_ends_the_transport(pyloop_loop: Loop, end: str) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):

            def lines() -> Iterable[bytes]:
                yield b"good"
                getattr(transport, end)()
                yield b"more"

            if end == "write_eof":
                with pytest.raises(RuntimeError, match="after write_eof"):
                    transport.writelines(lines())
            else:
                transport.writelines(lines())
            assert transport.get_write_buffer_size() == 0
            assert await everything(peer) == b""

    pyloop_loop.run_until_complete(main())


def test_nothing_is_written_after_the_end_of_the_stream(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, _):
            transport.write_eof()
            for data in b"data", b"":
                with pytest.raises(RuntimeError) as caught:
                    transport.write(data)
                assert str(caught.value) == "Cannot call write() after write_eof()"
            for lines in [b"data"], []:
                with pytest.raises(RuntimeError) as caught:
                    transport.writelines(lines)
                assert str(caught.value) == "Cannot call writelines() after write_eof()"
            transport.write_eof()

    run(main())


@FAMILIES
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_many_chunks_that_wait_arrive_whole_and_in_order(run: Run, family: int, method: str) -> None:
    expected = hashlib.sha256(MEGABYTES)

    async def main() -> None:
        async with transport_and_peer(family=family) as (transport, _, peer):
            fill(transport)
            waiting = transport.get_write_buffer_size()
            lines = [os.urandom(i % 700) for i in range(1, 2000) if i % 700]
            if method == "write":
                for line in lines:
                    transport.write(line)
            else:
                transport.writelines(lines)
            assert transport.get_write_buffer_size() >= waiting
            for line in lines:
                expected.update(line)
            transport.write_eof()
            got, loop = hashlib.sha256(), asyncio.get_running_loop()
            while data := await loop.sock_recv(peer, 30_011):
                got.update(data)
            assert got.digest() == expected.digest()
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_the_size_of_the_write_buffer_is_what_the_kernel_has_not_taken(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, peer):
            assert transport.get_write_buffer_size() == 0
            fill(transport)
            size = transport.get_write_buffer_size()
            transport.write(b"12345")
            transport.write(bytearray(b"67"))
            assert transport.get_write_buffer_size() == size + 7
            transport.writelines([b"1", b"2"])
            assert transport.get_write_buffer_size() <= size + 9
            await receive_all(asyncio.get_running_loop(), peer, len(MEGABYTES) + 9)
            await until(lambda: transport.get_write_buffer_size() == 0)

    run(main())


def test_a_long_queue_is_sent_while_the_peer_answers(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer(family=socket.AF_INET) as (transport, protocol, peer):
            loop = asyncio.get_running_loop()
            fill(transport)
            await loop.sock_sendall(peer, b"answer" * 1000)
            assert await protocol.received(6000) == b"answer" * 1000
            assert await receive_all(loop, peer, len(MEGABYTES)) == MEGABYTES

    run(main())
