"""What a stream transport promises about flow control: when its protocol is to pause and may go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support.loops import Loop, Run
from support.net import receive_all
from support.protocols import Recorder
from support.transports import MEGABYTES, everything, fill, transport_and_peer, until


def test_the_protocol_is_told_when_to_pause_and_to_resume(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            loop = asyncio.get_running_loop()
            fill(transport)
            assert protocol.events == ["made", "pause"]
            fill(transport)
            assert protocol.events == ["made", "pause"]
            await receive_all(loop, peer, 2 * len(MEGABYTES))
            await until(lambda: not transport.get_write_buffer_size())
            assert protocol.events == ["made", "pause", "resume"]
            fill(transport)
            await receive_all(loop, peer, len(MEGABYTES))
            await until(lambda: not transport.get_write_buffer_size())
            assert protocol.events == ["made", "pause", "resume", "pause", "resume"]

    run(main())


def test_the_high_mark_is_the_most_that_may_wait(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            transport.set_write_buffer_limits(high=2**40)
            fill(transport)
            size = transport.get_write_buffer_size()
            transport.set_write_buffer_limits(high=size)
            assert protocol.events == ["made"]
            transport.write(b"x")
            assert protocol.events == ["made", "pause"]

    run(main())


def test_lower_limits_pause_at_once_and_higher_ones_do_not_resume(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            transport.set_write_buffer_limits(high=2**40)
            fill(transport)
            transport.set_write_buffer_limits(high=10)
            assert protocol.events == ["made", "pause"]
            transport.set_write_buffer_limits(high=2**40)
            assert protocol.events == ["made", "pause"]

    run(main())


def test_no_limit_but_zero_pauses_whenever_something_waits(run: Run) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            transport.set_write_buffer_limits(0)
            transport.write(b"taken at once")
            assert protocol.events == ["made"]
            fill(transport)
            assert protocol.events == ["made", "pause"]
            sizes: list[int] = []
            protocol.resume_writing = lambda: sizes.append(transport.get_write_buffer_size())
            await receive_all(asyncio.get_running_loop(), peer, 13 + len(MEGABYTES))
            await until(lambda: sizes)
            assert sizes == [0]

    run(main())


@pytest.mark.parametrize(
    ("high", "low"), [(1, 2), (-1, None), (None, -1), (5, -1), (0, 1), (-4, -2)], ids=lambda limit: f"{limit}"
)
def test_limits_the_wrong_way_round_are_refused(run: Run, high: Any, low: Any) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, _):
            transport.set_write_buffer_limits(100, 50)
            with pytest.raises(ValueError) as caught:
                transport.set_write_buffer_limits(high, low)
            high_shown = low * 4 if high is None else high
            low_shown = high // 4 if low is None else low
            assert str(caught.value) == f"high ({high_shown}) must be >= low ({low_shown}) must be >= 0"
            assert transport.get_write_buffer_limits() == (50, 100)

    run(main())


@pytest.mark.parametrize(("high", "low"), [("1", None), (None, "1"), (1, b"1"), ([], 1)], ids=repr)
def test_limits_that_are_no_numbers_are_refused(run: Run, high: Any, low: Any) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, _, _):
            with pytest.raises(TypeError):
                transport.set_write_buffer_limits(high, low)
            assert transport.get_write_buffer_limits() == (16384, 65536)

    run(main())


@pytest.mark.parametrize(
    ("high", "low"),
    [(2**70, 0), (2**70, None), (float("inf"), 0), (1000.0, 10)],
    ids=lambda limit: f"{limit}",
)
def test_limits_may_be_any_numbers(run: Run, high: Any, low: Any) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, _):
            transport.set_write_buffer_limits(high, low)
            transport.write(b"x" * 500)
            assert protocol.events == ["made"]

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_that_raises_is_reported_and_the_connection_goes_on(
    run: Run, handled: list[dict[str, Any]], method: str
) -> None:
    async def main() -> None:
        async with transport_and_peer() as (transport, protocol, peer):
            error = LookupError("in the protocol")

            def fail() -> None:
                raise error

            setattr(protocol, method, fail)
            fill(transport)
            transport.write(b"after")
            transport.write_eof()
            assert await everything(peer) == MEGABYTES + b"after"
            assert handled == [
                {
                    "message": f"protocol.{method}() failed",
                    "exception": error,
                    "transport": transport,
                    "protocol": protocol,
                }
            ]
            assert not transport.is_closing()

    run(main())


def test_a_protocol_may_write_when_it_may_go_on(run: Run) -> None:
    class Writer(Recorder):
        left = 3

        def resume_writing(self) -> None:
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.write(MEGABYTES)

    async def main() -> None:
        async with transport_and_peer(Writer) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(MEGABYTES)
            assert await receive_all(asyncio.get_running_loop(), peer, 4 * len(MEGABYTES)) == MEGABYTES * 4
            await until(lambda: protocol.events.count("resume") == 4)
            assert protocol.events == ["made"] + ["pause", "resume"] * 4

    run(main())


@pytest.mark.parametrize("end", ["close", "abort", "write_eof"])
def test_a_protocol_may_end_its_connection_when_it_is_to_pause(run: Run, end: str) -> None:
    class Ends(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            getattr(self.transport, end)()

    async def main() -> None:
        async with transport_and_peer(Ends) as (transport, protocol, peer):
            transport.write(MEGABYTES)
            got = await everything(peer)
            assert got == MEGABYTES if end != "abort" else len(got) < len(MEGABYTES)
            if end != "write_eof":
                await protocol.lost
                assert protocol.error is None
            if end == "abort":
                assert protocol.events == ["made", "pause", "lost"]

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_protocol_may_end_its_connection_when_it_may_go_on(pyloop_loop: Loop, end: str) -> None:
    class Ends(Recorder):
        def resume_writing(self) -> None:
            super().resume_writing()
            getattr(self.transport, end)()

    async def main() -> None:
        async with transport_and_peer(Ends) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(MEGABYTES)
            assert await everything(peer) == MEGABYTES
            await protocol.lost
            assert protocol.events == ["made", "pause", "resume", "lost"]

    pyloop_loop.run_until_complete(main())
