"""Which sockets and addresses endpoints of datagrams take; many datagrams at once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import sys
from typing import Any

import pytest

from support.datagrams import HERE, drain, endpoint, fill, full_pair, udp_socket, until
from support.loops import Run
from support.protocols import Datagrams


def test_senders_are_as_recvfrom_gives_them(run: Run, tmp_path: Any) -> None:
    """Of each family: named, abstract, without a name; twice the same, and others in between."""

    async def main() -> None:
        def udp(family: socket.AddressFamily, host: str) -> socket.socket:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.bind((host, 0))
            return sock

        def unix(name: str | None) -> socket.socket:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if name is not None:
                sock.bind(name)
            return sock

        names = str(tmp_path / "é"), f"\0{tmp_path}\0x", None, str(tmp_path / "b"), None
        kinds = [
            [udp(socket.AF_INET, f"127.0.0.{number}") for number in (1, 1, 1, 2)],
            [udp(socket.AF_INET6, "::1") for _ in range(4)],
            [unix(str(tmp_path / "oracle")), unix(str(tmp_path / "ours")), *map(unix, names)],
        ]
        for oracle, sock, *senders in kinds:
            with oracle:
                async with endpoint(sock=sock) as ours:
                    here = ours.transport.get_extra_info("sockname")
                    for sender in [*senders, *senders, *senders[:1], *senders[:1]]:
                        sender.sendto(b"x", oracle.getsockname())
                        sender.sendto(b"x", here)
                        got = await ours.received.get()
                        assert got == oracle.recvfrom(10)
                        assert [type(part) for part in got] == [type(part) for part in (b"x", got[1])]
                for sender in senders:
                    sender.close()

    run(main())


def test_a_sender_from_an_ipv4_address_is_mapped(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        with udp_socket() as peer:
            async with endpoint(sock=sock) as ours:
                peer.sendto(b"x", ("127.0.0.1", sock.getsockname()[1]))
                _, addr = await ours.received.get()
                assert addr == ("::ffff:127.0.0.1", peer.getsockname()[1], 0, 0)
                ours.transport.sendto(b"back", addr)
                await until(lambda: drain(peer) == [b"back"] or None)

    run(main())


class Text(str):
    pass


class Port(int):
    pass


def addresses(port: int) -> list[Any]:
    """Ways to write an address that the socket takes."""
    return [
        ("127.0.0.1", port),
        ("localhost", port),
        ("127.1", port),
        (b"127.0.0.1", port),
        (bytearray(b"127.0.0.1"), port),
        (Text("127.0.0.1"), port),
        ("127.0.0.1", Port(port)),
        ("127.0.0.1", port),
        ("", port),
    ]


def test_an_address_may_be_written_in_all_of_pythons_ways(run: Run) -> None:
    async def main() -> None:
        with udp_socket() as peer:
            async with endpoint() as ours:
                for addr in addresses(peer.getsockname()[1]):
                    ours.transport.sendto(repr(addr).encode(), addr)
                    await until(lambda: drain(peer) == [repr(addr).encode()] or None)  # noqa: B023

    run(main())


@pytest.mark.parametrize("more", [(), (0,), (0, 0), (5, 0)], ids=repr)
def test_an_ipv6_address_may_have_more_parts(run: Run, more: Any) -> None:
    async def main() -> None:
        async with endpoint(local_addr=("::1", 0)) as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", (*here[:2], *more))
            assert (await ours.received.get())[0] == b"x"

    run(main())


def test_wrong_ipv6_addresses_are_the_sockets_to_refuse(run: Run, handled: list[Any]) -> None:
    async def main() -> None:
        for addr in [("::1", 9, 2**20), ("::1", 9, 0, 0, 0), ("::1", 9, "x")]:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                with pytest.raises((OverflowError, TypeError, ValueError)) as known:
                    sock.sendto(b"x", addr)
            async with endpoint(local_addr=("::1", 0)) as ours:
                ours.transport.sendto(b"x", addr)
                raised = await ours.lost
                assert (type(raised), str(raised)) == (known.type, str(known.value))
        assert len(handled) == 3

    run(main())


def test_unix_addresses_of_all_kinds_are_reached(run: Run, tmp_path: Any) -> None:
    async def main() -> None:
        path, abstract = str(tmp_path / "peer"), f"\0{tmp_path}"
        names: list[Any] = [path, path.encode(), Text(path), bytearray(path.encode()), str(tmp_path / "ü")]
        names += [abstract, abstract.encode()]
        async with endpoint(sock=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ours:
            for number, name in enumerate(names):
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                    peer.setblocking(False)
                    peer.bind(name)
                    ours.transport.sendto(b"%d" % number, name)
                    assert drain(peer) == [b"%d" % number]
                if not name.startswith(b"\0" if isinstance(name, (bytes, bytearray)) else "\0"):
                    os.unlink(os.fsdecode(bytes(name) if isinstance(name, bytearray) else name))
            for name in path, "x" * 107, str(tmp_path / "nobody"), "\0nobody":
                ours.transport.sendto(b"x", name)
                assert isinstance(ours.errors.get_nowait(), OSError)
            ours.transport.sendto(b"x", "x" * 200)
            assert str(ours.errors.get_nowait()) == "AF_UNIX path too long"
            assert not ours.transport.is_closing()

    run(main())


def test_a_datagram_of_a_pair_has_no_sender(run: Run, handled: list[Any]) -> None:
    async def main() -> None:
        ours_sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            async with endpoint(sock=ours_sock) as ours:
                theirs.send(b"x" * 200_000)
                got = await ours.received.get()
                assert got == (b"x" * 200_000, None)
                # Its peer has no name: asyncio sends to an address, and has none.
                ours.transport.sendto(b"x")
                assert isinstance(await ours.lost, TypeError)
        assert len(handled) == 1

    run(main())


def test_a_longer_datagram_than_asyncio_receives_is_cut_off(run: Run) -> None:
    async def main() -> None:
        ours_sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in ours_sock, theirs:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        with theirs:
            async with endpoint(sock=ours_sock) as ours:
                try:
                    theirs.send(bytes(2**18 + 10))
                except OSError:
                    pytest.skip("the system allows no longer buffers")
                assert len((await ours.received.get())[0]) == 2**18

    run(main())


@pytest.mark.since(3, 13)  # refused before
def test_a_packet_socket_of_another_kind_is_asked_by_its_methods(run: Run) -> None:
    async def main() -> None:
        ours_sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            async with endpoint(sock=ours_sock) as ours:
                for number in range(20):
                    theirs.send(b"%d" % number)
                got = [await ours.received.get() for _ in range(20)]
                assert got == [(b"%d" % number, None) for number in range(20)]

    run(main())


class Own(socket.socket):
    """Has methods of its own."""

    blocks = 0

    def recvfrom(self, *args: Any) -> Any:
        if self.blocks:
            type(self).blocks -= 1
            raise BlockingIOError
        data, addr = super().recvfrom(*args)
        return data.upper(), ("renamed", *addr[1:])

    def sendto(self, data: Any, addr: Any) -> int:  # type: ignore[override]
        return super().sendto(bytes(data)[::-1], addr)

    def send(self, data: Any, *args: Any) -> int:
        if self.blocks:
            type(self).blocks -= 1
            raise BlockingIOError
        return super().send(bytes(data)[::-1])


def take(got: list[bytes], peer: socket.socket) -> int:
    """Receives what is there; how many have come in all."""
    got += drain(peer)
    return len(got)


@pytest.mark.parametrize("blocks", [0, 5])
def test_a_sockets_own_methods_are_called(run: Run, blocks: int, tmp_path: Any) -> None:
    async def main() -> None:
        sock = Own(type=socket.SOCK_DGRAM)
        sock.bind(HERE)
        with udp_socket() as peer:
            async with endpoint(sock=sock) as ours:
                Own.blocks = blocks
                here, there = ours.transport.get_extra_info("sockname"), peer.getsockname()
                for _ in range(3):
                    peer.sendto(b"abc", here)
                for _ in range(3):
                    assert await ours.received.get() == (b"ABC", ("renamed", there[1]))
                ours.transport.sendto(b"abc", there)
                await until(lambda: drain(peer) == [b"cba"] or None)
            sock = Own(type=socket.SOCK_DGRAM)
            sock.connect(there)
            async with endpoint(sock=sock) as ours:
                Own.blocks = blocks
                ours.transport.sendto(b"abc")
                got: list[bytes] = []
                await until(lambda: take(got, peer) == 1)
                assert got == [b"cba"]
        with full_pair(tmp_path / "peer", Own) as (sock, full):
            Own.blocks = 0
            async with endpoint(sock=sock) as ours:
                count = fill(ours.transport, b"ab")
                ours.transport.sendto(b"cd")
                got = []
                await until(lambda: take(got, full) == count + 1)
                assert got == [b"ba"] * count + [b"dc"]

    run(main())


def test_a_method_that_is_put_on_the_class_is_called(run: Run, monkeypatch: Any) -> None:
    async def main() -> None:
        async with endpoint() as ours:
            here = ours.transport.get_extra_info("sockname")
            with monkeypatch.context() as patch:
                patch.setattr(
                    socket.socket,
                    "sendto",
                    lambda sock, data, addr: sock.sendmsg([b"<", data], [], 0, addr),
                    raising=False,
                )
                ours.transport.sendto(b"x", here)
            assert (await ours.received.get())[0] == b"<x"
            with monkeypatch.context() as patch:
                patch.setattr(
                    socket.socket, "recvfrom", lambda sock, size: (sock.recv(size), "me"), raising=False
                )
                ours.transport.sendto(b"y", here)
                assert await ours.received.get() == (b"y", "me")
            ours.transport.sendto(b"z", here)
            assert await ours.received.get() == (b"z", here)

    run(main())


def test_what_audits_the_program_hears_of_sends(run: Run) -> None:
    heard: list[tuple[Any, ...]] = []
    listening = [True]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if listening and event == "socket.sendto":
            heard.append(args)
            if args[1][1] == 9:
                raise LookupError("not there")

    sys.addaudithook(hook)

    async def main() -> None:
        async with endpoint() as ours:
            here = ours.transport.get_extra_info("sockname")
            ours.transport.sendto(b"x", here)
            assert heard == [(ours.transport._sock, here)]
            ours.transport.sendto(b"x", ("127.0.0.1", 9))
            assert isinstance(await ours.lost, LookupError)

    asyncio.new_event_loop().close()
    try:
        loop_errors: list[Any] = []

        async def quiet() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: loop_errors.append(context))
            await main()

        run(quiet())
        assert [each["message"] for each in loop_errors] == ["Fatal write error on datagram transport"]
    finally:
        listening.clear()


def test_multicast_comes_back_by_loopback(run: Run) -> None:
    async def main() -> None:
        group = "224.0.0.251"
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(("", 0))
        here = socket.inet_aton("127.0.0.1")
        try:
            membership = struct.pack("4s4s", socket.inet_aton(group), here)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        except OSError:
            sock.close()
            pytest.skip("no multicast on the loopback device")
        async with endpoint(sock=sock) as ours:
            port = sock.getsockname()[1]
            ours.transport.sendto(b"to all", (group, port))
            assert await ours.received.get() == (b"to all", ("127.0.0.1", port))

    run(main())


def test_a_broadcast_is_sent_where_it_is_allowed(run: Run) -> None:
    async def main() -> None:
        for addr in ("255.255.255.255", 9), ("<broadcast>", 9), ("127.255.255.255", 9):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                try:
                    sock.sendto(b"x", addr)
                    known = None
                except OSError as failed:
                    known = failed.errno
            async with endpoint(local_addr=("0.0.0.0", 0), allow_broadcast=True) as ours:
                ours.transport.sendto(b"x", addr)
                assert (None if ours.errors.empty() else ours.errors.get_nowait().errno) == known
                assert not ours.transport.is_closing()

    run(main())


def test_thousands_of_datagrams_arrive_as_they_were(run: Run) -> None:
    class Sums(Datagrams):
        def __init__(self) -> None:
            super().__init__()
            self.count, self.sum = 0, hashlib.sha256()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.count += 1
            self.sum.update(data)

    async def main() -> None:
        expected, total = hashlib.sha256(), 0
        senders = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(3)]
        async with endpoint(Sums) as ours:
            here = ours.transport.get_extra_info("sockname")
            for _ in range(60):
                for number in range(50):
                    data = os.urandom(number * 31 % 1400)
                    expected.update(data)
                    senders[number % 3].sendto(data, here)
                total += 50
                await until(lambda: ours.count == total)  # noqa: B023
            assert ours.sum.digest() == expected.digest()
        for sender in senders:
            sender.close()

    run(main())
