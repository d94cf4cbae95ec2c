"""The sock_* calls are calls of the socket's methods: a subclass's, with any argument, when awaited."""

from __future__ import annotations

import gc
import inspect
import os
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from support.guard import descriptors
from support.loops import Loop, LoopFactory, Run
from support.net import cancelled, pending, receive_all, socket_pair

Pair = tuple[socket.socket, ...]


@pytest.fixture
def one() -> Iterator[Pair]:
    with socket_pair() as pair:
        yield pair


class Masked(socket.socket):
    """Every byte is another on the wire; sends ten at most, and tells what was called."""

    def __init__(self, sock: socket.socket) -> None:
        self.calls: list[str] = []
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.setblocking(False)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.calls.append("recv")
        return masked(super().recv(size, flags))

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        self.calls.append("recv_into")
        count = super().recv_into(buffer, size, flags)
        with memoryview(buffer) as view:
            view[:count] = masked(view[:count])
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls.append("send")
        return super().send(masked(bytes(data)[:10]), flags)

    def recvfrom(self, size: int, flags: int = 0) -> Any:
        self.calls.append("recvfrom")
        data, address = super().recvfrom(size, flags)
        return masked(data), address

    def sendto(self, data: Any, *rest: Any) -> int:
        self.calls.append("sendto")
        return super().sendto(masked(data), *rest)

    def accept(self) -> Any:
        self.calls.append("accept")
        return super().accept()

    def connect(self, address: Any) -> None:
        self.calls.append("connect")
        super().connect(address)


def masked(data: Any) -> bytes:
    return bytes(byte ^ 1 for byte in data)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("method", ["recv", "recv_into"])
def test_a_subclass_receives_by_its_own_method(
    loop: Loop, run: Run, one: Pair, method: str, waits: bool
) -> None:
    async def receive(ours: socket.socket) -> bytes:
        if method == "recv":
            return await loop.sock_recv(ours, 10)
        buffer = bytearray(10)
        return bytes(buffer[: await loop.sock_recv_into(ours, buffer)])

    async def main() -> None:
        with Masked(one[0]) as ours:
            if waits:
                task = await pending(receive(ours))
                one[1].send(masked(b"hello"))
                assert await task == b"hello"
            else:
                one[1].send(masked(b"hello"))
                assert await receive(ours) == b"hello"
            assert ours.calls == [method] * (1 + waits)

    run(main())


@pytest.mark.parametrize("data", [b"hello", b"a long message", bytearray(b"x" * 100), memoryview(b"y" * 55)])
def test_a_subclass_sends_all_by_its_own_method(loop: Loop, run: Run, one: Pair, data: Any) -> None:
    async def main() -> None:
        with Masked(one[0]) as ours:
            await loop.sock_sendall(ours, data)
            assert set(ours.calls) == {"send"}
            assert one[1].recv(1000) == masked(data)

    run(main())


def test_a_subclass_that_must_wait_sends_all(loop: Loop, run: Run, one: Pair) -> None:
    class Whole(Masked):
        def send(self, data: Any, flags: int = 0) -> int:
            return socket.socket.send(self, data, flags)

    sent = os.urandom(2**20)

    async def main() -> None:
        with Whole(one[0]) as ours:
            sending = await pending(loop.sock_sendall(ours, sent))
            assert await receive_all(loop, one[1], len(sent)) == sent
            await sending

    run(main())


def test_a_subclass_has_its_own_datagram_methods(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with socket_pair(socket.AF_INET, socket.SOCK_DGRAM) as (plain, theirs):
            address = theirs.getsockname()
            with Masked(plain) as ours:
                assert await loop.sock_sendto(ours, b"hello", address) == 5
                assert theirs.recv(10) == masked(b"hello")
                receiving = await pending(loop.sock_recvfrom(ours, 10))
                theirs.send(masked(b"hello"))
                assert await receiving == (b"hello", address)
                assert ours.calls == ["sendto", "recvfrom", "recvfrom"]

    run(main())


def test_a_subclass_connects_and_accepts_by_its_own_methods(loop: Loop, run: Run) -> None:
    async def main() -> None:
        with (
            Masked(socket.create_server(("127.0.0.1", 0))) as listener,
            Masked(socket.socket()) as client,
        ):
            accepting = await pending(loop.sock_accept(listener))
            await loop.sock_connect(client, listener.getsockname())
            connection, address = await accepting
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
            assert set(listener.calls) == {"accept"}
            assert client.calls == ["connect"]

    run(main())


def test_a_subclass_that_would_block_with_data_at_hand_is_asked_again(
    loop: Loop, run: Run, one: Pair
) -> None:
    """A protocol of frames, say, that needs more calls than the kernel has news."""

    class Stubborn(Masked):
        def recv(self, size: int, flags: int = 0) -> bytes:
            self.calls.append("recv")
            if len(self.calls) % 3:
                raise BlockingIOError
            return socket.socket.recv(self, size, flags)

    async def main() -> None:
        with Stubborn(one[0]) as ours:
            one[1].send(b"one two three")
            assert await loop.sock_recv(ours, 4) == b"one "
            assert await loop.sock_recv(ours, 4) == b"two "
            assert await loop.sock_recv(ours, 10) == b"three"

    run(main())


def test_a_method_that_was_put_into_the_class_is_called(
    loop: Loop, run: Run, one: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = []

    def recv(sock: socket.socket, *args: Any) -> bytes:
        called.append(args)
        return b"patched"

    async def main() -> None:
        one[1].send(b"data")
        assert await loop.sock_recv(one[0], 100) == b"patched"

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "recv", recv, raising=False)
        run(main())
    assert called == [(100,)]
    assert run(loop.sock_recv(one[0], 100)) == b"data"


def test_each_time_that_a_method_is_put_into_the_class_it_is_called(
    loop: Loop, run: Run, one: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        for size in range(1, 6):
            one[1].send(b"data")
            with monkeypatch.context() as patch:
                patch.setattr(socket.socket, "recv", lambda _sock, n: b"x" * n, raising=False)
                assert await loop.sock_recv(one[0], size) == b"x" * size
                patch.setattr(socket.socket, "recv", lambda _sock, n: b"y" * n, raising=False)
                assert await loop.sock_recv(one[0], size) == b"y" * size
            assert await loop.sock_recv(one[0], 4) == b"data"

    run(main())


def test_a_method_that_was_put_into_the_class_leaves_the_others(
    loop: Loop, run: Run, one: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "send", lambda _sock, data: len(data), raising=False)
            await loop.sock_sendall(one[0], b"gone")
            os.write(one[1].fileno(), b"data")
            assert await loop.sock_recv(one[0], 4) == b"data"
        await loop.sock_sendall(one[0], b"here")
        assert await loop.sock_recv(one[1], 100) == b"here"

    run(main())


def test_a_fileno_that_was_put_into_the_class_is_asked(
    loop: Loop, run: Run, one: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that waits is watched under the number that its class gives."""
    asked, native = [], socket.socket.fileno

    def fileno(sock: socket.socket) -> int:
        asked.append(sock)
        return native(sock)

    async def main() -> None:
        waiting = await pending(loop.sock_recv(one[0], 100))
        one[1].send(b"data")
        assert await waiting == b"data"

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "fileno", fileno, raising=False)
        run(main())
    assert one[0] in asked


# ---- buffers -----------------------------------------------------------------------------------------------


def test_a_buffer_is_the_callers_while_a_receive_waits(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        buffer = bytearray(4)
        receiving = await pending(loop.sock_recv_into(one[0], buffer))
        buffer += bytes(96)
        one[1].send(b"0123456789")
        assert await receiving == 10
        assert buffer[:10] == b"0123456789"

    run(main())


def test_a_buffer_is_the_callers_after_a_cancelled_call(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        buffer = bytearray(2**22)
        await cancelled(loop.sock_recv_into(one[0], buffer))
        buffer.append(1)
        await cancelled(loop.sock_sendall(one[0], buffer))
        buffer.clear()

    run(main())


def test_a_buffer_that_is_being_sent_cannot_be_resized(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        buffer = bytearray(2**22)
        sending = await pending(loop.sock_sendall(one[0], buffer))
        with pytest.raises(BufferError):
            buffer.clear()
        assert await receive_all(loop, one[1], len(buffer)) == buffer
        await sending
        buffer.clear()

    run(main())


# ---- coroutines ------------------------------------------------------------------------------------------


def test_a_call_is_a_coroutine_with_a_state(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        call = loop.sock_recv(one[0], 10)
        assert inspect.iscoroutine(call)
        states = [inspect.getcoroutinestate(call)]
        task = await pending(call)
        states.append(inspect.getcoroutinestate(call))
        one[1].send(b"x")
        assert await task == b"x"
        states.append(inspect.getcoroutinestate(call))
        assert states == [inspect.CORO_CREATED, inspect.CORO_SUSPENDED, inspect.CORO_CLOSED]

    run(main())


@pytest.mark.parametrize(
    "name",
    [
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendto",
        "sock_accept",
        "sock_connect",
        "sock_sendfile",
    ],
)
def test_a_method_is_a_coroutine_function(loop: Loop, name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(loop, name))


def test_a_task_that_is_a_call_shows_where_it_is(loop: Loop, run: Run, one: Pair) -> None:
    async def main() -> None:
        task = await pending(loop.sock_recv(one[0], 10))
        assert [frame.f_code.co_name for frame in task.get_stack()] == ["sock_recv"]
        assert "sock_recv() running at" in repr(task)
        one[1].send(b"x")
        assert await task == b"x"

    run(main())


# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("sock_recv", (-1,), ValueError),
        ("sock_recv", ("x",), TypeError),
        ("sock_recv", (1.5,), TypeError),
        ("sock_recv", (2**70,), OverflowError),
        ("sock_recv_into", (b"read-only",), (TypeError, BufferError)),
        ("sock_recv_into", (memoryview(bytearray(20))[::2],), (TypeError, BufferError)),
        ("sock_recvfrom", (-1,), ValueError),
        ("sock_recvfrom", ("x",), TypeError),
        ("sock_recvfrom_into", (5,), TypeError),
        ("sock_recvfrom_into", (bytearray(5), 9), ValueError),
        ("sock_sendall", ("text",), TypeError),
        ("sock_sendall", (memoryview(bytes(20))[::2],), BufferError),
        ("sock_sendto", ("text", ("127.0.0.1", 1)), TypeError),
    ],
)
def test_arguments_are_looked_at_when_the_call_is_awaited(
    loop: Loop, run: Run, one: Pair, method: str, arguments: Any, error: Any
) -> None:
    call = getattr(loop, method)(one[0], *arguments)

    async def main() -> None:
        with pytest.raises(error):
            await call

    run(main())


@pytest.mark.parametrize("method", ["sock_recv", "sock_recvfrom"])
def test_a_size_that_no_memory_has_is_a_memory_error(loop: Loop, run: Run, one: Pair, method: str) -> None:
    async def main() -> None:
        one[1].send(b"x")
        with pytest.raises(MemoryError):
            await getattr(loop, method)(one[0], 2**60)
        assert await loop.sock_recv(one[0], 2**20) == b"x"

    run(main())


def test_a_socket_that_blocks_does_not_block_the_loop(pyloop_loop: Loop, one: Pair) -> None:
    """asyncio waits in the system call, and only debug mode says so."""
    loop = pyloop_loop
    loop.set_debug(False)

    async def main() -> None:
        one[0].setblocking(True)
        receiving = await pending(loop.sock_recv(one[0], 10))
        one[1].send(b"x")
        assert await receiving == b"x"
        one[1].send(b"y")
        assert await loop.sock_recv_into(one[0], bytearray(5)) == 1
        sending = await pending(loop.sock_sendall(one[0], bytes(2**22)))
        await receive_all(loop, one[1], 2**22)
        await sending

    loop.run_until_complete(main())


# ---- a loop that nobody has any more -----------------------------------------------------------------------

Wait = Callable[[Loop, socket.socket], Coroutine[Any, Any, Any]]
WAITS: dict[str, Wait] = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, bytes(2**22)),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", WAITS)
def test_an_abandoned_loop_with_a_call_that_waits_is_collected(
    loop_factory: LoopFactory, handled: list[Any], unraisable: list[str], one: Pair, name: str
) -> None:
    before = descriptors()

    def abandon() -> weakref.ref[Loop]:
        loop = loop_factory()
        loop.run_until_complete(pending(WAITS[name](loop, one[0])))
        return weakref.ref(loop)

    reference = abandon()
    handled.clear()  # the destroyed task's context has the task, which has the loop
    gc.collect()
    handled.clear()
    gc.collect()
    assert reference() is None
    assert descriptors().keys() == before.keys()
