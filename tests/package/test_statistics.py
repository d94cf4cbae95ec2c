"""`loop.statistics()`: each number is what docs/watching.md says it is. Half a second in all."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from support.loops import turn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "watching.md"


def told(loop: Any) -> dict[str, Any]:
    return dict(loop.statistics())


def more(loop: Any, before: dict[str, Any], key: str) -> Any:
    return loop.statistics()[key] - before[key]


def hold_the_gil(seconds: float) -> None:
    """Without giving it up: one call of C, at a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(10_000))


def test_the_page_and_the_stub_have_each_key(pyloop_loop: Any) -> None:
    keys = set(pyloop_loop.statistics())
    text = PAGE.read_text().split("## OpenTelemetry")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == keys
    stub = (PAGE.parents[1] / "python" / "pyloop" / "_native.pyi").read_text()
    body = stub.split("class _Statistics(TypedDict):")[1].split("\n\n")[0]
    assert set(re.findall(r"^    (\w+):", body, re.MULTILINE)) == keys


def test_a_new_loop_has_done_nothing(pyloop_loop: Any) -> None:
    found = told(pyloop_loop)
    now = {"descriptors", "pooled", "accelerations_on", "accelerations_off"}
    assert {key: value for key, value in found.items() if value and key not in now} == {}
    assert found["slowest_callback"] is None


@pytest.mark.acceleration("direct_calls")
def test_callbacks_steps_and_turns_are_counted(pyloop_loop: Any) -> None:
    loop = pyloop_loop
    before = told(loop)

    async def main() -> None:
        for _ in range(5):
            loop.call_soon(int)
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert more(loop, before, "steps") == 6
    # Five, and the one that stops the run.
    assert more(loop, before, "callbacks") == 6
    assert more(loop, before, "turns") == 7


def test_a_callback_that_looks_is_counted_itself(pyloop_loop: Any) -> None:
    seen: list[int] = []
    for _ in range(3):
        pyloop_loop.call_soon(lambda: seen.append(pyloop_loop.statistics()["callbacks"]))
    turn(pyloop_loop)
    assert seen == [1, 2, 3]


def test_polls_of_rust_futures_are_counted(pyloop_loop: Any) -> None:
    import pyloop

    before = told(pyloop_loop)
    pyloop_loop.run_until_complete(_await(pyloop.sleep(0.001)))
    assert more(pyloop_loop, before, "polls") == 2


async def _await(awaitable: Any) -> None:
    await awaitable


def test_the_time_of_a_run_has_three_parts(pyloop_loop: Any) -> None:
    loop = pyloop_loop

    async def main() -> None:
        await asyncio.sleep(0.1)
        hold_the_gil(0.02)

    began = time.monotonic()
    loop.run_until_complete(main())
    took = time.monotonic() - began
    found = told(loop)
    parts = found["seconds_busy"] + found["seconds_parked"] + found["seconds_waiting_for_gil"]
    assert parts == pytest.approx(found["seconds_running"])
    assert found["seconds_running"] <= took
    assert 0.02 <= found["seconds_busy"] <= took
    assert found["longest_busy"] >= 0.02
    assert found["seconds_parked"] >= 0.095
    # Nothing runs: nothing grows.
    assert loop.statistics()["seconds_running"] == found["seconds_running"]


def test_a_loop_that_wakes_while_a_thread_holds_the_gil_says_how_long_it_waited(pyloop_loop: Any) -> None:
    loop, over = pyloop_loop, threading.Event()

    def compete() -> None:
        while not over.is_set():
            sum(range(10_000))

    thread = threading.Thread(target=compete)
    thread.start()
    try:
        # It may wake just as the thread gives the GIL away.
        for _ in range(50):
            loop.run_until_complete(asyncio.sleep(0.002))
            if loop.statistics()["longest_wait_for_gil"] >= 0.001:
                break
    finally:
        over.set()
        thread.join()
    found = told(loop)
    # Each switch takes the 5 ms of `sys.getswitchinterval`.
    assert found["longest_wait_for_gil"] >= 0.001
    assert found["seconds_waiting_for_gil"] >= found["longest_wait_for_gil"]


def test_another_thread_sees_a_loop_that_sleeps(pyloop_loop: Any) -> None:
    loop, seen = pyloop_loop, list[dict[str, Any]]()

    def look() -> None:
        while not seen or seen[-1]["seconds_parked"] - seen[0]["seconds_parked"] < 0.01:
            seen.append(told(loop))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=look)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen[-1]["seconds_busy"] <= loop.statistics()["seconds_busy"]
    assert loop.statistics()["wakes_by_threads"] == 1


def test_each_wake_has_its_source(pyloop_loop: Any) -> None:
    import pyloop

    loop = pyloop_loop
    here, there = socket.socketpair()

    async def wakes(source: str, what: Callable[[], Awaitable[object]]) -> None:
        # On a busy machine the event may come before the loop is asleep.
        before = told(loop)
        while not more(loop, before, f"wakes_by_{source}"):
            await what()

    def when_asleep(act: Callable[..., object], *args: object) -> None:
        parked = told(loop)["seconds_parked"]
        while told(loop)["seconds_parked"] - parked < 0.001:
            time.sleep(0)
        act(*args)

    async def by_another_thread(act: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=when_asleep, args=(act, *args))
        thread.start()
        await done[-1]
        thread.join()

    async def main() -> None:
        await wakes("timers", lambda: asyncio.sleep(0.002))
        await wakes("tokio", lambda: pyloop.sleep(0.002))
        done.append(loop.create_future())
        await by_another_thread(loop.call_soon_threadsafe, done[-1].set_result, None)
        assert loop.statistics()["wakes_by_threads"] >= 1
        done.append(loop.create_future())
        loop.add_reader(here, receive)
        before = told(loop)
        await by_another_thread(there.send, b"x")
        assert more(loop, before, "wakes_by_descriptors") == 1
        assert more(loop, before, "wakes_by_threads") == 0

    done: list[asyncio.Future[None]] = []

    def receive() -> None:
        here.recv(1)
        done[-1].set_result(None)

    with here, there:
        loop.run_until_complete(main())
        loop.remove_reader(here)


def test_bytes_of_connections_and_datagrams_are_counted_where_they_pass(pyloop_loop: Any) -> None:
    loop = pyloop_loop
    arrived: list[bytes] = []

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            arrived.append(data)

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(100_000))
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        before = told(loop)
        writer.write(b"x" * 100_000)
        assert len(await reader.read(-1)) == 100_000
        assert more(loop, before, "bytes_sent") == more(loop, before, "bytes_received") == 200_000
        assert loop.statistics()["transports"] == 2
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        receiver, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
        address = receiver.get_extra_info("sockname")
        sender, _ = await loop.create_datagram_endpoint(Datagrams, remote_addr=address)
        before = told(loop)
        sender.sendto(b"four")
        sender.sendto(b"six...")
        while len(arrived) < 2:
            await asyncio.sleep(0)
        assert more(loop, before, "bytes_sent") == more(loop, before, "bytes_received") == 10
        receiver.close()
        sender.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert loop.statistics()["transports"] == 0


@pytest.mark.acceleration("direct_calls")
def test_debug_mode_has_the_slowest_callback_by_its_name(pyloop_loop: Any) -> None:
    loop = pyloop_loop
    loop.set_debug(True)
    loop.slow_callback_duration = 10.0

    async def slow(seconds: float) -> None:
        hold_the_gil(seconds)

    loop.call_soon(hold_the_gil, 0.001)
    name, seconds, held = "", 0.0, 0.0
    # A machine that others use may have held the first one up for longer.
    for held in (0.005, 0.05, 0.5):
        loop.run_until_complete(slow(held))
        name, seconds = loop.statistics()["slowest_callback"] or ("", 0.0)
        if name == slow.__qualname__:
            break
    assert name == slow.__qualname__ and seconds >= held


def test_what_waits_is_what_there_is_now(pyloop_loop: Any) -> None:
    loop = pyloop_loop

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        timer = loop.call_later(3600, int)
        loop.call_soon(int)
        found = told(loop)
        assert (found["ready"], found["timers"], found["tasks"]) == (1, 2, 2)
        task.cancel()
        timer.cancel()
        await asyncio.wait([task])

    loop.run_until_complete(main())
    assert loop.statistics()["tasks"] == 0


def test_the_type_of_each_number_is_that_of_the_stub(pyloop_loop: Any) -> None:
    stub = (PAGE.parents[1] / "python" / "pyloop" / "_native.pyi").read_text()
    body = stub.split("class _Statistics(TypedDict):")[1].split("\n\n")[0]
    hints = dict(re.findall(r"^    (\w+): (\w+)", body, re.MULTILINE))
    found = told(pyloop_loop)
    del hints["slowest_callback"], found["slowest_callback"]
    assert {key: type(value).__name__ for key, value in found.items()} == hints
    assert get_type_hints(type(pyloop_loop)) is not None
