"""Stream transports that become TLS, and that send files."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import receive_all
from support.protocols import Echo, Recorder
from support.tls import client_context, server_context
from support.transports import FAMILIES, MEGABYTES, HalfOpen, everything, fill, transport_and_peer, until


class Upgrades(Recorder):
    """A server that answers "start" with "yes", and from then on echoes over TLS."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.data == b"start":
            self.transport.write(MEGABYTES + b"yes")
            self.task = self.loop.create_task(self.upgrade())

    async def upgrade(self) -> None:
        echo = Echo()
        secured: Any = await self.loop.start_tls(self.transport, echo, server_context(), server_side=True)
        echo.connection_made(secured)
        secured.write(b"ready")


def test_tls_begins_behind_what_still_waits_to_be_sent(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upgrades, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        plain, protocol = await loop.create_connection(Recorder, "127.0.0.1", port)
        plain.write(b"start")
        expected = len(MEGABYTES) + 3
        assert (await protocol.received(expected)) == MEGABYTES + b"yes"
        secured = Recorder()
        tls: Any = await loop.start_tls(plain, secured, client_context(), server_hostname="localhost")
        secured.connection_made(tls)
        assert await secured.received(5) == b"ready"
        tls.write(MEGABYTES)
        assert await secured.received(5 + len(MEGABYTES)) == b"ready" + MEGABYTES
        assert tls.get_extra_info("ssl_object") is not None
        tls.close()
        await secured.lost
        server.close()
        await server.wait_closed()

    run(main())


@FAMILIES
@pytest.mark.parametrize("fallback", [True, False])
def test_a_file_is_sent_between_what_is_written_before_and_after(
    run: Run, family: int, fallback: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file:
            file.write(MEGABYTES)
            file.flush()
            async with transport_and_peer(HalfOpen, family) as (transport, protocol, peer):
                for offset in 0, 12345:
                    fill(transport)
                    sending = loop.create_task(loop.sendfile(transport, file, offset, fallback=fallback))
                    expected = MEGABYTES + MEGABYTES[offset:]
                    assert await receive_all(loop, peer, len(expected)) == expected
                    assert await sending == len(MEGABYTES) - offset
                    assert transport.is_reading()
                    transport.write(b"after")
                    assert await receive_all(loop, peer, 5) == b"after"
                    peer.send(b"answer")
                    await until(lambda: protocol.data == b"answer")
                    protocol.data.clear()

    run(main())


def test_nothing_is_written_while_a_file_is_sent(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file:
            file.write(MEGABYTES)
            file.flush()
            async with transport_and_peer() as (transport, _, peer):
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0.001)
                with pytest.raises(RuntimeError) as caught:
                    transport.write(b"data")
                assert str(caught.value) == "unable to write; sendfile is in progress"
                with pytest.raises(RuntimeError) as caught:
                    transport.writelines([b"data"])
                assert str(caught.value) == "unable to writelines; sendfile is in progress"
                assert not transport.is_reading()
                assert await receive_all(loop, peer, len(MEGABYTES)) == MEGABYTES
                assert await sending == len(MEGABYTES)

    run(main())


def test_a_file_whose_sending_is_cancelled_leaves_the_transport_usable(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file:
            file.write(MEGABYTES)
            file.flush()
            async with transport_and_peer() as (transport, protocol, peer):
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0.001)
                sending.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await sending
                peer.send(b"answer")
                assert await protocol.received(6) == b"answer"
                transport.write(b"after")
                transport.write_eof()
                got = await everything(peer)
                assert got.endswith(b"after")
                assert MEGABYTES.startswith(got.removesuffix(b"after"))

    run(main())


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_file_is_not_sent_to_the_end_when_its_transport_is_ended(pyloop_loop: Loop, end: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryFile() as file:
            file.write(MEGABYTES)
            file.flush()
            async with transport_and_peer() as (transport, protocol, peer):
                sending = loop.create_task(loop.sendfile(transport, file))
                await asyncio.sleep(0.001)
                getattr(transport, end)()
                await protocol.lost
                got = loop.create_task(everything(peer))
                done, _ = await asyncio.wait([sending], timeout=2)
                assert done, "the sending waits for ever"
                assert isinstance(sending.exception(), OSError | RuntimeError)
                assert MEGABYTES.startswith(await got)

    pyloop_loop.run_until_complete(main())


def test_a_file_goes_through_tls_by_the_fallback(loop: Loop, run: Run) -> None:
    async def main() -> None:
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
        transport, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context(), server_hostname="localhost"
        )
        with tempfile.TemporaryFile() as file:
            file.write(MEGABYTES)
            transport.write(b"before")
            assert await loop.sendfile(transport, file, 1000, 300_000) == 300_000
            transport.write(b"after")
            expected = b"before" + MEGABYTES[1000:301_000] + b"after"
            assert await protocol.received(len(expected)) == expected
            with pytest.raises(RuntimeError, match="fallback is disabled"):
                await loop.sendfile(transport, file, fallback=False)
        transport.close()
        await protocol.lost
        server.close()
        await server.wait_closed()

    run(main())
