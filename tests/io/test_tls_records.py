"""TLS beside asyncio, record by record: what arrives and what is written, cut and joined in every way."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import socket_pair
from support.protocols import Recorder
from support.tls import TlsPeer, client_context, server_context
from support.transports import Buffered, until

VERSIONS = pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"]
)


class Counting(Recorder):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append(len(data))
        super().data_received(data)


@asynccontextmanager
async def tls_transport_and_peer(
    make: Callable[[], Any] = Counting, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Any, Any, TlsPeer]]:
    """A server's transport, its protocol, and a client that is driven by hand."""
    loop = asyncio.get_running_loop()
    with socket_pair() as (ours, theirs):
        peer = TlsPeer(loop, theirs, client_context())
        greeting = asyncio.ensure_future(peer.handshake())
        accepted: Any = await loop.connect_accepted_socket(make, ours, ssl=context or server_context())
        transport, protocol = accepted
        await greeting
        try:
            yield transport, protocol, peer
        finally:
            transport.abort()
            await until(lambda: transport._ssl_protocol._transport is None)


@VERSIONS
def test_random_sizes_go_both_ways_unharmed(loop: Loop, run: Run, version: ssl.TLSVersion) -> None:
    context = server_context()
    context.maximum_version = context.minimum_version = version
    rng = random.Random(7)
    sizes = [rng.choice([1, 5, 100, 1024, 16384, 16385, 70_000]) for _ in range(40)]

    async def main() -> None:
        async with tls_transport_and_peer(context=context) as (transport, protocol, peer):
            assert transport.get_extra_info("ssl_object").version() == peer.tls.version()
            theirs, ours = hashlib.sha256(), hashlib.sha256()

            async def receive() -> bytes:
                return hashlib.sha256(await peer.receive(sum(sizes))).digest()

            receiving = asyncio.ensure_future(receive())
            for size in sizes:
                data = rng.randbytes(size)
                transport.write(data)
                ours.update(data)
                theirs.update(data)
                await peer.send(data)
            await protocol.received(sum(sizes))
            assert hashlib.sha256(protocol.data).digest() == theirs.digest()
            assert await receiving == ours.digest()

    run(main())


def test_many_records_are_one_call(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (_, protocol, peer):
            for _ in range(100):
                peer.tls.write(b"x" * 10)
            await peer.flush()
            await protocol.received(1000)
            assert protocol.pieces == [1000]

    run(main())


def test_a_record_that_comes_byte_by_byte_is_one_call(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (_, protocol, peer):
            for size in 1, 300:
                protocol.pieces.clear()
                protocol.data.clear()
                peer.tls.write(b"x" * size)
                for byte in peer.outgoing.read():
                    await loop.sock_sendall(peer.sock, bytes([byte]))
                    await asyncio.sleep(0)
                await protocol.received(size)
                assert protocol.pieces == [size]

    run(main())


def test_records_that_are_cut_anywhere_lose_nothing(loop: Loop, run: Run) -> None:
    rng = random.Random(1)
    data = rng.randbytes(200_000)

    async def main() -> None:
        async with tls_transport_and_peer() as (_, protocol, peer):
            peer.write_all(data)
            ciphertext = memoryview(peer.outgoing.read())
            while ciphertext:
                size = rng.choice([1, 17, 1000, 16_000, 40_000])
                await loop.sock_sendall(peer.sock, ciphertext[:size])
                ciphertext = ciphertext[size:]
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
            assert await protocol.received(len(data)) == data
            assert 0 not in protocol.pieces

    run(main())


def test_a_record_goes_on_where_the_program_has_put_its_beginning(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            for cut in 1, 4, 5, 6, 200, 16_500:
                protocol.data.clear()
                peer.write_all(b"x" * 300 + b"y" * 40_000)
                records = peer.outgoing.read()
                transport._ssl_protocol._incoming.write(records[:cut])
                await loop.sock_sendall(peer.sock, records[cut:])
                assert await protocol.received(40_300) == b"x" * 300 + b"y" * 40_000
                assert transport._ssl_protocol._incoming.pending == 0

    run(main())


def test_what_the_program_encrypts_itself_goes_before_what_it_writes(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, _, peer):
            for size in 1, 100_000:
                transport.get_extra_info("ssl_object").write(b"first ")
                assert transport._ssl_protocol._outgoing.pending > 0
                transport.write(b"x" * size)
                assert await peer.receive(6 + size) == b"first " + b"x" * size

    run(main())


def test_the_program_may_read_on_itself(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send(b"x" * 20_000)
            await until(lambda: transport._ssl_protocol._incoming.pending > 20_000)
            tls = transport.get_extra_info("ssl_object")
            assert tls.read(100) == b"x" * 100 and tls.pending() == 16_284
            transport.resume_reading()
            assert await protocol.received(19_900) == b"x" * 19_900

    run(main())


def test_the_tls_object_outlives_its_connection(loop: Loop, run: Run) -> None:
    async def main() -> tuple[Any, Any, Any]:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            await peer.send(b"data")
            assert await protocol.received(4) == b"data"
            inner = transport._ssl_protocol
            return transport.get_extra_info("ssl_object"), inner._incoming, inner._outgoing

    tls, incoming, outgoing = run(main())
    gc.collect()
    with pytest.raises(ssl.SSLWantReadError):
        tls.read(1)
    assert tls.write(b"more") == 4 and outgoing.pending > 4 and incoming.pending == 0
    incoming.write(b"no record at all")
    with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version|record.layer.failure"):
        tls.read(1)


@pytest.mark.parametrize("make", [Counting, Buffered])
def test_what_comes_behind_the_end_is_nobodys(loop: Loop, run: Run, make: Any) -> None:
    async def main() -> None:
        async with tls_transport_and_peer(make) as (_, protocol, peer):
            peer.tls.write(b"last words")
            peer.close_notify()
            await loop.sock_sendall(peer.sock, peer.outgoing.read() + b"no record at all" * 1000)
            await protocol.lost
            assert protocol.data == b"last words" and protocol.events == ["made", "eof", "lost"]

    run(main())


@pytest.mark.parametrize("size", [1, 100, 16_384, 40_000])
def test_a_buffered_protocol_is_filled_in_place(loop: Loop, run: Run, size: int) -> None:
    class Sized(Buffered):
        def get_buffer(self, sizehint: int) -> Any:
            return memoryview(super().get_buffer(sizehint))

    Sized.size = size
    data = random.Random(2).randbytes(50_000)

    async def main() -> None:
        async with tls_transport_and_peer(Sized) as (_, protocol, peer):
            peer.write_all(data if size > 1 else data[:100])
            await peer.flush()
            wanted = data if size > 1 else data[:100]
            assert await protocol.received(len(wanted)) == wanted
            assert max(protocol.counts) <= size and 0 not in protocol.counts

    run(main())


def test_the_end_behind_data_comes_after_it(loop: Loop, run: Run) -> None:
    for make in Counting, Buffered:

        async def main(make: Any = make) -> None:
            async with tls_transport_and_peer(make) as (_, protocol, peer):
                peer.tls.write(b"last words")
                peer.close_notify()
                await peer.flush()
                await protocol.lost
                assert protocol.data == b"last words"
                assert protocol.events == ["made", "eof", "lost"] and protocol.error is None

        run(main())


def test_a_stream_reader_gets_what_comes_and_the_end(loop: Loop, run: Run) -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        async with tls_transport_and_peer(lambda: asyncio.StreamReaderProtocol(reader)) as (_, _, peer):
            for _ in range(3):
                peer.tls.write(b"line\n")
            await peer.flush()
            assert [await reader.readline() for _ in range(3)] == [b"line\n"] * 3
            peer.tls.write(b"rest")
            peer.close_notify()
            await peer.flush()
            assert await reader.read() == b"rest"

    run(main())


def reason_of(harm: Callable[[bytes], bytes]) -> tuple[str, str]:
    """What this OpenSSL says of such a record, without a loop."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context().wrap_bio(to_server, to_client, server_side=True)
    client = client_context().wrap_bio(to_client, to_server, server_hostname="localhost")
    for side in client, server, client, server:
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    client.write(b"good")
    assert server.read() == b"good"
    client.write(b"bad")
    to_server.write(harm(to_server.read()))
    with pytest.raises(ssl.SSLError) as caught:
        server.read()
    return caught.value.reason, caught.value.library


# Some OpenSSLs name the layer alone: RECORD_LAYER_FAILURE.
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        (lambda data: b"GET / HTTP/1.1\r\n\r\n", "WRONG_VERSION_NUMBER"),
    ],
    ids=["changed", "plain"],
)
@pytest.mark.parametrize("make", [Counting, Buffered])
def test_a_harmed_record_ends_the_connection_with_its_error(
    loop: Loop, run: Run, make: Any, harm: Callable[[bytes], bytes], reason: str
) -> None:
    async def main() -> None:
        async with tls_transport_and_peer(make) as (_, protocol, peer):
            peer.tls.write(b"good")
            await peer.flush()
            await protocol.received(4)
            peer.tls.write(b"bad")
            await loop.sock_sendall(peer.sock, harm(peer.outgoing.read()))
            await protocol.lost
            assert isinstance(protocol.error, ssl.SSLError)
            assert protocol.error.reason in {reason, "RECORD_LAYER_FAILURE"}
            assert (protocol.error.reason, protocol.error.library) == reason_of(harm)
            assert protocol.data == b"good" and protocol.events == ["made", "lost"]

    run(main())


def test_a_connection_that_is_cut_without_a_word_ends_as_on_asyncio(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (_, protocol, peer):
            peer.tls.write(b"data")
            ciphertext = peer.outgoing.read()
            await loop.sock_sendall(peer.sock, ciphertext + ciphertext[:9])
            peer.sock.close()
            await protocol.lost
            assert protocol.data == b"data" and protocol.events[-1] == "lost"

    run(main())


@pytest.mark.parametrize("method", ["data_received", "get_buffer", "buffer_updated"])
@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
def test_a_method_that_raises_ends_the_connection(
    loop: Loop, run: Run, handled: list[dict[str, Any]], method: str, error: type[BaseException]
) -> None:
    base: Any = Counting if method == "data_received" else Buffered

    def raises(self: Any, *args: Any) -> None:
        raise error("on purpose")

    async def main() -> None:
        make = type("Raising", (base,), {method: raises})
        async with tls_transport_and_peer(make) as (_, protocol, peer):
            peer.tls.write(b"data")
            await peer.flush()
            await protocol.lost
            assert isinstance(protocol.error, error)

    run(main())
    told = [context["message"] for context in handled]
    if error is ZeroDivisionError:
        assert told == ["Fatal error on SSL protocol"]
    else:
        assert len(told) <= 1


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), memoryview(bytearray(b"xyxy"))[::1]],
    ids=["bytes", "bytearray", "memoryview", "slice"],
)
def test_what_is_like_bytes_is_written(loop: Loop, run: Run, data: Any) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, _, peer):
            transport.write(data)
            transport.write(b"")
            assert await peer.receive(len(data)) == bytes(data)
            transport.writelines([data, data])
            transport.writelines((data,))
            transport.writelines(each for each in [data])
            assert await peer.receive(4 * len(data)) == bytes(data) * 4

    run(main())


def test_what_is_no_bytes_is_refused(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, _, peer):
            for wrong in "text", 1, None, [1]:
                with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got"):
                    transport.write(wrong)
            transport.write(b"still there")
            assert await peer.receive(11) == b"still there"

    run(main())


def test_a_protocol_writes_wherever_it_is_called(loop: Loop, run: Run) -> None:
    class Talking(Counting):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"made")

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"one")
            self.transport.writelines([b"two", b"three"])

        def eof_received(self) -> bool | None:
            self.transport.write(b"eof")
            return super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            self.transport.write(b"lost")
            super().connection_lost(exc)

    async def main() -> None:
        async with tls_transport_and_peer(Talking) as (_, protocol, peer):
            assert await peer.receive(4) == b"made"
            await peer.send(b"x")
            assert await peer.receive(11) == b"onetwothree"
            peer.close_notify()
            await peer.flush()
            await protocol.lost
            assert protocol.events == ["made", "eof", "lost"]

    run(main())


def test_writing_is_paused_and_resumed(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=100_000, low=20_000)
            assert transport.get_write_buffer_limits() == (20_000, 100_000)
            size = 0
            while "pause" not in protocol.events:
                transport.write(b"x" * 50_000)
                size += 50_000
            assert transport.get_write_buffer_size() >= 100_000
            assert await peer.receive(size) == b"x" * size
            await protocol.until(lambda: "resume" in protocol.events)
            assert protocol.events == ["made", "pause", "resume"]
            assert transport.get_write_buffer_size() <= 20_000

    run(main())


def test_a_limit_of_nothing_pauses_at_the_first_byte(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(b"x")
            assert protocol.events[:2] == ["made", "pause"]
            assert await peer.receive(1) == b"x"

    run(main())


def test_what_waits_while_reading_is_paused_comes_in_one_piece(loop: Loop, run: Run) -> None:
    async def main() -> None:
        async with tls_transport_and_peer() as (transport, protocol, peer):
            transport.set_read_buffer_limits(high=4000, low=1000)
            transport.pause_reading()
            for _ in range(3):
                await peer.send(b"x" * 2000)
                await asyncio.sleep(0.002)
            plain = transport._ssl_protocol._transport
            await until(lambda: not plain.is_reading())
            assert protocol.data == b"" and transport.get_read_buffer_size() >= 4000
            transport.resume_reading()
            await protocol.received(6000)
            await until(plain.is_reading)
            assert transport.get_read_buffer_size() == 0

    run(main())


def test_a_program_that_closes_while_it_receives_gets_no_more(loop: Loop, run: Run) -> None:
    class Closing(Counting):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.write(b"bye")
            self.transport.close()
            self.transport.write(b"never")

    async def main() -> None:
        async with tls_transport_and_peer(Closing) as (_, protocol, peer):
            peer.tls.write(b"data")
            await peer.flush()
            assert await peer.receive(3) == b"bye"
            peer.close_notify()
            await peer.flush()
            await protocol.lost
            assert protocol.pieces == [4] and protocol.error is None

    run(main())
